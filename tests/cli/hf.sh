#!/usr/bin/env bash
# Hugging Face folders in and out: perplexity is transformers', import and export give back the same bits,
# and what is not a model of a known family is refused in words.   @timeout 480
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

# PATH WANT LIMIT [COMMAND...]: is the perplexity of text.h5 that, but for LIMIT of it?
perplexity_is() {
    local command=("$YOKE" eval "$1" --data text.h5)
    [ $# -eq 3 ] || command=("${@:4}")
    expect 0 "${command[@]}" --set train.precision=fp32
    got=$(sed -n 's/.*perplexity \([0-9.]*\).*/\1/p' ../said/out)
    awk -v a="$got" -v b="$2" -v m="$3" 'BEGIN { d = a / b - 1; exit !(d < m && d > -m) }' ||
        fail "$1: perplexity $got, transformers has $2"
}
# RUN: the losses of step 1 and of step 2
losses() {
    sed -n "s/.*\"step\":[12],.*\"loss\":\([0-9.]*\),.*/\1/p" "$1/metrics.jsonl"
}

expect 0 "$YOKE" tokenize --tokenizer "$fixtures/tokenizer_small.json" --out text.h5 "$fixtures/hf_llama/text.txt"
for family in gpt2 llama qwen2 olmo2 smollm3 gpt_neox; do
    hf=$fixtures/hf_$family
    expect 0 "$YOKE" import "$hf" $family
    grep -q 'holds no tokenizer.json: data.tokenizer is empty' ../said/out || fail "no word about the tokenizer: $(cat ../said/out)"
    read -r tokens want <"$hf/perplexity.txt"
    perplexity_is $family "$want" 2e-6
    grep -q "targets $((tokens - 1)) " ../said/out || fail "$family: not all of $tokens tokens were predicted"

    # the same bits come back, from one file and from many
    expect 0 "$YOKE" export $family out_$family
    expect 0 "$YOKE" import out_$family again_$family
    expect 0 "$YOKE" diff --tensors $family again_$family
    expect 6 "$YOKE" export $family out_$family # nothing is replaced
    expect 6 "$YOKE" export $family $family     # and no run becomes a model
    expect 6 "$YOKE" export $family $family/step-00000000
    cp $family/config.yaml before
    rm -rf $family/step-00000009 && mv $family/step-00000000 $family/step-00000009
    expect 6 "$YOKE" import out_$family $family # nor a run another
    mv $family/step-00000009 $family/step-00000000
    cmp -s $family/config.yaml before || fail "an import that was refused changes a configuration"
    expect 6 "$YOKE" import out_$family out_$family
    expect 0 "$YOKE" export $family half_$family --dtype bf16
    expect 0 "$YOKE" import half_$family back_$family
    perplexity_is back_$family "$want" 0.2
    [ "$got" != "$want" ] || fail "$family: bf16 rounds nothing"

    # it trains on, in any layout
    sed -e "s/train.h5/text.h5/; s/steps: 1000/steps: 2/; s/sequence_length: .*/sequence_length: 29/" \
        -e 's/batch_sequences: 8/batch_sequences: 2/; s/micro_batch: 8/micro_batch: 1/; s/interval: 10$/interval: 1/' $family/config.yaml >$family.yaml
    expect 0 "$YOKE" train $family.yaml --set train.precision=fp32 --set checkpoint.resume=$family --set train.run_dir=one_$family
    ! grep 'changed since the checkpoint: model' ../said/out ../said/err || fail "$family: an import is another model than its own config.yaml"
    # imported into a layout, the tensors are the same, and it trains on there
    for layout in "--tp 2" "--pp 2" "--tp 2 --pp 2"; do
        ranks=2
        [ "$layout" != "--tp 2 --pp 2" ] || ranks=4
        rm -rf other laid
        # shellcheck disable=SC2086
        expect 0 mpirun -n $ranks "$YOKE" import "$hf" laid $layout
        expect 0 "$YOKE" diff --tensors $family laid
        sed -n '/^parallel:/,/^[a-z]*:/p' laid/config.yaml >parallel.yaml
        for axis in tp pp; do
            grep -q "$axis: $([[ $layout == *$axis* ]] && echo 2 || echo 1)" parallel.yaml ||
                fail "$family: config.yaml of an import with $layout has $(xargs <parallel.yaml)"
        done
        expect 0 mpirun -n $ranks "$YOKE" train $family.yaml --set train.precision=fp32 --set checkpoint.resume=laid \
            --set train.run_dir=other --set "parallel={$(sed 's/--\([a-z]*\) \(.\)/\1: \2/; s/ --\([a-z]*\) \(.\)/, \1: \2/' <<<"$layout")}"
        paste <(losses one_$family) <(losses other) | awk '
            { d = $1 / $2 - 1; bad = bad || !(d < 1e-5 && d > -1e-5); n++ } END { exit bad || n != 2 }' ||
            fail "$family: losses $(losses one_$family | xargs) on one rank, $(losses other | xargs) with $layout"
    done
    # as transformers has it, laid out over ranks
    perplexity_is laid "$want" 2e-6 mpirun -n 4 "$YOKE" eval laid --data text.h5 --tp 2 --pp 2
done

# llama.cpp's converter reads these under their older names
grep -q '"n_ctx": 29' out_gpt2/config.json || fail "no n_ctx: $(xargs <out_gpt2/config.json)"
grep -q '"rotary_pct": 0.25' out_gpt_neox/config.json || fail "no rotary_pct: $(xargs <out_gpt_neox/config.json)"

# rotary positions that are stretched, in both spellings; what is exported says so too
while read -r name want; do
    rm -rf scaled
    mkdir scaled
    cp "$fixtures/hf_llama/model.safetensors" scaled/
    cp "$fixtures/hf_llama/rope_$name.json" scaled/config.json
    expect 0 "$YOKE" import scaled rope_$name
    perplexity_is rope_$name "$want" 2e-6
    expect 0 "$YOKE" export rope_$name rope_out_$name
    expect 0 "$YOKE" import rope_out_$name rope_again_$name
    perplexity_is rope_again_$name "$want" 2e-6
done <"$fixtures/hf_llama/rope.txt"

# an index over several files: tensors of 4 MB, files of 1 MB
cat >large.yaml <<'YAML'
model: {family: llama, layers: 1, hidden: 64, heads: 2, kv_heads: 1, ffn: 16, tied_embeddings: true, vocab_size: 16000}
data: {train: text.h5, sequence_length: 16}
train: {run_dir: large, steps: 1, batch_sequences: 1, threads: 1, precision: fp32}
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
# SENTENCE CONFIG-EDIT [FAMILY]: a sed program for config.json
bad_config() {
    rm -rf bad never
    cp -r "$fixtures/hf_${3-llama}" bad
    sed -i "$2" bad/config.json
    refused "$1"
}
refused() {
    expect 5 "$YOKE" import bad never
    grep -qe "$1" ../said/err || fail "does not say: $1"
    [ -z "$(compgen -G 'never/step-*/model.h5')" ] || fail "$1: and yet there is a checkpoint"
    cases=$((cases + 1))
}
bad_config 'model_type is "bert"; yoke knows gpt2, llama, ' 's/"model_type": "llama"/"model_type": "bert"/'
bad_config 'hidden_size is "x"; valid: a whole number' 's/"hidden_size": [0-9]*/"hidden_size": "x"/'
bad_config 'hidden_size is missing' '/"hidden_size"/d'
bad_config 'num_hidden_layers is 0; valid' 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 0/'
bad_config 'hidden_act is "gelu"; yoke knows only silu' 's/"hidden_act": "silu"/"hidden_act": "gelu"/'
bad_config 'tensor model.layers.0.self_attn.q_proj.bias is missing' 's/"attention_bias": false/"attention_bias": true/'
bad_config 'tensor model.layers.1.mlp.down_proj.bias is missing' 's/"mlp_bias": false/"mlp_bias": true/'
bad_config 'kv_heads: 4 does not divide' 's/"num_key_value_heads": 3/"num_key_value_heads": 4/'
bad_config 'rope_type is "dynamic"; yoke knows only default, linear, llama3, yarn' 's/"rope_type": "default"/"rope_type": "dynamic"/'
bad_config 'factor is missing' 's/"rope_type": "default"/"rope_type": "yarn"/'
bad_config 'factor is 0.5; valid: a number from 1' 's/"rope_type": "default"/"rope_type": "linear", "factor": 0.5/'
bad_config 'original_max_position_embeddings is missing' 's/"rope_type": "default"/"rope_type": "llama3", "factor": 2/'
bad_config 'truncate is false' 's/"rope_type": "default"/"rope_type": "yarn", "factor": 2, "truncate": false/'
bad_config 'mscale is 1; yoke knows only attention_factor' 's/"rope_type": "default"/"rope_type": "yarn", "factor": 2, "mscale": 1/'
bad_config 'model.rope_low: 4 is not valid with model.rope_high 4' 's/"rope_type": "default"/"rope_type": "llama3", "factor": 2, "original_max_position_embeddings": 8, "low_freq_factor": 4/'
bad_config 'partial_rotary_factor is 0.5' 's/"rope_type": "default"/"rope_type": "default", "partial_rotary_factor": 0.5/'
bad_config 'rms_norm_eps is -1; valid' 's/"rms_norm_eps": [^,]*/"rms_norm_eps": -1/'
bad_config 'tie_word_embeddings is 3; valid' 's/"tie_word_embeddings": false/"tie_word_embeddings": 3/'
bad_config 'config.json:[0-9]*: ' 's/"vocab_size": 1000/"vocab_size": /'
bad_config 'config.json:[0-9]*: duplicate' 's/"vocab_size": 1000/"vocab_size": 1000, "vocab_size": 1000/'
bad_config 'embed_tokens.weight has shape \[1000, 30\]; wanted \[999, 30\]' 's/"vocab_size": 1000/"vocab_size": 999/'
bad_config 'tensor model.layers.2.input_layernorm.weight is missing' 's/"num_hidden_layers": 2/"num_hidden_layers": 3/'
bad_config 'tensor model.layers.1.*is not one of this model' 's/"num_hidden_layers": 2/"num_hidden_layers": 1/'
bad_config 'use_sliding_window is true' 's/"use_sliding_window": false/"use_sliding_window": true/' qwen2
bad_config 'layer_types is .*knows only full_attention' '0,/"full_attention"/s//"sliding_attention"/' qwen2
bad_config 'hidden_act is "gelu"' 's/"hidden_act": "silu"/"hidden_act": "gelu"/' qwen2
bad_config 'tensor model.layers.0.self_attn.q_proj.bias is missing' 's/"attention_bias": false/"attention_bias": true/' olmo2
bad_config 'self_attn.k_norm.weight has shape \[12\]; wanted \[24\]' 's/"num_key_value_heads": 3/"num_key_value_heads": 6/' olmo2
bad_config 'no_rope_layers is \[0,1,1,0\]; yoke knows .* 0 at every so many' '/"no_rope_layers": \[/{n;s/1/0/}' smollm3
bad_config 'no_rope_layers is \[1\]; yoke knows one 1 or 0 for each' 's/"no_rope_layers": .*/"no_rope_layers": [1],"x": [/' smollm3
bad_config 'use_parallel_residual is false' 's/"use_parallel_residual": true/"use_parallel_residual": false/' gpt_neox
bad_config 'hidden_act is "relu"; yoke knows only gelu' 's/"hidden_act": "gelu"/"hidden_act": "relu"/' gpt_neox
bad_config 'it does not divide hidden_size' 's/"num_attention_heads": 3/"num_attention_heads": 5/' gpt_neox
bad_config 'query_key_value.weight has shape \[72, 24\]; wanted \[60, 20\]' 's/"hidden_size": 24/"hidden_size": 20/; s/"num_attention_heads": 3/"num_attention_heads": 2/' gpt_neox
bad_config 'partial_rotary_factor is 2' 's/"partial_rotary_factor": 0.25/"partial_rotary_factor": 2/' gpt_neox
cp -r "$fixtures/hf_llama" worse && rm worse/config.json && rm -rf bad && mv worse bad
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
# all of it is listed: what is missing, what is left over, what has another shape
good_config
cp "$fixtures/hf_llama/model.safetensors" bad/
sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 1/; s/"attention_bias": false/"attention_bias": true/; s/"vocab_size": 1000/"vocab_size": 999/' bad/config.json
refused 'its tensors are not those of the model .* see the 15 above'
for want in 4:'tensor model.layers.0.self_attn.[qkvo]_proj.bias is missing' 9:'tensor model.layers.1.* is not one of this model' \
    2:'has shape \[1000, 30\]; wanted \[999, 30\]'; do
    [ "$(grep -c "${want#*:}" ../said/err)" -eq "${want%%:*}" ] || fail "does not list ${want%%:*} times ${want#*:}"
done
good_config
for name in a b; do cp "$fixtures/hf_llama/model.safetensors" bad/$name.safetensors; done
printf '{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}' >bad/model.safetensors.index.json
refused 'b.safetensors: tensor lm_head.weight is there twice, also in .*a.safetensors'
good_config
printf '{"weight_map": {"a": "../model.safetensors"}}' >bad/model.safetensors.index.json
refused 'tensor a is not mapped to the name of a file'
printf '{"weight_map": 1}' >bad/model.safetensors.index.json
refused 'has no object weight_map'
printf '{"weight_map": {"a": "none.safetensors"}}' >bad/model.safetensors.index.json
expect 6 "$YOKE" import bad never
expect 2 "$YOKE" import bad
expect 2 "$YOKE" import "$fixtures/hf_llama" never --tp
expect 3 "$YOKE" import "$fixtures/hf_llama" never --tp x
expect 3 mpirun -n 2 "$YOKE" import "$fixtures/hf_llama" never --tp 3
grep -q 'parallel.tp' ../said/err || fail "does not say parallel.tp: $(cat ../said/err)"
# a tokenizer with more tokens than the model; one that yoke cannot read goes through
good_config
cp "$fixtures/hf_llama/model.safetensors" bad/
cp "$fixtures/tokenizer_small.json" bad/tokenizer.json
sed -i 's/"vocab_size": 1000/"vocab_size": 999/' bad/config.json
expect 4 "$YOKE" import bad never
grep -q "bad/tokenizer.json: has 1000 tokens, but config.json's vocab_size is 999" ../said/err || fail "$(cat ../said/err)"
[ ! -e never ] || fail "an import that was refused leaves something"
good_config
cp "$fixtures/hf_llama/model.safetensors" bad/
echo '{"model": {"type": "Unigram"}}' >bad/tokenizer.json
expect 0 "$YOKE" import bad strange
grep -q 'yoke cannot use it: bad/tokenizer.json: ' ../said/err || fail "$(cat ../said/err)"
cmp bad/tokenizer.json strange/tokenizer.json || fail "the tokenizer was not copied"
# what is wrong with the tensors is listed once, by the first rank, and nothing is left
good_config
sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' bad/config.json
cp "$fixtures/hf_llama/model.safetensors" bad/
expect 5 mpirun -n 2 "$YOKE" import bad never --pp 2
[ "$(grep -c 'tensor .* is missing' ../said/err)" -eq 9 ] || fail "not all that is missing is listed, or twice: $(cat ../said/err)"
[ ! -e never ] || fail "an import that was refused leaves something"
expect 2 "$YOKE" export llama
expect 2 "$YOKE" export llama out --dtype int4
echo "$cases refused"
