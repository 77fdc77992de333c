#!/usr/bin/env bash
# yoke --version names the commit it was built from, and what writes that down for a build knows a clean
# tree, a changed one and one without git.
set -euo pipefail
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
fail() {
    echo "$1" >&2
    exit 1
}
"$YOKE" --version | grep -qE '^yoke [0-9.]+( \([0-9a-f]+(-dirty)?\))?$' || fail "$("$YOKE" --version)"

written() { # what a build of ./tree would hold
    cmake -D SOURCE="$PWD/tree" -D TO="$PWD/commit.c" -P "$YOKE_SOURCE/cmake/commit.cmake"
    sed -n 's/^const char core_commit\[\] = "\(.*\)";$/\1/p' commit.c
}
mkdir tree
[ "$(written)" = "" ] || fail "without git: $(written)"
git -C tree init -q
echo 1 >tree/file
git -C tree add file
git -C tree -c user.name=a -c user.email=a@b commit -qm one
want=$(git -C tree rev-parse --short HEAD)
[ "$(written)" = "$want" ] || fail "a clean tree: $(written), not $want"
touch -d @1 commit.c
written >/dev/null
[ "$(stat -c %Y commit.c)" = 1 ] || fail "what has not changed is written again"
echo 2 >tree/file
[ "$(written)" = "$want-dirty" ] || fail "a changed tree: $(written), not $want-dirty"
rm -rf tree/.git
git init -q
git add tree
git -c user.name=a -c user.email=a@b commit -qm outer
[ "$(written)" = "" ] || fail "a folder in somebody else's repository: $(written)"
