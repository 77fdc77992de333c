#!/usr/bin/env bash
# From nothing to a trained model: install, build, get a text, train a tokenizer and a small
# model on it with two ranks, stop and resume once, evaluate, generate.
#   --text FILE...   train on these files (.txt .jsonl, also .gz .zst) instead
#   --minutes M      of training (3)
#   --out DIR        where everything goes (runs/quickstart)
# Running it again goes on where it stopped, or only evaluates and generates again.
set -euo pipefail

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }
refuse() {
    echo "quickstart: $*" >&2
    exit 1
}

texts=()
minutes=3
out=
while [[ $# -gt 0 ]]; do
    case $1 in
        --text)
            shift
            while [[ $# -gt 0 && $1 != --* ]]; do
                [[ -f $1 ]] || refuse "--text: $1 is not a file"
                texts+=("$(realpath "$1")")
                shift
            done
            [[ ${#texts[@]} -gt 0 ]] || refuse "--text needs at least one file"
            continue
            ;;
        --minutes)
            [[ ${2-} =~ ^[0-9]+(\.[0-9]+)?$ ]] || refuse "--minutes needs a number, e.g. 3"
            minutes=$2
            shift
            ;;
        --out)
            [[ -n ${2-} ]] || refuse "--out needs a folder"
            out=$(realpath -m "$2")
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) refuse "unknown option $1 (--text FILE..., --minutes M, --out DIR)" ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
out=${out:-$PWD/runs/quickstart}
run=$out/run
yoke=${YOKE-$PWD/build/yoke} # the tests name the binary they test

part() { printf '\n== %s\n' "$*"; }

# ---- the program ---------------------------------------------------------------------------
if [[ -z ${YOKE-} ]]; then
    part "dependencies and build"
    scripts/install_deps.sh
    scripts/build.sh
fi

# Two ranks share the cores.  Open MPI would otherwise bind each rank to one core; refuse to
# start more ranks than it counts cores; refuse root; and try to read other processes' memory,
# which containers forbid.
cores=$(nproc)
threads=$((cores > 1 ? cores / 2 : 1))
launch=(mpirun -q -n 2 --bind-to none --oversubscribe --mca mpi_yield_when_idle "$((cores < 2))"
    --mca btl "self,vader" --mca btl_vader_single_copy_mechanism none)
if [[ $(id -u) -eq 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# ---- one folder, one set of options ----------------------------------------------------------
mkdir -p "$out"
chosen="the default text"
for text in "${texts[@]}"; do chosen+=$'\n'"$text $(stat -c '%s %Y' "$text")"; done
if [[ -e $out/text_chosen && $(<"$out/text_chosen") != "$chosen" ]]; then
    refuse "$out was made with another --text; remove it (rm -r '$out') or give another --out"
fi

# ---- text to tokens --------------------------------------------------------------------------
part "text and tokens"
if [[ ${#texts[@]} -eq 0 ]]; then
    [[ -s $out/text.txt ]] || scripts/get_text.sh "$out/text.txt"
    texts=("$out/text.txt")
fi
[[ -e $out/tokenizer.json ]] ||
    "$yoke" tokenizer train --vocab 4096 --out "$out/tokenizer.json" "${texts[@]}"
[[ -e $out/train.h5 && -e $out/validation.h5 ]] ||
    "$yoke" tokenize --tokenizer "$out/tokenizer.json" --out "$out/train.h5" \
        --validation "$out/validation.h5" --validation-share 0.05 \
        --paragraphs-per-document 20 "${texts[@]}"

echo "$chosen" >"$out/text_chosen"

# ---- training --------------------------------------------------------------------------------
# train FOLDER STEPS [KEY=VALUE]...: the command; values are YAML, hence the quotes
train_command() {
    local folder=$1 steps=$2
    shift 2
    command=("${launch[@]}" "$yoke" train configs/quickstart.yaml --set "train.run_dir='$folder'"
        --set "data.tokenizer='$out/tokenizer.json'" --set "data.train='$out/train.h5'"
        --set "data.validation='$out/validation.h5'" --set "train.steps=$steps"
        --set "train.threads=$threads")
    for override in "$@"; do command+=(--set "$override"); done
}

last_step() { sed -n 's/.*"kind":"train","step":\([0-9]*\),.*/\1/p' "$run/metrics.jsonl" 2>/dev/null | tail -n 1; }

if [[ ! -s $out/seconds ]]; then
    part "how fast is this machine?"
    rm -rf "$out/timing"
    train_command "$out/timing" 12 schedule.warmup_steps=1 log.interval=4 log.tensorboard=false \
        train.eval_interval=0 checkpoint.interval=0 checkpoint.resume=never
    "${command[@]}" </dev/null >"$out/timing.log" 2>&1 || {
        cat "$out/timing.log" >&2
        refuse "training does not start"
    }
    # seconds a step of the last steps
    awk 'match($0, /"seconds":[0-9.e+-]+/) { s = substr($0, RSTART + 10, RLENGTH - 10) + 0 }
        END { if (s <= 0) exit 1; print s }' "$out/timing/metrics.jsonl" >"$out/seconds.tmp" ||
        refuse "the timing run measured nothing"
    mv "$out/seconds.tmp" "$out/seconds"
    rm -rf "$out/timing"
fi
# a tenth of the time is left for evaluations
steps=$(awk -v minutes="$minutes" '{ n = int(0.9 * 60 * minutes / $1); print n < 80 ? 80 : n }' "$out/seconds")
train_command "$run" "$steps" "schedule.warmup_steps=$((steps / 10))"

# run the command; its exit code in $code.  With a step as argument: stop it there by a signal.
launch_training() {
    code=0
    "${command[@]}" </dev/null > >(tee -a "$out/train.log") 2>&1 &
    local pid=$! signalled=
    if [[ -n ${1-} ]]; then
        while kill -0 "$pid" 2>/dev/null; do
            if [[ -z $signalled && $(last_step) -ge $1 ]]; then
                echo "quickstart: about half way: asking the run to save and stop (SIGUSR1)"
                kill -USR1 "$pid" # mpirun passes it on to all ranks
                signalled=yes
            fi
            sleep 0.2
        done
    fi
    wait "$pid" || code=$?
}

has_checkpoint() { compgen -G "$run/step-*/model.h5" >/dev/null; }

done_steps=$(last_step || true) # there may be no file yet
if [[ -s $out/resumed_at && ${done_steps:-0} -ge $steps ]]; then
    part "already trained: step $done_steps of $steps"
else
    part "training: $steps steps, 2 ranks with $threads thread(s) each, about $minutes minute(s)"
    if ! has_checkpoint; then
        rm -f "$run/metrics.jsonl" # of a start that was cut off before it saved
        launch_training $((steps / 2))
        [[ $code -eq 85 ]] || refuse "the stopped run left with exit code $code, not 85"
        part "starting again: it resumes by itself"
    fi
    launch_training
    [[ $code -eq 0 ]] || refuse "training failed with exit code $code, see $out/train.log"
fi
if [[ ! -s $out/resumed_at ]]; then
    resumed=$(sed -n 's/.*resumed from .*step-0*\([0-9][0-9]*\).*/\1/p' "$out/train.log" | tail -n 1)
    [[ -n $resumed ]] || refuse "the second start did not resume, see $out/train.log"
    echo "$resumed" >"$out/resumed_at"
fi
resumed=$(<"$out/resumed_at")

# ---- what it learned -------------------------------------------------------------------------
part "evaluation on text it has not seen"
evaluation=$("$yoke" eval "$run")
echo "$evaluation"
loss=$(sed -n 's/^validation loss \([0-9.]*\) .*/\1/p' <<<"$evaluation")
unigram=$(sed -n 's/.* unigram \([0-9.]*\).*/\1/p' <<<"$evaluation")
[[ -n $loss && -n $unigram ]] || refuse "the evaluation gave no loss"

part "a sample"
"$yoke" generate "$run" --prompt "The" --tokens 100 --temperature 0.8 --top-k 40 --seed 1

part "where everything lies"
cat <<END
in $out:
  tokenizer.json             the tokenizer, in the Hugging Face form
  train.h5, validation.h5    the token files
  run/                       checkpoints, config.yaml, metrics.jsonl, tensorboard/
  run/loss.svg               the loss curve, for a browser

Next:
  $yoke generate $run --prompt "The"
  $yoke inspect $run
  $yoke config $run/config.yaml
  README.md, "Your own run"
END
echo
awk -v x="$loss" -v u="$unigram" 'BEGIN { exit !(x < u) }' ||
    refuse "validation loss $loss is not below the unigram entropy $unigram (guessing by frequency alone): more minutes, or, if the training loss is far lower, more text"
echo "quickstart: ok, validation loss $loss (unigram $unigram), resumed at step $resumed"
