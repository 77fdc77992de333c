#!/usr/bin/env bash
# A run of stages, as commands show it: plan, config, inspect; and a checkpoint is of its own stage, for eval and
# export too.   @timeout 120
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs
cd world

said() { grep -qxE -- "$1" ../said/out || { cat ../said/out; fail "no line \"$1\""; }; }
must() { "$@" >../said/out 2>../said/err || fail "$* failed"; }

sed -e 's/ffn: 32/ffn: 32, vocab_size: 300/' -e 's/steps: 2/eval_interval: 0/' good.yaml >stages.yaml
cat >>stages.yaml <<'YAML'
stages:
  - {name: short, steps: 3}
  - name: long
    steps: 2
    model: {rope_theta: 2.0e+6}
    data: {sequence_length: 32}
    train: {batch_sequences: 2}
    schedule: {kind: linear}
    parallel: {tp: 2}
YAML

# ---- before the run -----------------------------------------------------------------------------------
must "$YOKE" config stages.yaml
cp ../said/out once.yaml
must "$YOKE" config once.yaml
cmp ../said/out once.yaml || fail "the print does not read back to itself"
must "$YOKE" plan stages.yaml
said 'stage short: steps 0 to 2 of 5, 4 sequences of 16 tokens, .*'
said 'stage long: steps 3 to 4 of 5, 2 sequences of 32 tokens, .*, data from its beginning'
said 'ranks: 2 = dp 2 x cp 1 x tp 1 x pp 1'
said 'ranks: 2 = dp 1 x cp 1 x tp 2 x pp 1'
must "$YOKE" plan stages.yaml --stage long --svg plan.svg
[ "$(grep -c '^stage' ../said/out)" = 1 ] || fail "more than the stage that was asked for"
must "$YOKE" inspect stages.yaml
said '  stage long +steps 3 to 4, 2 sequences of 32, 128 tokens'
said 'steps +5, 320 tokens'
cd ..
refused alone 2 'has no such stage' plan stages.yaml --stage none
refused alone 2 'name it with --stage' plan stages.yaml --svg plan.svg
refused alone 3 'there is no stage "lng" (valid: short, long)' plan stages.yaml --set stages.lng.steps=1
cd world

# ---- the run --------------------------------------------------------------------------------------------
must mpirun -n 2 "$YOKE" selfcheck stages.yaml
said 'stage long'
must mpirun -n 2 "$YOKE" train stages.yaml
for words in 'stage long, steps 3 to 4: checked, ' 'stage short, 1 of 2: steps 0 to 2' \
    'stage long, 2 of 2: steps 3 to 4' 'step 5/5 long loss '; do
    grep -qF -- "$words" ../said/out ../said/err || fail "the log does not say \"$words\""
done
[ "$(grep -c '"stage":"short"' run/metrics.jsonl)" = 2 ] || fail "$(cat run/metrics.jsonl)"
must "$YOKE" inspect run
said 'stage +long, steps 3 to 4: the checkpoint.s'
said 'next sample +4 of the data since step 3'
must "$YOKE" inspect run/step-00000003
said 'stage +short, steps 0 to 2: the checkpoint.s'
said 'next sample +12 of the data since step 0'

# ---- a checkpoint is one of its stage -------------------------------------------------------------------
for step in 3 5; do
    want=$(sed -n "s/.*\"kind\":\"eval\",\"step\":$step,.*\"loss\":\([0-9.]*\).*/\1/p" run/metrics.jsonl)
    want=$(printf %.4f "$want")
    must "$YOKE" eval run/step-0000000$step --sequences 64 --set train.precision=fp32
    grep -qF "loss $want" ../said/out || { cat ../said/out; fail "step $step: no loss $want"; }
    must "$YOKE" export run/step-0000000$step hf-$step
done
grep -q '"rope_theta": 10000' hf-3/config.json || fail "$(cat hf-3/config.json)"
grep -q '"rope_theta": 2000000' hf-5/config.json || fail "$(cat hf-5/config.json)"
must "$YOKE" verify run
echo "stages: ok"
