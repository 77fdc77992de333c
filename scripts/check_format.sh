#!/usr/bin/env bash
# Every C file must be as clang-format leaves it (.clang-format); `--fix` rewrites those that
# are not.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=(--dry-run -Werror)
[[ ${1-} == --fix ]] && mode=(-i)
find src parallel optim tests \( -name '*.c' -o -name '*.h' \) -print0 |
    xargs -0 clang-format "${mode[@]}"
echo "format: ok"
