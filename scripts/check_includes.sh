#!/usr/bin/env bash
# The rules of docs/architecture.md that a compiler does not check:
#   - a module includes only itself and modules below it
#   - NAME_impl.h is included only inside its folder (and by that folder's tests)
#   - only core/log prints to stderr; the environment is read in the places named below
#   - exit() and assert.h are for tests and main only
set -euo pipefail
cd "$(dirname "$0")/.."

# bottom to top; the folder of each module
order=(src/core src/device parallel/mesh parallel/comm src/nn parallel/tp parallel/cp src/model
    parallel/dp parallel/pp parallel/zero optim src/data src/checkpoint src/config src/train
    src/cli)

sources=(--include='*.[ch]' --include='*.cu' --include='*.cuh')

failed=0
report() {
    echo "$1" >&2
    failed=1
}

declare -A level
for i in "${!order[@]}"; do level[${order[$i]}]=$i; done

# "nn/nn.h" and "optim/optim.h" -> the folder that holds them
folder_of() {
    local folder=${1%/*}
    [[ -n ${level[src/$folder]-} ]] && folder=src/$folder
    echo "$folder"
}

while IFS=: read -r file line include; do
    from=${file%/*}
    to=$(folder_of "$include")
    if [[ -z ${level[$to]-} ]]; then
        report "$file:$line: includes \"$include\", which is in no module"
        continue
    fi
    [[ $file == src/main.c ]] && continue
    if [[ -z ${level[$from]-} ]]; then
        report "$file:$line: $from is in no module; name it in scripts/check_includes.sh"
    elif [[ ${level[$to]} -gt ${level[$from]} ]]; then
        report "$file:$line: $from must not include \"$include\": $to lies above it"
    elif [[ $include == *_impl.h && $to != "$from" ]]; then
        report "$file:$line: \"$include\" is private to $to"
    fi
done < <(grep -rnoE "${sources[@]}" '^ *# *include +"[^"]+"' src parallel optim |
    sed -E 's/# *include +"([^"]+)"/\1/; s/: +/:/')

while IFS=: read -r file line include; do
    # tests/nn/test_x.c may look inside nn, tests/parallel/test_comm.c inside parallel/comm
    tested=${file#tests/}
    tested=${tested%/*}
    folder=${include%/*}
    [[ $folder == "$tested" || ${folder%/*} == "$tested" || $tested == harness || $tested == fuzz ]] ||
        report "$file:$line: \"$include\" is private to $folder"
done < <(grep -rnoE "${sources[@]}" '^ *# *include +"[^"]+_impl.h"' tests |
    sed -E 's/# *include +"([^"]+)"/\1/; s/: +/:/')

# forbid PATTERN SENTENCE FILE...: the files are those where it is allowed
forbid() {
    local pattern=$1 sentence=$2 hits
    shift 2
    hits=$(grep -rnE "${sources[@]}" "$pattern" src parallel optim || true)
    for allowed in "$@"; do hits=$(grep -v "^$allowed" <<<"$hits" || true); done
    [[ -z $hits ]] || report "$hits"$'\n'"  ^ $sentence"
}
# (src/device lies below src/config, and the search for libraries and the CUDA runtime's own
# variables are its business)
forbid '\b(secure_)?getenv *\(' 'the environment is read in src/config (docs/architecture.md)' \
    src/config/ src/device/
forbid '(^|[^_[:alnum:]])exit *\(' 'return a status, or die()' src/main.c:
forbid '# *include *<assert.h>' 'use CHECK or DCHECK of core/log.h'
forbid '[(,] *stderr\b|\bperror *\(' 'print through core/log' src/core/log.c: src/main.c:

[[ $failed -eq 0 ]] || exit 1
echo "includes: ok"
