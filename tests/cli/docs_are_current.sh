#!/usr/bin/env bash
# The generated pages in docs/ are what the program writes today.
set -euo pipefail

rm -rf made
"$YOKE_SOURCE/scripts/make_docs.sh" --yoke "$YOKE" --out made
if ! diff -u "$YOKE_SOURCE/docs/configuration.md" made/configuration.md; then
    echo "docs/configuration.md is stale: run scripts/make_docs.sh and commit it" >&2
    exit 1
fi
