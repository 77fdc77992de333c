#!/usr/bin/env bash
# docs/exit-codes.md has exactly the rows of STATUS_TABLE in src/core/status.h.
set -euo pipefail

# X(STATUS_IO, 6, "input or output failed") -> 6|STATUS_IO|input or output failed
sed -nE 's/^ *X\((STATUS_[A-Z]+), ([0-9]+), *"([^"]*)"\).*$/\2|\1|\3/p' \
    "$YOKE_SOURCE/src/core/status.h" >in_code
# | 6 | `STATUS_IO` | input or output failed | ... |
sed -nE 's/^\| ([0-9]+) \| `(STATUS_[A-Z]+)` \| ([^|]*) \|.*$/\1|\2|\3/p' \
    "$YOKE_SOURCE/docs/exit-codes.md" >in_docs

[ "$(wc -l <in_code)" -ge 10 ] || { echo "the table in status.h was not found" >&2; exit 1; }
diff -u in_code in_docs || { echo "docs/exit-codes.md differs from status.h" >&2; exit 1; }

# and the program keeps to it
expect() {
    local want=$1 got=0
    shift
    "$@" >out 2>err || got=$?
    if [ "$got" != "$want" ]; then
        echo "exit code $got, want $want: $*" >&2
        cat err >&2
        exit 1
    fi
}
expect 0 "$YOKE" --help
expect 2 "$YOKE" no-such-command
expect 2 "$YOKE" config
echo 'model: 3' >bad.yaml
expect 3 "$YOKE" config bad.yaml
expect 6 "$YOKE" config no-such-file.yaml
