#!/usr/bin/env bash
# Try everything on this machine's GPU, in less than 8 minutes: the tests, training on one and on
# several ranks that share the GPU, resuming, the benchmarks.  From a bundle or a source tree.
#   --out FILE    the report (gpu-report.txt)
#   --build DIR   source tree only: take what is built in DIR instead of building build/
#   --quick       a few tests and tiny sizes: for a try without a GPU, on the emulated device
#                 (YOKE_CUDA_PLUGIN=build/tests/libyoke_cuda_emulated.so)
# Exit code 0 if nothing failed.
set -euo pipefail

refuse() {
    echo "gpu_check: $*" >&2
    exit 2
}

root=$(dirname "$(readlink -f "$0")")/..
root=$(realpath "$root")
report=
build=
quick=

# The tests that run on a GPU, one line a run: executable, ranks (or -), seconds it may take.  In
# the source tree from what their first comments declare, see tests/CMakeLists.txt.
list_tests() {
    if [[ -e $root/tests/list ]]; then
        cat "$root/tests/list"
        return
    fi
    [[ -d $root/tests ]] || return 0
    local file ranks limit n
    grep -lE '^[ /*]*@devices.*\bcuda\b' "$root"/tests/*/test_*.c | while read -r file; do
        ranks=$(sed -n '/@ranks/{s/.*@ranks *\([0-9 ]*\).*/\1/p;q}' "$file")
        limit=$(sed -n '/@timeout/{s/.*@timeout *\([0-9]*\).*/\1/p;q}' "$file")
        for n in ${ranks:--}; do
            echo "$(basename "$file" .c) $n ${limit:-60}"
        done
    done
}

while [[ $# -gt 0 ]]; do
    case $1 in
        --list)
            list_tests
            exit 0
            ;;
        --out | --build)
            [[ -n ${2-} ]] || refuse "$1 needs a value"
            if [[ $1 == --out ]]; then report=$(realpath -m "$2"); else build=$(realpath -m "$2"); fi
            shift
            ;;
        --quick) quick=yes ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) refuse "unknown option $1 (--out FILE, --build DIR, --quick)" ;;
    esac
    shift
done
report=${report:-$PWD/gpu-report.txt}
[[ -z ${YOKE_CUDA_PLUGIN-} ]] || YOKE_CUDA_PLUGIN=$(realpath "$YOKE_CUDA_PLUGIN")

# ---- what is tried: a bundle, or a build of this tree -------------------------------------------
if [[ -x $root/libexec/yoke ]]; then
    tests=$root/tests
    B=$root # for env.sh; the tests are started without its launcher
    # shellcheck source=/dev/null
    . "$B/etc/env.sh"
    export YOKE=$root/yoke PATH=$root:$PATH
else
    if [[ -z $build ]]; then
        build=$root/build
        "$root/scripts/install_deps.sh" --tests
        "$root/scripts/build.sh" --tests
    fi
    tests=$build/tests
    export YOKE=$build/yoke PATH=$build:$PATH
    export YOKE_CUDA_PLUGIN=${YOKE_CUDA_PLUGIN:-$build/libyoke_cuda.so} # the tests lie elsewhere
    [[ $(id -u) -ne 0 ]] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
    export OMPI_MCA_btl=self,vader OMPI_MCA_plm_rsh_agent=false OMPI_MCA_btl_base_warn_component_unused=0
fi
[[ -x $YOKE ]] || refuse "$YOKE is missing"
export YOKE_SOURCE=$root YOKE_TEST_DEVICE=cuda OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
seconds_left=450 # of the 8 minutes, with room to end what runs
: >"$report"
say() { echo "$*" | tee -a "$report"; }
part() { say && say "== $* (after $SECONDS s)"; }

# ---- verdicts -----------------------------------------------------------------------------------
passed=0 failed=0 skipped=0

# verdict NAME SECONDS COMMAND...: run it; one line, and the end of what it said if it failed.  What
# it said is in $work/log.
verdict() {
    local name=$1 limit=$2 code=0 start=$EPOCHREALTIME word
    shift 2
    [[ $limit -le $((seconds_left - SECONDS)) ]] || limit=$((seconds_left - SECONDS))
    if [[ $limit -le 0 ]]; then
        failed=$((failed + 1))
        say "failed   $name: not run, the time is over"
        return 1
    fi
    timeout -k 5 "$limit" "$@" >"$work/log" 2>&1 </dev/null || code=$?
    case $code in
        0) word=passed passed=$((passed + 1)) ;;
        77) word=skipped skipped=$((skipped + 1)) ;;
        124 | 137) word="killed after $limit s:" failed=$((failed + 1)) ;;
        *) word="failed with exit code $code:" failed=$((failed + 1)) ;;
    esac
    say "$(awk -v w="$word" -v n="$name" -v a="$start" -v b="$EPOCHREALTIME" \
        'BEGIN { printf "%-8s %-44s %6.1f s", w, n, b - a }')"
    [[ $code -eq 0 ]] && return 0
    tail -n 20 "$work/log" | sed 's/^/    /' | tee -a "$report"
    [[ $code -eq 77 ]]
}

# figures NAME SECONDS COMMAND...: the same, and what it prints goes into the report
figures() {
    verdict "$@" && sed 's/^/    /' "$work/log" | tee -a "$report"
}

# ---- the machine ---------------------------------------------------------------------------------
part "machine"
say "$(date -u '+%Y-%m-%d %H:%M UTC'), $("$YOKE" --version), $(uname -sr), glibc $(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/.* //')"
say "$(sed -n '/^model name/{s/.*: //p;q}' /proc/cpuinfo), $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
say "$({ nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader || echo no nvidia-smi; } 2>/dev/null)"
[[ -z ${YOKE_CUDA_PLUGIN-} ]] || say "plug-in: $YOKE_CUDA_PLUGIN"
figures "doctor" 60 "$YOKE" doctor --device cuda || true
if grep -q '^ *GPU *none:' "$work/log"; then
    say
    say "gpu_check: yoke finds no GPU here (the line GPU above says why), so that nothing else was tried"
    say "gpu_check: $passed passed, $failed failed, $skipped skipped; report in $report"
    exit 1
fi

# ---- unit tests ----------------------------------------------------------------------------------
part "tests with the device cuda"
if [[ ! -d $root/tests ]]; then
    skipped=$((skipped + 1))
    say "skipped  tests: this bundle was made without them (--no-tests)"
fi
while read -r name ranks limit; do
    [[ -z $quick || $name == test_bias || $name == test_cast || ($name == test_comm && $ranks == 2) ]] || continue
    if [[ ! -x $tests/$name ]]; then
        failed=$((failed + 1))
        say "failed   $name: $tests/$name is missing"
    elif [[ $ranks == - ]]; then
        verdict "$name" "$limit" "$tests/$name" || true
    else
        verdict "$name, $ranks ranks" "$limit" mpirun -q -n "$ranks" "$tests/$name" || true
    fi
done < <(list_tests)

# ---- whole runs ------------------------------------------------------------------------------------
part "training runs"
cd "$work"
steps=200
[[ -z $quick ]] || steps=8
awk 'BEGIN {
    srand(7)
    split("the of and to a in that it was he for on are with as his they be at one have", word)
    for (i = 0; i < 2000; i++) {
        for (k = 0; k < 60; k++) printf "%s ", word[int(rand() * rand() * 21) + 1]
        printf "\n\n"
    }
}' >text.txt
cat >config.yaml <<END
model: {family: llama, layers: 3, hidden: 128, heads: 4, kv_heads: 2, ffn: 256}
data: {tokenizer: t.json, train: train.h5, validation: valid.h5, sequence_length: 64}
train: {run_dir: run, steps: $steps, batch_sequences: 16, micro_batch: 4, eval_interval: 0, seed: 3}
optim: {lr: 2.0e-3, weight_decay: 0.1, clip: 1.0}
schedule: {kind: cosine, warmup_steps: 4}
parallel: {share_gpu: true}
checkpoint: {interval: $((steps / 2))}
log: {interval: 1, tensorboard: false}
END
[[ -z $quick ]] || sed -i 's/layers: 3, hidden: 128/layers: 1, hidden: 32/; s/sequence_length: 64/sequence_length: 16/' config.yaml
verdict "tokenizer" 60 "$YOKE" tokenizer train --vocab 400 --out t.json text.txt || true
verdict "token files" 60 "$YOKE" tokenize --tokenizer t.json --out train.h5 --validation valid.h5 \
    --validation-share 0.02 --paragraphs-per-document 2 text.txt || true

# train NAME RANKS OPTION...: a run in the folder of that name
train() {
    local name=$1 ranks=$2
    shift 2
    verdict "train $name" 120 mpirun -q -n "$ranks" "$YOKE" train config.yaml --set "train.run_dir=$name" "$@" || true
}
losses() {
    sed -n 's/.*"kind":"train","step":\([0-9]*\),.*"loss":\([-+0-9.e]*\).*/\1 \2/p' "$1/metrics.jsonl" 2>/dev/null || true
}

# same NAME OTHER LIMIT: the loss of every step, relatively
same() {
    local name=$1 other=$2 limit=$3
    losses "$other" >"$work/want"
    losses "$name" >"$work/got"
    awk -v limit="$limit" -v steps="$steps" '
        FNR == NR { want[$1] = $2; next }
        { d = ($2 - want[$1]) / want[$1]; if (d < 0) d = -d; if (!(d <= worst)) worst = d; n++ }
        END {
            printf "%d steps, worst difference %.2g, limit %g\n", n, worst, limit
            exit !(n == steps && length(want) == steps && worst <= limit)
        }' "$work/want" "$work/got"
}
# a check of what the runs left: the figure becomes part of the line
compare() {
    local said
    if said=$(same "$@" 2>&1); then
        passed=$((passed + 1)) && say "passed   $1 as $2: $said"
    else
        failed=$((failed + 1)) && say "failed   $1 as $2: $said"
    fi
}

fp32=(--set train.precision=fp32)
train cpu 1 --device cpu "${fp32[@]}"
train cuda-fp32 1 --device cuda "${fp32[@]}"
compare cuda-fp32 cpu 1e-3
train cuda-fp32-again 1 --device cuda "${fp32[@]}"
compare cuda-fp32-again cuda-fp32 0
train cuda-half 1 --device cuda # bf16, or fp16 where the GPU has none
compare cuda-half cpu 0.005
for ranks in 2 4; do
    train "cuda-$ranks-ranks" "$ranks" --device cuda --set parallel.comm=mpi "${fp32[@]}"
    compare "cuda-$ranks-ranks" cpu 1e-3
done
# what a run would have left had it been stopped half way
half_of() { # NAME COPY
    cp -r "$1" "$2" 2>/dev/null || return 0 # there is no such run: what follows fails, and says so
    rm -rf "$2"/step-*"$(printf %08d "$steps")"
    sed -i "/\"step\":$((steps / 2)),/q" "$2/metrics.jsonl"
}
half_of cpu resumed # a checkpoint of the CPU goes on on the GPU, in another layout
train resumed 2 --device cuda --set parallel.comm=mpi "${fp32[@]}"
compare resumed cpu 1e-3
half_of cuda-fp32 resumed-same
train resumed-same 1 --device cuda "${fp32[@]}"
compare resumed-same cuda-fp32 0
figures "eval" 60 "$YOKE" eval resumed || true

# ---- benchmarks ------------------------------------------------------------------------------------
part "benchmarks"
cd "$root"
gpt2=(configs/gpt2-124m.yaml --batch 64 --tokens 1024) llama=(configs/llama-1.3b.yaml --batch 4 --tokens 4096)
small=()
threads=$(nproc) # the host makes the first weights
if [[ $quick ]]; then
    threads=2
    small=(--set model.layers=1 --set model.hidden=32 --set model.heads=2 --set model.vocab_size=96 --steps 2)
    gpt2=("${gpt2[0]}" --batch 2 --tokens 16)
    llama=("${llama[0]}" --batch 1 --tokens 32 --set model.kv_heads=1 --set model.ffn=64)
fi
options=("${small[@]}" --device cuda --threads "$threads")
figures "bench step, GPT-2 124M" 90 "$YOKE" bench step "${gpt2[@]}" "${options[@]}" || true
figures "bench step, Llama 1.3B" 90 "$YOKE" bench step "${llama[@]}" "${options[@]}" || true
figures "bench ops, Llama 1.3B" 60 "$YOKE" bench ops "${llama[@]}" "${options[@]}" || true
if [[ $quick ]]; then
    say "skipped  vs PyTorch: not with --quick"
    skipped=$((skipped + 1))
elif ! python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    say "skipped  vs PyTorch: no python3 with a torch that sees a GPU"
    skipped=$((skipped + 1))
else
    figures "vs PyTorch" 240 python3 scripts/bench/vs_torch.py --yoke "$YOKE" --device cuda --rounds 1 \
        --threads "$threads" || true
fi

part "end"
say "gpu_check: $passed passed, $failed failed, $skipped skipped; report in $report"
[[ $failed -eq 0 ]]
