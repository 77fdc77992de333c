#!/usr/bin/env bash
# The quickstart script, on a short leash: it trains, stops, resumes, beats the unigram entropy of
# its text, and does not train again when it is run again.   @timeout 900
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

rm -rf out
quickstart() { "$YOKE_SOURCE/scripts/quickstart.sh" --minutes 0.2 --out out >"$1" 2>&1; }
quickstart first || { cat first >&2 && fail "the quickstart failed"; }
last=$(tail -n 1 first)
[[ $last =~ ^'quickstart: ok, validation loss '[0-9.]+' (unigram '[0-9.]+'), resumed at step '[0-9]+$ ]] ||
    fail "last line: $last"
for file in tokenizer.json train.h5 validation.h5 run/loss.svg run/metrics.jsonl run/config.yaml; do
    [[ -s out/$file ]] || fail "out/$file is missing"
done

# steps are in order and none is missing, although the run was stopped in between
resumed=${last##* }
steps=$(sed -n 's/^== training: \([0-9]*\) steps.*/\1/p' first)
[[ $resumed -gt 0 && $resumed -lt $steps ]] || fail "resumed at $resumed of $steps"
sed -n 's/.*"kind":"train","step":\([0-9]*\),.*/\1/p' out/run/metrics.jsonl >have
[[ $(tail -n 1 have) -eq $steps ]] || fail "metrics end at step $(tail -n 1 have) of $steps"
sort -nu have | diff - have || fail "metrics are not in order of steps"

cp out/run/metrics.jsonl before
quickstart second || { cat second >&2 && fail "the second run failed"; }
[[ $(tail -n 1 second) == "$last" ]] || fail "the second run ends: $(tail -n 1 second)"
diff before out/run/metrics.jsonl || fail "the second run trained again"

# cut off after half way, before it has saved to the end: it goes on
rm -r out/run/step-*"$(printf '%08d' "$steps")" out/resumed_at
quickstart third || { cat third >&2 && fail "going on after a cut failed"; }
[[ $(tail -n 1 third) == "${last% *} "* ]] || fail "the third run ends: $(tail -n 1 third)"

# another text does not overwrite what is there
echo "another text" >another.txt
cp out/run/metrics.jsonl before
if "$YOKE_SOURCE/scripts/quickstart.sh" --text another.txt --out out >fourth 2>&1; then
    fail "another text in the same folder was accepted"
fi
grep -q 'another --text' fourth || fail "the refusal does not say why: $(<fourth)"
diff before out/run/metrics.jsonl
