#!/usr/bin/env bash
# yoke config prints what would run: it reads back to itself, and a refusal is one line.
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

for config in "$YOKE_SOURCE"/configs/*.yaml; do
    "$YOKE" config "$config" >once.yaml 2>warning
    "$YOKE" config once.yaml >twice.yaml 2>/dev/null
    diff once.yaml twice.yaml || fail "$config: the print does not read back to itself"
    grep -q 'does not exist' warning || fail "$config: no word about its missing data"
done

config=$YOKE_SOURCE/configs/tiny-gpt2.yaml
"$YOKE" config "$config" --set optim.lr=0.25 --set 'data.train=[a, b]' >set.yaml 2>/dev/null
grep -qx '  lr: 0.25' set.yaml || fail "--set optim.lr had no effect"
grep -qx '    - {path: "b", weight: 1.0}' set.yaml || fail "--set data.train had no effect"
"$YOKE" config --set log.interval=7 "$config" 2>/dev/null | grep -qx '  interval: 7' ||
    fail "--set in front of the file had no effect"

refused() {
    local code=$1 words=$2 got=0
    shift 2
    "$YOKE" config "$@" >out 2>err || got=$?
    [ "$got" = "$code" ] || fail "exit code $got, want $code: yoke config $*"
    [ ! -s out ] || fail "a refused configuration was printed: yoke config $*"
    [ "$(wc -l <err)" = 1 ] || fail "more than one line: $(cat err)"
    grep -qF -- "$words" err || fail "want \"$words\", got: $(cat err)"
}
printf 'model:\n  hiden: 3\n' >bad.yaml
refused 3 'bad.yaml:2: model.hiden: unknown key; did you mean model.hidden?' bad.yaml
refused 3 '--set optim.lr=fast: optim.lr: "fast" is not a number' "$config" --set optim.lr=fast
refused 2 'KEY=VALUE' "$config" --set optim.lr
refused 2 'give one CONFIG' "$config" "$config"
refused 2 'give one CONFIG' --reference "$config"
refused 2 'unknown or incomplete option' --wrong
refused 6 'is not a regular file' .
"$YOKE" config --help | grep -q -- --reference || fail "--help does not help"

if "$YOKE" config --reference >/dev/full 2>err; then fail "a full disk went unnoticed"; fi
grep -q 'standard output' err || fail "a full disk is not named: $(cat err)"
