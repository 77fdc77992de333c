#!/usr/bin/env bash
# Configure and build: build/yoke and, where a CUDA toolkit is, build/libyoke_cuda.so; with
# --sanitize everything in build-asan/.  --tests builds the tests too.  Running it again builds only
# what changed.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build
options=()
target=(--target yoke)
for argument in "$@"; do
    case $argument in
        --sanitize)
            folder=build-asan
            options+=(-DYOKE_SANITIZE=ON -DYOKE_TESTS=ON)
            target=()
            ;;
        --tests)
            options+=(-DYOKE_TESTS=ON)
            target=()
            ;;
        -h | --help)
            echo "usage: scripts/build.sh [--tests] [--sanitize]"
            exit 0
            ;;
        *)
            echo "build: unknown option $argument" \
                "(usage: scripts/build.sh [--tests] [--sanitize])" >&2
            exit 2
            ;;
    esac
done

# a folder that was configured before keeps its generator, and its tests
if [[ ! -f $folder/CMakeCache.txt ]]; then
    command -v ninja >/dev/null && options+=(-G Ninja)
    [[ ${#target[@]} -gt 0 ]] && options+=(-DYOKE_TESTS=OFF)
fi

# a cache of compilers would hide what a build really needs
export CCACHE_DISABLE=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake -S . -B "$folder" "${options[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
# what cmake said of CUDA matters: without it the same program is built, for the CPU alone
sed -n 's/^-- CUDA plug-in/build: CUDA plug-in/p' "$log"
if [[ ${#target[@]} -gt 0 ]] && grep -q '^YOKE_CUDA_BUILT:INTERNAL=ON' "$folder/CMakeCache.txt"; then
    target+=(yoke_cuda)
fi
cmake --build "$folder" --parallel "$(nproc)" "${target[@]}"
