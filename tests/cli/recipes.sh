#!/usr/bin/env bash
# Every published recipe runs, made small; and yoke inspect prints what it amounts to.
# @timeout 400
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

smoke=$YOKE_SOURCE/scripts/recipes/smoke.sh
rm -rf smoke && mkdir smoke
"$smoke" --out "$PWD/smoke" >out 2>&1 || fail "$(cat out)"
recipes=$(grep -l '^# Published for' "$YOKE_SOURCE"/configs/*.yaml | wc -l)
[ "$(tail -n 1 out)" = "recipes: $recipes of $recipes ran" ] || fail "$(cat out)"
"$smoke" --ranks 2 --dial 64 --out "$PWD/smoke" pythia-70m >out 2>&1 || fail "$(cat out)"
[ "$(tail -n 1 out)" = "recipes: 1 of 1 ran" ] || fail "$(cat out)"
grep -q 'on rank 0 of 2' smoke/pythia-70m/log || fail "not on two ranks: $(cat smoke/pythia-70m/log)"

# each says where it comes from and what it is made for
for config in $(grep -l '^# Published for' "$YOKE_SOURCE"/configs/*.yaml); do
    for words in 'Source of the numbers: ' '8 GPUs: ' 'Unknown: ' 'Not the same: '; do
        grep -q "^# $words" "$config" || fail "$config: does not say \"$words\""
    done
    grep -q "\`$(basename "$config" .yaml)\`" "$YOKE_SOURCE/docs/recipes.md" || fail "$config: not in docs/recipes.md"
done

# a recipe that cannot run is no success
rm -rf smoke/gpt2-124m && mkdir -p smoke/gpt2-124m/run/metrics.jsonl
YOKE=/bin/false "$smoke" --out "$PWD/smoke" gpt2-124m >out 2>&1 && fail "a recipe that fails counts: $(cat out)"
[ "$(tail -n 1 out)" = "recipes: 0 of 1 ran" ] || fail "$(cat out)"
code=0
"$smoke" --dial 0 >out 2>&1 || code=$?
[ "$code" = 2 ] && grep -q 'whole number above 0' out || fail "--dial 0: exit code $code, $(cat out)"

# the printed learning rates of each recipe are the published ones, to the digits that are printed (and, where
# a length in tokens was rounded to steps, as close as the fixture says, of a peak of up to 1e-3)
fixture=$YOKE_SOURCE/tests/fixtures/recipes.txt
while read -r name; do
    awk -v name="$name" '$1 == "recipe" {in_it = $2 == name}
        in_it && $1 == "parameters" {print "parameters", $2, 0}
        in_it && $1 == "close" {close_ = $2}
        in_it && $1 == "lr" {print $2, $3, close_}' "$fixture" >want
    steps=$(awk '$1 != "parameters" {print $1}' want | sort -n -u | paste -s -d ,)
    "$YOKE" inspect "$YOKE_SOURCE/configs/$name.yaml" --steps "$steps" >out || fail "$name"
    awk 'FILENAME == "out" && $1 == "step" {got[$2] = $3}
        FILENAME == "out" && $1 == "parameters" {got[$1] = $2}
        FILENAME == "want" {
            d = got[$1] - $2
            if (!($1 in got) || (d < 0 ? -d : d) > 1e-7 * $2 + 1e-3 * $3 || ($1 == "parameters" && d != 0)) {
                print $1, got[$1], $2
                bad = 1
            }
            n++
        }
        END {exit bad || n < 11}' out want || fail "$name: not what was published"
done < <(awk '$1 == "recipe" {print $2}' "$fixture" | sort -u)
"$YOKE" inspect "$YOKE_SOURCE/configs/gpt2-124m.yaml" --steps 1,x >out 2>&1 && fail "--steps x"
grep -q -- '--steps' out || fail "$(cat out)"
"$YOKE" inspect "$YOKE_SOURCE/configs/gpt2-124m.yaml" >out
[ "$(grep -c '^  step ' out)" = 10 ] || fail "not ten steps: $(cat out)"
