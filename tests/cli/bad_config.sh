#!/usr/bin/env bash
# Configurations and command lines that cannot work are refused: one line that names key and cure,
# the documented exit code on every rank, nothing touched.   @timeout 180
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs

# ---- the file ------------------------------------------------------------------------------
printf 'model:\n\tlayers: 2\n' >world/tab.yaml
printf 'model: {layers: 2}}\ntrain: {steps: 1}\n' >world/syntax.yaml
: >world/empty.yaml
head -c 100 "$YOKE" >world/binary.yaml
sed 's/kv_heads/kv_head/' world/good.yaml >world/unknown.yaml
printf 'optim: {lr: 1.0}\n' >>world/unknown.yaml
sed 's/lr: 1.0e-3/lr: fast/' world/good.yaml >world/ill_typed.yaml
(cat world/good.yaml && echo 'optim: {lr: 1.0e-3}') >world/twice.yaml
refused launched 6 'missing.yaml' train missing.yaml
refused launched 6 'is not a regular file' train .
refused launched 3 'empty.yaml' train empty.yaml
refused launched 3 'tab.yaml:2' train tab.yaml
refused alone 3 'syntax.yaml:1: not valid YAML' config syntax.yaml
refused alone 3 'binary.yaml' config binary.yaml
refused launched 3 'unknown.yaml:1: model.kv_head: unknown key; did you mean model.kv_heads?' \
    train unknown.yaml
refused launched 3 'ill_typed.yaml:4: optim.lr: "fast" is not a number' train ill_typed.yaml
refused alone 3 'optim' config twice.yaml

# ---- values --------------------------------------------------------------------------------
good() { # HOW, words, what follows --set
    refused "$1" 3 "$2" train good.yaml --set "${@:3}"
}
good alone 'train.steps: "-1" is out of bounds (valid: a whole number from 1 to' train.steps=-1
good alone 'optim.beta2: "1.5" is out of bounds (valid: a number from 0 to' optim.beta2=1.5
good alone 'optim.lr: "nan"' optim.lr=nan
good alone 'schedule.kind: "cosin"' schedule.kind=cosin
good alone '(valid: true or false)' data.document_mask=perhaps
good launched 'model.kv_heads: 3 does not divide model.heads 2 (valid: 1, 2)' model.kv_heads=3
good alone 'model.hidden: 15 is not divisible by model.heads 2' model.hidden=15
good launched 'exactly one of them' train.batch_tokens=64
good launched 'data.sequence_length: 16 is more than model.max_positions 8 (valid: 1 to 8)' \
    model.max_positions=8
good launched 'cannot be shared by 2 data-parallel ranks; valid: 2 or more' \
    train.batch_sequences=1
good launched 'parallel.dp: 3: dp 3 x cp 1 x tp 1 x pp 1 does not make the 2 ranks' parallel.dp=3
good launched 'valid for tp: 1, 2' parallel.tp=3
good launched 'parallel.tp: 2 ranks cannot share 1 heads' \
    'parallel.tp=2' --set model.heads=1 --set model.kv_heads=1
good launched 'parallel.pp: 2 stages of 1 parts are more than the 1 layers; valid: 1 to 1' \
    parallel.pp=2
good launched 'parallel.cp: 2 ranks cannot share sequences of 3 tokens; valid: 1 to 1' \
    parallel.cp=2 --set data.sequence_length=3
good launched 'parallel.tp: 2 ranks cannot share the 1 rows of a sequence' \
    parallel.tp=2 --set data.sequence_length=1
good launched 'parallel.chunks: 2 parts a stage need parallel.pp of 2 or more' parallel.chunks=2
good launched 'parallel.chunks: 2 with parallel.schedule 1f1b and 2 stages; valid: 1' \
    parallel.pp=2 --set parallel.chunks=2 --set model.layers=4
good launched 'parallel.stages: "2,1" does not cut 4 layers into 2 parts' \
    parallel.pp=2 --set parallel.stages=2,1 --set model.layers=4
good launched 'does not make the 2 ranks' \
    parallel.dp=1 --set parallel.tp=auto --set parallel.cp=auto
good alone 'parallel.zero: "3" is out of bounds (valid: a whole number from 0 to 2)' parallel.zero=3
good alone 'parallel.schedule: "2f2b" is not known (valid: gpipe, 1f1b, interleaved, zero_bubble)' \
    parallel.schedule=2f2b
good alone 'train.micro_batch: 5 is more than the global batch of 4' train.micro_batch=5
good alone 'schedule.warmup_steps' schedule.warmup_steps=3
good launched 'data.train: none.h5: does not exist' data.train=none.h5
mkdir world/empty
good launched 'data.validation: empty: is a folder without token files' data.validation=empty
good launched 'data.train: none-*.bin: matches no file' 'data.train=none-*.bin'
good launched 'data.tokenizer: "none.json" does not exist' data.tokenizer=none.json
good launched 'checkpoint.resume: "none" is not a folder' checkpoint.resume=none
refused alone 3 'train.precision: fp16 with train.device cpu' \
    train good.yaml --device cpu --set train.precision=fp16
refused launched 3 'parallel.comm: nccl with train.device cpu (valid: auto, mpi)' \
    train good.yaml --set train.device=cpu --set parallel.comm=nccl
refused alone 3 'optim.rounding: stochastic without bf16' \
    config good.yaml --set train.precision=fp32 --set optim.rounding=stochastic
refused alone 3 'train.device: "gpu" is not known' train good.yaml --device gpu
mkdir world/hollow
good launched 'checkpoint.resume: hollow holds no checkpoint' checkpoint.resume=hollow
refused launched 6 'text.txt/run' train good.yaml --set train.run_dir=text.txt/run
refused launched 6 'text.txt' train good.yaml --set train.run_dir=text.txt
refused launched 6 'train.run_dir' train good.yaml --set train.run_dir=/proc/run

# ---- command lines -------------------------------------------------------------------------
refused launched 2 'trian is not a command; yoke --help lists them' trian good.yaml
refused launched 2 'train: --fast: unknown or incomplete option; see yoke train --help' train --fast x.yaml
refused launched 2 'train: give one CONFIG' train
refused alone 2 'train: --set: unknown or incomplete option' train good.yaml --set
refused alone 2 'inspect: -xy: unknown' inspect --verify -xy train.h5
refused alone 2 'needs the form KEY=VALUE' train good.yaml --set optim.lr
refused launched 2 'eval: give one PATH' eval
refused launched 2 '--sequences: many is not a whole number from 0' eval --sequences many run
refused launched 2 'eval: --limit needs --task FILE' eval run --data valid.h5 --limit 3
refused alone 2 'eval: --sequences is not for --task' eval run --task x.jsonl --sequences 3 --tp 1
refused alone 2 '--temperature: hot is not a number' generate --temperature hot run
refused alone 2 '--tokens: 0 is not a whole number from 1' generate --tokens 0 run
refused alone 2 '--top-p 2: must be above 0 and at most 1' generate --top-p 2 run
refused alone 2 'generate: give one PATH' generate
refused alone 2 '--sample: -1' inspect --sample -1 train.h5
refused alone 2 'none.h5: does not exist' inspect none.h5
refused alone 5 'empty: is neither a checkpoint' inspect empty
mkdir world/hf
echo '{}' >world/hf/config.json
refused alone 5 'hf: is a Hugging Face model; yoke import reads it' inspect hf
refused alone 4 'text.txt: is not a file written by yoke tokenize, nor one' inspect text.txt
refused alone 2 '--dtype: "int8" is not valid (valid: uint16, uint32)' inspect --dtype int8 train.h5
refused alone 2 'give --out FILE' tokenizer train text.txt

# the code that mpirun itself hands on is the ranks' own
code=0
(cd world && mpirun -q -n 2 "$YOKE" train empty.yaml) >said/out 2>said/err || code=$?
[ "$code" = 3 ] || fail "mpirun left with $code, not 3"
echo "$cases refusals"
