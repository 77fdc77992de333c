#!/usr/bin/env bash
# Evaluation: the same numbers in every layout.   @timeout 120
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
fixtures=$YOKE_SOURCE/tests/fixtures
rm -rf world said
mkdir world said
cd world

expect() { # EXIT-CODE COMMAND...
    local want=$1 code=0
    shift
    "$@" >../said/out 2>../said/err || code=$?
    [ "$code" -eq "$want" ] || { cat ../said/out; fail "$* gave $code, not $want"; }
}
# FILE FILE LIMIT: are all numbers of the one, in order, those of the other, but for LIMIT of them?
same_numbers() {
    paste <(grep -oE -- '-?[0-9.]+(e[-+]?[0-9]+)?' "$1") <(grep -oE -- '-?[0-9.]+(e[-+]?[0-9]+)?' "$2") |
        awk -v m="$3" '{ d = $1 - $2; s = $2 < 0 ? -$2 : $2 }
            NF != 2 || !(d <= m * s && d >= -m * s) { bad = 1 }
            END { exit bad || !NR }' || fail "$1 and $2 differ: $(paste "$1" "$2")"
}

# ---- the loss of token files: a checkpoint of one layout, read into others ------------------------------
awk 'BEGIN { for (i = 0; i < 40; i++) printf "Ox %d pulls log %d.\n", i, i * 37 % 101 }' >text.txt
expect 0 "$YOKE" tokenize --tokenizer "$fixtures/tokenizer_small.json" --out text.h5 text.txt
fp32=(--set train.precision=fp32) # what the CPU is fastest in differs from machine to machine
layouts=("2 --tp 2" "2 --pp 2" "4 --tp 2 --pp 2" "2 --dp 2" "2 --cp 2")
for family in gpt2 llama; do
    expect 0 "$YOKE" import "$fixtures/hf_$family" $family
    cp "$fixtures/tokenizer_small.json" $family/tokenizer.json
    expect 0 "$YOKE" eval $family --data text.h5 "${fp32[@]}"
    grep -q 'bits_per_byte' ../said/out || fail "no bits per byte: $(cat ../said/out)"
    cp ../said/out loss_$family
    [ $family = llama ] || continue
    for layout in "${layouts[@]}"; do
        read -r ranks options <<<"$layout"
        expect 0 mpirun -n "$ranks" "$YOKE" eval $family --data text.h5 --batch 3 "${fp32[@]}" $options
        same_numbers ../said/out loss_$family 2e-6
    done
done
expect 3 mpirun -n 2 "$YOKE" eval llama --data text.h5 --tp 3
grep -q 'parallel.tp: 3: ' ../said/err || fail "no word about tp 3"
expect 3 "$YOKE" eval llama --data text.h5 --set train.precision=fp16

# no GPU: one line that can be read
if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
    expect 0 "$YOKE" eval llama --data text.h5 --sequences 1
    grep -q 'device: cpu (no NVIDIA GPU here; yoke doctor says more)$' ../said/err || fail "$(cat ../said/err)"
fi

# ---- questions: what transformers finds in float64, in every layout ------------------------------------
eval=$fixtures/eval
# FORM MODEL RANKS OPTIONS...: are log-likelihoods and metrics those of FORM_MODEL.jsonl and .json?
questions_are() {
    local name=$1_$2 model=$2 ranks=$3
    shift 3
    expect 0 mpirun -n "$ranks" "$YOKE" eval "$model" --json json --details details "${fp32[@]}" "$@"
    sed 's/"id": [0-9]*, //; s/"choice[a-z_]*": [0-9]*, //g' details >answers
    same_numbers answers "$eval/$name.jsonl" 1e-5
    diff <(grep -o '"cut": [a-z]*' answers) <(grep -o '"cut": [a-z]*' "$eval/$name.jsonl") || fail "$name: cut"
    sed -n '/"metrics"/,$p' json >metrics
    same_numbers metrics "$eval/$name.json" 1e-5
}
for model in llama gpt2; do
    questions_are requests $model 1 --task "$eval/requests.jsonl"
    grep -q '^task furrows: 12 questions, 30 answers, 28 without their question; 2 cut' ../said/out || fail "the table: $(cat ../said/out)"
    questions_are requests_apart $model 1 --task "$eval/requests.jsonl" --encode apart
    questions_are llmc $model 1 --task "$eval/hellaswag.jsonl" --window 1
    questions_are lmeval $model 1 --task "$eval/hellaswag.jsonl" --hellaswag lm-eval
    [ $model = llama ] || layouts=("4 --tp 2 --pp 2")
    for layout in "${layouts[@]}"; do
        read -r ranks options <<<"$layout"
        questions_are requests $model "$ranks" --task "$eval/requests.jsonl" --window 40 --batch 2 $options
    done
done
tac "$eval/requests.jsonl" | gzip >backwards.jsonl.gz
questions_are requests llama 1 --task backwards.jsonl.gz
expect 0 "$YOKE" eval llama --task "$eval/requests.jsonl" --limit 3 --details first "${fp32[@]}"
head -n 3 details >three
same_numbers first three 1e-5

# ---- tokens of another tokenizer ------------------------------------------------------------------------
{ cat "$fixtures/tokenizer_small.json" && echo; } >other.json
expect 0 "$YOKE" tokenize --tokenizer other.json --out other.h5 text.txt
expect 4 mpirun -q -n 2 "$YOKE" eval llama --data other.h5
grep -q 'other.h5: was made with another tokenizer' ../said/err || fail "$(cat ../said/err)"
sed -e 's/train: train.h5/train: other.h5/; s/train.h5/other.h5/; s/tokenizer: .*/tokenizer: ""/; s/steps: 1000/steps: 1/' \
    -e 's/sequence_length: .*/sequence_length: 29/; s/batch_sequences: 8/batch_sequences: 1/; s/micro_batch: 8/micro_batch: 1/' llama/config.yaml >other.yaml
expect 0 "$YOKE" train other.yaml --set train.run_dir=trained --resume llama
expect 0 "$YOKE" eval trained --data other.h5 # what it was trained on counts, without a tokenizer in its folder, too
expect 4 "$YOKE" eval trained --data text.h5

# ---- refused, on all ranks ------------------------------------------------------------------------------
sed '5s/"idx": [0-9]*/"idx": 9/' "$eval/requests.jsonl" >bad.jsonl
expect 4 mpirun -q -n 2 "$YOKE" eval llama --task bad.jsonl --tp 2
[ "$(grep -c 'error: ' ../said/err)" = 1 ] || fail "not one line of error"
grep -q 'bad.jsonl:5: idx is 9; valid: 1' ../said/err || fail "no word about line 5"
expect 6 "$YOKE" eval llama --task "$eval/requests.jsonl" --json none/json
expect 2 "$YOKE" eval llama --task "$eval/requests.jsonl" --hellaswag olmo
expect 2 "$YOKE" eval llama --task "$eval/requests.jsonl" --data text.h5
