#!/usr/bin/env bash
# Write the generated pages of docs/ from the program that they describe.
#   scripts/make_docs.sh [--yoke BINARY] [--out FOLDER]
# defaults: build/yoke, docs.  tests/cli/docs_are_current.sh fails when a page is stale.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
yoke=${YOKE:-$root/build/yoke}
out=$root/docs
while [ $# -gt 0 ]; do
    case $1 in
    --yoke) yoke=${2:?--yoke needs a value} && shift 2 ;;
    --out) out=${2:?--out needs a value} && shift 2 ;;
    *) echo "usage: $0 [--yoke BINARY] [--out FOLDER]" >&2 && exit 2 ;;
    esac
done
[ -x "$yoke" ] || { echo "$0: $yoke is not there; build it first" >&2 && exit 1; }

mkdir -p "$out"
"$yoke" config --reference >"$out/configuration.md.new"
mv "$out/configuration.md.new" "$out/configuration.md"
