#!/usr/bin/env bash
# Every C and CUDA file must be as clang-format leaves it (.clang-format); `--fix` rewrites those
# that are not.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=(--dry-run -Werror)
[[ ${1-} == --fix ]] && mode=(-i)
find src parallel optim tests scripts -regex '.*\.\(c\|h\|cu\|cuh\|cpp\)' -print0 |
    xargs -0 clang-format "${mode[@]}"
echo "format: ok"
