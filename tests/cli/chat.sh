#!/usr/bin/env bash
# Conversations with the binary: into a token file, looked at, packed, trained on, and refused.
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

fixtures=$YOKE_SOURCE/tests/fixtures/chat
cp "$fixtures/tokenizer.json" t.json
cp "$fixtures/conversations.jsonl" c.jsonl

# the template lies beside the tokenizer
mkdir -p model
cp t.json model/tokenizer.json
printf '%s' "{% for message in messages %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}" >model/chat_template.jinja
"$YOKE" tokenize --chat chatml --tokenizer model/tokenizer.json --out sft.h5 c.jsonl >out 2>err
[ ! -s err ] || fail "tokenize wrote to stderr: $(cat err)"
grep -q '^sft.h5: 16 conversations, [0-9]* tokens, [0-9]* of them to be predicted$' out || fail "$(cat out)"
"$YOKE" tokenize --chat auto --tokenizer model/tokenizer.json --out auto.h5 c.jsonl >out
grep -q '^template chatml$' out || fail "$(cat out)"
cmp sft.h5 auto.h5 || fail "auto is not chatml"
gzip -kf c.jsonl
"$YOKE" tokenize --chat chatml --loss all --tokenizer model/tokenizer.json --out all.h5 c.jsonl.gz >all
[ "$(awk 'NR == 1 {print $4 - $6}' all)" = 16 ] || fail "all but the first token of each: $(cat all)"

# a document as token, mask and text, with the tokenizer that made the file
"$YOKE" inspect sft.h5 --sample 1 >out
grep -q '^loss mask  *[0-9]* tokens are to be predicted, [0-9.]* %$' out || fail "$(cat out)"
grep -q ', end of document none$' out || fail "$(cat out)"
sed -n '/^document [0-9]/,$p' out | tr '\t' '|' >sample
[ "$(head -n 1 sample)" = "document 0" ] || fail "$(cat sample)"
grep -q '^[0-9]*|501|0|<|im_start|>$' sample || fail "$(cat sample)"
[ "$(awk -F'|' '$3 == 1 {print $2}' sample | tail -n 1)" = 502 ] || fail "the end of the turn: $(cat sample)"
grep '^[0-9]*|[0-9]*|1|' sample | cut -d'|' -f4- | tr -d '\n' >said
[ "$(cat said)" = 'Hi there!<|im_end|>' ] || fail "$(cat said)"
"$YOKE" inspect sft.h5 --sample 3 --seed 1 >one
"$YOKE" inspect sft.h5 --sample 3 --seed 1 | cmp - one || fail "a seed is not a seed"
[ "$(grep -c '^document [0-9]' one)" = 3 ] || fail "$(cat one)"
"$YOKE" inspect sft.h5 --sample 3 --seed 2 | cmp -s - one && fail "all seeds are one"
"$YOKE" inspect sft.h5 --sample 1000 --tokenizer t.json >out
[ "$(grep -c '^document [0-9]' out)" = 16 ] || fail "more documents than there are"
mv model/tokenizer.json model/other.json
"$YOKE" inspect sft.h5 --sample 1 >out 2>err
grep -q 'warning.*model/tokenizer.json' err || fail "$(cat err)"
mv model/other.json model/tokenizer.json

# rows, which are sequences of their length only
for i in 1 2 3 4 5 6 7 8; do cat c.jsonl; done >many.jsonl
"$YOKE" tokenize --chat smollm2 --pack 250 --tokenizer t.json --out rows.h5 many.jsonl >out
grep -q '^rows.h5: [0-9]* rows of 250 tokens, [0-9.]* % padding$' out || fail "$(cat out)"
"$YOKE" inspect rows.h5 --sample 1 >out
grep -q '^rows  *of 250 tokens$' out && grep -q '^row 0$' out || fail "$(cat out)"
[ "$(grep -c '^[0-9]' out)" = 250 ] || fail "not one row: $(cat out)"
cat >config.yaml <<'EOF'
model: {family: llama, layers: 1, hidden: 16, heads: 2, kv_heads: 2, ffn: 32}
data: {train: rows.h5, validation: rows.h5, sequence_length: 250, tokenizer: t.json}
train: {run_dir: run, steps: 2, batch_sequences: 4, micro_batch: 2, threads: 1, precision: fp32, eval_interval: 2}
schedule: {warmup_steps: 0}
checkpoint: {interval: 0}
log: {interval: 1, tensorboard: false}
EOF
mpirun -n 1 "$YOKE" train config.yaml >log 2>&1 || fail "$(cat log)"
"$YOKE" eval run >out
predicted=$("$YOKE" inspect rows.h5 | sed -n 's/^loss mask  *\([0-9]*\) .*/\1/p')
grep -q " targets $predicted " out || fail "want $predicted targets: $(cat out)"
code=0
mpirun -n 1 "$YOKE" train config.yaml --set data.sequence_length=100 --set train.run_dir=no >log 2>&1 || code=$?
[ $code = 4 ] || fail "exit code $code: $(cat log)"
grep -q 'rows.h5: holds rows of 250 tokens, data.sequence_length is 100 (valid: 250)' log || fail "$(cat log)"

refused() { # exit code, words, arguments
    local code=$1 words=$2 got=0
    shift 2
    echo old >old.h5
    "$YOKE" "$@" >out 2>err || got=$?
    [ "$got" = "$code" ] || fail "exit code $got, want $code: yoke $* ($(cat err))"
    [ "$(wc -l <err)" = 1 ] && [ ! -s out ] || fail "not one line: $(cat out err)"
    grep -qF -- "$words" err || fail "want \"$words\", got: $(cat err)"
    [ "$(cat old.h5)" = old ] || fail "a refused command touched its output: yoke $*"
}
to=(tokenize --tokenizer t.json --out old.h5)
sed '3s/assistant/tool/' c.jsonl >bad.jsonl
echo text >text.txt
cp "$fixtures/../tokenizer_small.json" plain.json
refused 2 '"alpaca" (valid: chatml, qwen2.5, smollm2, llama3, olmo2, auto)' "${to[@]}" --chat alpaca c.jsonl
refused 4 't.json: has no tokenizer_config.json or chat_template.jinja' "${to[@]}" --chat auto c.jsonl
refused 4 'plain.json: template chatml needs the token <|im_start|>, which the tokenizer does not have (this tokenizer can do: olmo2)' \
    "${to[@]}" --tokenizer plain.json --chat chatml c.jsonl
refused 2 '--loss: "some" is not valid (valid: assistant, all)' "${to[@]}" --chat chatml --loss some c.jsonl
refused 2 '--overlong: "cut"' "${to[@]}" --chat chatml --pack 100 --overlong cut c.jsonl
refused 2 '--overlong needs --pack' "${to[@]}" --chat chatml --overlong drop c.jsonl
refused 2 'need --chat' "${to[@]}" --pack 100 c.jsonl
refused 2 'need --chat' "${to[@]}" --loss all c.jsonl
refused 2 '--pack' "${to[@]}" --chat chatml --pack 1 c.jsonl
refused 2 'not for --chat' "${to[@]}" --chat chatml --no-eos c.jsonl
refused 2 '--chat reads .jsonl' "${to[@]}" --chat chatml text.txt
refused 4 'bad.jsonl:3: messages[1].role is "tool"' "${to[@]}" --chat chatml bad.jsonl
refused 4 'c.jsonl:2: has ' "${to[@]}" --chat chatml --pack 40 --threads 1 c.jsonl
echo '{{ messages }}' >model/chat_template.jinja
refused 4 'model/chat_template.jinja: its chat template is none of those known' \
    tokenize --tokenizer model/tokenizer.json --out old.h5 --chat auto c.jsonl
sed 's/Hello/Hallo/' "$fixtures/../tokenizer_small.json" >other.json
refused 2 '--seed' inspect sft.h5 --sample 1 --seed -1
"$YOKE" inspect sft.h5 --sample 1 --tokenizer other.json >out 2>err && fail "another tokenizer was taken"
grep -q 'other.json: has sha256 .*sft.h5 was made with a tokenizer of' err || fail "$(cat err)"
echo ok
