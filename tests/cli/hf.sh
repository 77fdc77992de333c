#!/usr/bin/env bash
# Hugging Face folders in and out: perplexity is transformers', import and export give back the same bits,
# and what is not a model of a known family is refused in words.   @timeout 120
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
fixtures=$YOKE_SOURCE/tests/fixtures
rm -rf world said
mkdir world said
cd world

quietly() { "$@" >../said/out 2>../said/err; }
expect() { # EXIT-CODE COMMAND...
    local want=$1 code=0
    shift
    quietly "$@" || code=$?
    [ "$code" -eq "$want" ] || { cat ../said/out; fail "$* gave $code, not $want"; }
}

for family in gpt2 llama; do
    hf=$fixtures/hf_$family
    expect 0 "$YOKE" import "$hf" $family
    expect 0 "$YOKE" tokenize --tokenizer "$fixtures/tokenizer_small.json" --out $family.h5 "$hf/text.txt"
    expect 0 "$YOKE" eval $family --data $family.h5
    read -r tokens want <"$hf/perplexity.txt"
    got=$(sed -n 's/.*perplexity \([0-9.]*\).*/\1/p' ../said/out)
    grep -q "targets $((tokens - 1)) " ../said/out || fail "$family: not all of $tokens tokens were predicted"
    awk -v a="$got" -v b="$want" 'BEGIN { d = a / b - 1; exit !(d < 2e-6 && d > -2e-6) }' ||
        fail "$family: perplexity $got, transformers has $want"

    # the same bits come back, from one file and from many
    expect 0 "$YOKE" export $family out_$family
    expect 0 "$YOKE" import out_$family again_$family
    expect 0 "$YOKE" diff --tensors $family again_$family
    expect 6 "$YOKE" export $family out_$family # nothing is replaced
    expect 0 "$YOKE" export $family half_$family --dtype bf16
    expect 0 "$YOKE" import half_$family back_$family
    expect 0 "$YOKE" eval back_$family --data $family.h5
    got=$(sed -n 's/.*perplexity \([0-9.]*\).*/\1/p' ../said/out)
    awk -v a="$got" -v b="$want" 'BEGIN { d = a / b - 1; exit !(d < 0.2 && d > -0.2 && d != 0) }' ||
        fail "$family: perplexity $got in bf16, transformers has $want"

    # it trains on, in any layout
    sed -e "s/train.h5/$family.h5/; s/steps: 1000/steps: 2/; s/sequence_length: .*/sequence_length: 29/" \
        -e 's/batch_sequences: 8/batch_sequences: 2/; s/micro_batch: 8/micro_batch: 1/' $family/config.yaml >$family.yaml
    expect 0 "$YOKE" train $family.yaml --set checkpoint.resume=$family --set train.run_dir=one_$family
    expect 0 mpirun -n 2 "$YOKE" train $family.yaml --set checkpoint.resume=$family \
        --set train.run_dir=two_$family --set parallel.pp=2
    a=$(sed -n 's/.*"step":2.*"loss":\([0-9.]*\),.*/\1/p' one_$family/metrics.jsonl | head -n 1)
    b=$(sed -n 's/.*"step":2.*"loss":\([0-9.]*\),.*/\1/p' two_$family/metrics.jsonl | head -n 1)
    awk -v a="$a" -v b="$b" 'BEGIN { d = a / b - 1; exit !(a > 0 && d < 1e-5 && d > -1e-5) }' ||
        fail "$family: step 2 has loss $a on one rank and $b on two stages"
done

# an index over several files: tensors of 4 MB, files of 1 MB
cat >large.yaml <<'YAML'
model: {family: llama, layers: 1, hidden: 64, heads: 2, kv_heads: 1, ffn: 16, tied_embeddings: true, vocab_size: 16000}
data: {train: llama.h5, sequence_length: 16}
train: {run_dir: large, steps: 1, batch_sequences: 1, threads: 1}
optim: {lr: 1.0e-3}
schedule: {kind: constant}
log: {tensorboard: false}
YAML
expect 0 "$YOKE" train large.yaml
expect 0 "$YOKE" export large parts --shard-size 1
[ -e parts/model-00001-of-00002.safetensors ] && [ -e parts/model.safetensors.index.json ] ||
    fail "a large model is not in two files"
expect 0 "$YOKE" import parts from_parts
quietly "$YOKE" diff --tensors large from_parts || true
! grep -q '  master' ../said/out || fail "weights out of several files are others"

# ---- refused -----------------------------------------------------------------------------------------
cases=0
# SENTENCE CONFIG-EDIT: a sed program for config.json
bad_config() {
    rm -rf bad never
    cp -r "$fixtures/hf_llama" bad
    sed -i "$2" bad/config.json
    refused "$1"
}
refused() {
    expect 5 "$YOKE" import bad never
    grep -qe "$1" ../said/err || fail "does not say: $1"
    [ -z "$(compgen -G 'never/step-*/model.h5')" ] || fail "$1: and yet there is a checkpoint"
    cases=$((cases + 1))
}
bad_config 'model_type is "bert"; yoke knows gpt2 and llama' 's/"model_type": "llama"/"model_type": "bert"/'
bad_config 'hidden_size is "x"; valid: a whole number' 's/"hidden_size": [0-9]*/"hidden_size": "x"/'
bad_config 'hidden_size is missing' '/"hidden_size"/d'
bad_config 'num_hidden_layers is 0; valid' 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 0/'
bad_config 'hidden_act is "gelu"; yoke knows only silu' 's/"hidden_act": "silu"/"hidden_act": "gelu"/'
bad_config 'attention_bias is true; yoke knows only false' 's/"attention_bias": false/"attention_bias": true/'
bad_config 'mlp_bias is true' 's/"mlp_bias": false/"mlp_bias": true/'
bad_config 'kv_heads: 4 does not divide' 's/"num_key_value_heads": 3/"num_key_value_heads": 4/'
bad_config 'rope_parameters is .*rope_type default' 's/"rope_type": "default"/"rope_type": "yarn"/'
bad_config 'rms_norm_eps is -1; valid' 's/"rms_norm_eps": [^,]*/"rms_norm_eps": -1/'
bad_config 'tie_word_embeddings is 3; valid' 's/"tie_word_embeddings": false/"tie_word_embeddings": 3/'
bad_config 'config.json:[0-9]*: ' 's/"vocab_size": 1000/"vocab_size": /'
bad_config 'config.json:[0-9]*: duplicate' 's/"vocab_size": 1000/"vocab_size": 1000, "vocab_size": 1000/'
bad_config 'embed_tokens.weight has 2 dimensions, \[1000, 30\]; wanted: \[999, 30\]' 's/"vocab_size": 1000/"vocab_size": 999/'
bad_config 'tensor model.layers.2.input_layernorm.weight is missing' 's/"num_hidden_layers": 2/"num_hidden_layers": 3/'
bad_config 'tensor model.layers.1.*is not one of this model' 's/"num_hidden_layers": 2/"num_hidden_layers": 1/'
rm bad/config.json
refused 'holds no config.json'

good_config() {
    rm -rf bad never
    mkdir bad
    cp "$fixtures/hf_llama/config.json" bad
}
# SENTENCE HEADER DATA-BYTES [LENGTH]: a file with this header
bad_file() {
    local length=${4-${#2}}
    good_config
    {
        for ((k = 0; k < 8; k++)); do printf "\\x$(printf %02x $((length >> (8 * k) & 255)))"; done
        printf %s "$2"
        head -c "$3" /dev/zero
    } >bad/model.safetensors
    refused "$1"
}
good_config
refused 'holds neither model.safetensors nor'
: >bad/model.safetensors
refused 'is empty'
printf abc >bad/model.safetensors
refused 'has 3 bytes, too few'
mkdir -p bad && rm bad/model.safetensors && mkdir bad/model.safetensors
refused 'is not a regular file'
bad_file 'says that its header has 4611686018427387904 bytes' '{}' 0 $((1 << 62))
bad_file 'says that its header has 3 bytes; valid is up to 2' '{}' 0 3
bad_file 'header, line 1' '{' 0
bad_file 'its header is not a JSON object' '[1]' 0
bad_file 'header, line 1, column [0-9]*: unable to decode byte 0xff' "$(printf '{"a\xff": 1}')" 0
bad_file 'header, line 1, column [0-9]*: duplicate' '{"a": 1, "a": 1}' 0
bad_file 'tensor a is not an object' '{"a": 1}' 0
bad_file '__metadata__ is not an object' '{"__metadata__": 1}' 0
bad_file 'tensor a has no dtype' '{"a": {"shape": [1], "data_offsets": [0, 4]}}' 4
bad_file 'tensor a is of an unknown dtype' '{"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}' 4
bad_file 'tensor a has no shape' '{"a": {"dtype": "F32", "data_offsets": [0, 4]}}' 4
bad_file 'a shape that is not of whole' '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}' 4
bad_file 'a shape that is not of whole' '{"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}' 4
bad_file 'an impossible shape' '{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}}' 4
bad_file 'more than 8 dimensions' '{"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}}' 4
bad_file 'no two data_offsets' '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}' 4
bad_file 'no two data_offsets' '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}' 4
bad_file 'leave the file' '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}' 4
bad_file 'leave the file' '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}' 4
bad_file 'do not fit its shape' '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}' 4
bad_file 'more than dtype, shape' '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "b": 1}}' 4
bad_file 'has 8 bytes of data, its tensors take 4' '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}' 8
one='"dtype": "F32", "shape": [1], "data_offsets"'
bad_file 'overlaps the one before' "{\"a\": {$one: [0, 4]}, \"b\": {$one: [0, 4]}}" 4
bad_file 'a gap in front of it' "{\"a\": {$one: [0, 4]}, \"b\": {$one: [8, 12]}}" 12
bad_file 'lm_head.weight is of type I32; valid' '{"lm_head.weight": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}' 4
good_config
printf '{"weight_map": {"a": "../model.safetensors"}}' >bad/model.safetensors.index.json
refused 'tensor a is not mapped to the name of a file'
printf '{"weight_map": 1}' >bad/model.safetensors.index.json
refused 'has no object weight_map'
printf '{"weight_map": {"a": "none.safetensors"}}' >bad/model.safetensors.index.json
expect 6 "$YOKE" import bad never
expect 2 "$YOKE" import bad
expect 2 "$YOKE" export llama
expect 2 "$YOKE" export llama out --dtype int4
echo "$cases refused"
