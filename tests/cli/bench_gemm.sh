#!/usr/bin/env bash
# `yoke bench gemm` measures every product of a model in every layout and both types.
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"

cat >model.yaml <<'YAML'
model: {family: llama, layers: 1, hidden: 32, heads: 2, kv_heads: 1, ffn: 48, vocab_size: 100}
data: {train: none.h5, sequence_length: 16}
train: {run_dir: run, batch_sequences: 1, steps: 1}
YAML
"$YOKE" bench gemm model.yaml --batch 2 --tokens 8 --steps 1 --threads 1 --json >json 2>errors || fail "$(cat errors)"
for product in '16, "outputs": 64, "inputs": 32' '16, "outputs": 32, "inputs": 32' '16, "outputs": 96, "inputs": 32' \
    '16, "outputs": 32, "inputs": 48' '16, "outputs": 100, "inputs": 32' '0, "outputs": 0, "inputs": 0'; do
    for type in fp32 bf16; do
        layouts=(nt nn tn)
        [[ $product != 0,* ]] || layouts=(all)
        for layout in "${layouts[@]}"; do
            grep -qE "\"rows\": $product, \"layout\": \"$layout\", \"type\": \"$type\", \"share\": [0-9.]+, \"yoke\": [0-9.e+]*[1-9]" json ||
                fail "no $layout of $product in $type: $(cat json)"
        done
    done
done
[[ $(grep -o '"layout"' json | wc -l) -eq 32 ]] || fail "not 32 products: $(cat json)"
"$YOKE" bench gemm model.yaml --batch 2 --tokens 8 --steps 1 --threads 1 --precision fp32 >table 2>errors || fail "$(cat errors)"
grep -qE '^all, by their flops +all +fp32 +[0-9.]+' table || fail "$(cat table)"
! grep -q bf16 table || fail "bf16 was not asked for: $(cat table)"
echo "bench gemm: ok"
