#!/usr/bin/env bash
# Try to lose a run: kill it, cut its power, let the file system fail, damage its checkpoints, change
# its layout.  docs/reliability.md says what each part does.  The last line counts.
#   --kills N    kills at random instants (200)
#   --flips N    damaged bytes and cut files (500)
#   --layouts N  pairs of layouts, one saving and the other going on (30)
#   --stride N   of the calls that change the disk, try every N-th (1: all)
#   --seed S     other instants, bytes and layouts (1)
#   --jobs N     so many at a time (the cores there are)
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/.." && pwd)

kills=200
flips=500
layouts=30
stride=1
seed=1
jobs=$(nproc)
case_args=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --kills | --flips | --layouts | --stride | --seed | --jobs)
            [[ ${2-} =~ ^[0-9]+$ ]] || { echo "faults: $1 needs a number" >&2 && exit 2; }
            declare "${1#--}=$2"
            shift
            ;;
        --case) # of this script's own: one case in $YOKE_FAULTS_WORK
            shift
            case_args=("$@")
            break
            ;;
        -h | --help)
            sed -n '2,9s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            echo "faults: unknown option $1 (try --help)" >&2
            exit 2
            ;;
    esac
    shift
done

build=${YOKE_FAULTS_BUILD:-$source_dir/build}
yoke=$build/yoke
library=$build/tests/libyoke_faults.so
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none
[[ $(id -u) -ne 0 ]] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

limit=120     # seconds after which a run counts as hanging
interval=20   # steps between saves
long=400      # steps of a run that is killed
short=4       # steps of a run with two saves
work=${YOKE_FAULTS_WORK-}

# ---- runs ------------------------------------------------------------------------------------------

# RANKS FOLDER OPTION...: a run in FOLDER/run, its words in FOLDER/log
train() {
    local ranks=$1 folder=$2 launch=()
    shift 2
    [[ $ranks -eq 1 ]] || launch=(mpirun -n "$ranks")
    timeout -s KILL $limit "${launch[@]}" "$yoke" train "$work/faults.yaml" \
        --set train.run_dir="$folder/run" "$@" >>"$folder/log" 2>&1
}
long_run=(--set "train.steps=$long" --set "checkpoint.interval=$interval" --set checkpoint.keep_last=3)
short_run=(--set "train.steps=$short" --set checkpoint.interval=2 --set model.layers=1
    --set checkpoint.keep_last=1)

# FILE: what metrics.jsonl says, without the times
numbers() { sed 's/,"machine":.*//' "$1/run/metrics.jsonl"; }

newest() { # FOLDER: the step of the newest finished checkpoint, 0 if there is none
    local found
    found=$(compgen -G "$1/run/step-*/model.h5" | sort | tail -n 1 | sed 's/.*step-0*//; s/\/.*//')
    echo "${found:-0}"
}

# FOLDER REFERENCE: is the run that ended in FOLDER the one that was never disturbed?
same_run() {
    [[ $(newest "$1") -eq $(newest "$2") ]] || { echo "it ends with step $(newest "$1")" && return 1; }
    "$yoke" diff --tensors "$1/run" "$2/run" >"$1/diff" 2>&1 || { cat "$1/diff" && return 1; }
    diff <(numbers "$1") <(numbers "$2") >"$1/diff" || { head -n 4 "$1/diff" && return 1; }
}

# ---- one case each; the last line is "PART ok" or "PART FAILED: why" -----------------------------------

random() { # LOW HIGH: a whole number in between; the state is bash's own, seeded a case
    echo $(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1)))
}

# Wait until a save is under way that was not there before, at most 3 s.
wait_for_save() { # FOLDER
    local until=$((SECONDS + 3)) have step
    have=$(printf %08d "$(newest "$1")")
    while [[ $SECONDS -lt $until ]]; do
        for step in "$1"/run/step-*; do
            [[ -d $step && ! -e $step/model.h5 && ${step##*step-} > $have ]] && return
        done
    done
}

in_session() { pgrep -s "$1" "${@:2}" || true; }

# INDEX: a kill at a random instant, of a random process, of a run of 1, 2 or 4 ranks; then on to the end
case_kill() {
    RANDOM=$((seed * 1000 + $1))
    local ranks_of=(1 2 2 4) victims=(rank rank rank mpirun all) victim ranks folder=$work/kill-$1
    ranks=${ranks_of[$((RANDOM % 4))]}
    victim=${victims[$((RANDOM % 5))]}
    mkdir "$folder"
    setsid bash -c "$(declare -f train); $(declare -p long_run work yoke limit)
        train $ranks $folder \"\${long_run[@]}\"" &
    local session=$! took
    took=$(cat "$work/reference-$ranks/milliseconds")
    sleep "$(awk -v ms="$(random 100 "$took")" 'BEGIN { print ms / 1000 }')"
    if [[ $((RANDOM % 3)) -gt 0 ]]; then
        wait_for_save "$folder"
        sleep "0.0$(printf %02d "$(random 0 20)")"
    fi
    local pids=()
    case $victim in
        rank) mapfile -t pids < <(in_session $session -x yoke | shuf -n 1 --random-source=<(yes "$1")) ;;
        mpirun) mapfile -t pids < <(in_session $session -x mpirun) ;;
        all) mapfile -t pids < <(in_session $session) ;;
    esac
    [[ ${#pids[@]} -gt 0 ]] || mapfile -t pids < <(in_session $session -x yoke)
    [[ ${#pids[@]} -eq 0 ]] || kill -9 "${pids[@]}" 2>/dev/null || true
    for ((i = 0; i < limit * 10; i++)); do
        [[ -n $(in_session $session -x yoke) ]] || break
        sleep 0.1
    done
    wait $session 2>/dev/null || true
    [[ -z $(in_session $session -x yoke) ]] || { echo "kill FAILED: ranks are left $limit s later" && return; }
    local when=between-saves
    [[ -z $(compgen -G "$folder/run/step-*/*.tmp") ]] || when=in-a-save
    for f in "$folder"/run/step-*/; do [[ ! -d $f || -e $f/model.h5 ]] || when=in-a-save; done
    [[ ${#pids[@]} -gt 0 ]] || when=after-the-end
    local done_steps committed have why
    done_steps=$(sed -n 's/.*"kind":"train","step":\([0-9]*\),.*/\1/p' "$folder/run/metrics.jsonl" 2>/dev/null |
        tail -n 1)
    committed=$(sed -n 's/.*saved .*step-0*\([0-9]*\):.*/\1/p' "$folder/log" | tail -n 1)
    have=$(newest "$folder")
    if [[ $have -lt ${committed:-0} ]]; then
        echo "kill FAILED: step $committed was saved and $have is there"
    elif [[ $((${done_steps:-0} - have)) -gt $((2 * interval)) ]]; then
        # one interval, and the one during which the save goes on
        echo "kill FAILED: $done_steps steps were done and $have is there"
    elif ! train "$ranks" "$folder" "${long_run[@]}"; then
        echo "kill FAILED: it does not go on: $(tail -n 2 "$folder/log")"
    elif ! why=$(same_run "$folder" "$work/reference-$ranks"); then
        echo "kill FAILED: $why"
    else
        rm -r "$folder"
        echo "kill ok $ranks $victim $when"
    fi
}

# WHAT RANKS VICTIM CALL [again]: WHAT happens at the CALL-th call of rank VICTIM that changes the disk.
# `again`: of a run that saves a step which is there already, damaged.
case_call() {
    local what=$1 ranks=$2 victim=$3 call=$4 again=${5-} folder=$work/call-$1-$2-$3-$4-${5-} code=0 why
    mkdir "$folder" "$folder/backup"
    if [[ -n $again ]]; then
        cp -r "$work/again-$ranks/run" "$folder/run"
    fi
    LD_PRELOAD=$library YOKE_FAULTS_ROOT=$folder/run YOKE_FAULTS_BACKUP=$folder/backup \
        YOKE_FAULTS_RANK=$victim YOKE_FAULTS="$what@$call" train "$ranks" "$folder" "${short_run[@]}" ||
        code=$?
    local part=$what
    case $what in
        kill) part=crash ;;
        EIO | ENOSPC | short) part=error ;;
    esac
    if [[ $part == error && $code -ne 0 && $code -ne 6 ]]; then
        echo "$part FAILED: exit code $code of $*: $(tail -n 2 "$folder/log")"
    elif [[ $part != error && $code -eq 0 ]]; then
        echo "$part FAILED: the run survived $*"
    elif ! train "$ranks" "$folder" "${short_run[@]}"; then
        echo "$part FAILED: it does not go on after $*: $(tail -n 2 "$folder/log")"
    elif ! why=$(same_run "$folder" "$work/short-$ranks"); then
        echo "$part FAILED: $*: $why"
    elif ! "$yoke" inspect --verify "$folder/run" >"$folder/diff" 2>&1; then
        echo "$part FAILED: $*: $(tail -n 1 "$folder/diff")"
    else
        rm -r "$folder"
        echo "$part ok"
    fi
}

# Writing fails from the CALL-th call on: the run ends, what was saved before is whole, and it goes on
# when there is room again.
case_full() {
    local call=$1 folder=$work/full-$1 code=0 why have
    mkdir "$folder"
    LD_PRELOAD=$library YOKE_FAULTS_ROOT=$folder/run YOKE_FAULTS="ENOSPC@$call-1000000" \
        train 1 "$folder" "${short_run[@]}" || code=$?
    have=$(newest "$folder")
    # the last calls only remove what is no longer wanted
    if [[ $code -ne 6 && ! ($code -eq 0 && $have -eq $short) ]]; then
        echo "error FAILED: exit code $code with a full disk: $(tail -n 2 "$folder/log")"
    elif [[ $have -gt 0 ]] && ! "$yoke" inspect --verify "$folder/run" >"$folder/diff" 2>&1; then
        echo "error FAILED: $(tail -n 1 "$folder/diff")"
    elif ! train 1 "$folder" "${short_run[@]}" || ! why=$(same_run "$folder" "$work/short-1"); then
        echo "error FAILED: it does not go on after a full disk: ${why-}"
    else
        rm -r "$folder"
        echo "error ok"
    fi
}

# INDEX: one byte of a checkpoint changed, or one of its files cut; at every 25th a run has to pass it over
case_flip() {
    RANDOM=$((seed * 1000 + $1))
    local folder=$work/flip-$1 files file bytes at what byte code=0
    cp -r "$work/good" "$folder"
    files=("$folder"/run/step-*0"$((2 * interval))"/*)
    file=${files[$(($1 % ${#files[@]}))]}
    bytes=$(stat -c %s "$file")
    case $((RANDOM % 4)) in # the seal, the structure, anywhere
        0) at=$(random 0 511) ;;
        1) at=$(random 512 8191) ;;
        *) at=$(random 0 $((bytes - 1))) ;;
    esac
    [[ $at -lt $bytes ]] || at=$((bytes - 1))
    if [[ $((RANDOM % 5)) -eq 0 ]]; then
        what="cut to $at bytes"
        truncate -s $at "$file"
    else
        byte=$(od -An -tu1 -j "$at" -N 1 "$file" | tr -d ' ')
        what="byte $at"
        printf "\\x$(printf %02x $((byte ^ (1 << RANDOM % 8))))" |
            dd of="$file" bs=1 seek="$at" conv=notrunc status=none
    fi
    "$yoke" inspect --verify "$(dirname "$file")" >"$folder/out" 2>&1 || code=$?
    if [[ $code -ne 5 ]]; then
        echo "flip FAILED: ${file##*/}, $what: exit code $code"
    elif [[ $(($1 % 25)) -ne 0 ]]; then
        echo "flip ok"
    elif ! train 1 "$folder" --set "train.steps=$((2 * interval + 1))" ||
        ! grep -q "refused: .*${file##*/}" "$folder/log" ||
        ! grep -q "resumed from .*/step-0*$interval\$" "$folder/log"; then
        echo "flip FAILED: ${file##*/}, $what: a run did not go back: $(tail -n 3 "$folder/log")"
    else
        echo "flip ok"
    fi
    rm -r "$folder"
}

layout_table=(
    '1 dp: 1' '1 dp: 1, zero: 0' '1 dp: 1, bucket_mb: 1' '2 dp: 2, zero: 0' '2 dp: 2, zero: 1' '2 dp: 2, zero: 2'
    '2 tp: 2' '2 tp: 2, sequence: false' '2 cp: 2, zero: 1' '2 cp: 2, zero: 2' '2 pp: 2, schedule: gpipe' '2 pp: 2, schedule: 1f1b'
    '2 pp: 2, schedule: interleaved, chunks: 2' '2 pp: 2, schedule: zero_bubble' '2 pp: 2, stages: "1,3"'
    '3 dp: 3, zero: 2' '3 tp: 3' '3 pp: 3' '3 cp: 3' '4 dp: 4' '4 tp: 2, dp: 2, zero: 2' '4 tp: 2, pp: 2'
    '4 pp: 2, dp: 2, zero: 2' '4 cp: 2, tp: 2' '4 pp: 4' '4 cp: 2, pp: 2, zero: 1' '4 dp: 2, cp: 2, zero: 2')

# INDEX: a few steps under one layout, saved; loaded and saved by another one
case_layout() {
    RANDOM=$((seed * 1000 + $1))
    local n=${#layout_table[@]} folder=$work/layout-$1 a b
    a=${layout_table[$((RANDOM % n))]}
    b=$a
    while [[ $b == "$a" ]]; do b=${layout_table[$((RANDOM % n))]}; done
    mkdir "$folder" "$folder/b"
    if ! train "${a%% *}" "$folder" --set train.steps=3 --set "parallel={${a#* }}" ||
        ! train "${b%% *}" "$folder/b" --set train.steps=3 --set "parallel={${b#* }}" \
            --set "checkpoint.resume=$folder/run"; then
        echo "layout FAILED: $a, then $b: $(cat "$folder/b/log" "$folder/log" 2>/dev/null | tail -n 3)"
    elif ! "$yoke" diff --tensors "$folder/run" "$folder/b/run" >"$folder/diff" 2>&1; then
        echo "layout FAILED: $a, then $b: $(tail -n 3 "$folder/diff")"
    elif [[ $(newest "$folder/b") -ne 3 ]]; then
        echo "layout FAILED: $a, then $b: step $(newest "$folder/b")"
    else
        rm -r "$folder"
        echo "layout ok"
    fi
}

# A run folder of 4 MB that fills up in the middle of the run and is emptied again later.
case_tmpfs() {
    local folder=$work/tmpfs run code=0 before
    mkdir -p "$folder/run"
    mount -t tmpfs -o size=4m none "$folder/run"
    train 1 "$folder" --set train.steps=3000 --set checkpoint.interval=200 --set checkpoint.keep_last=1 \
        --set checkpoint.max_failures=100 --set log.interval=50 &
    run=$!
    while [[ $(newest "$folder") -eq 0 ]]; do sleep 0.02; done
    dd if=/dev/zero of="$folder/run/filler" bs=64k status=none 2>"$folder/dd"
    for ((i = 0; i < 200; i++)); do
        grep -q 'is not saved: .*No space left' "$folder/log" && break
        sleep 0.02
    done
    before=$folder/run/step-$(printf %08d "$(newest "$folder")")
    "$yoke" inspect --verify "$before" >"$folder/out" 2>&1 || code=$?
    rm "$folder/run/filler"
    if [[ $code -ne 0 ]]; then
        echo "error FAILED: a full disk took the checkpoint along: $(tail -n 1 "$folder/out")"
    elif ! grep -q 'is not saved: .*No space left' "$folder/log"; then
        echo "error FAILED: the disk was not full in time"
    elif ! wait $run || [[ $(newest "$folder") -ne 3000 ]]; then
        echo "error FAILED: step $(newest "$folder") after a full disk: $(tail -n 2 "$folder/log")"
    else
        echo "error ok"
    fi
    wait $run
    umount "$folder/run"
}

if [[ ${#case_args[@]} -gt 0 ]]; then
    set +e # what fails says so
    "case_${case_args[0]}" "${case_args[@]:1}"
    exit 0
fi

# ---- the campaign -----------------------------------------------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/yoke-faults-XXXXXX")
export YOKE_FAULTS_WORK=$work
keep=
trap 'umount "$work/tmpfs/run" 2>/dev/null || true; [[ -n $keep ]] || rm -rf "$work"' EXIT

stop() {
    echo "faults: $1" >&2
    [[ ! -s $2 ]] || tail -n 20 "$2" >&2
    exit 1
}

prepare() {
    awk 'BEGIN {
        for (i = 0; i < 600; i++)
            printf "Ox %d pulls log %d%s, and the yoke holds it.\n\n", i, i * 37 % 101,
                i % 3 ? "" : " slowly"
    }' >"$work/text.txt"
    "$yoke" tokenizer train --vocab 290 --out "$work/t.json" "$work/text.txt" >"$work/log" 2>&1 &&
        "$yoke" tokenize --tokenizer "$work/t.json" --out "$work/train.h5" \
            --paragraphs-per-document 4 "$work/text.txt" >"$work/log" 2>&1 ||
        stop "no token files" "$work/log"
    cat >"$work/faults.yaml" <<YAML
model: {family: llama, layers: 4, hidden: 24, heads: 6, kv_heads: 3, ffn: 40}
data: {tokenizer: $work/t.json, train: $work/train.h5, sequence_length: 12}
train: {run_dir: run, steps: 3, batch_sequences: 8, micro_batch: 1, threads: 1, device: cpu, precision: fp32}
optim: {lr: 1.0e-3}
schedule: {kind: constant}
parallel: {timeout_seconds: 20}
checkpoint: {interval: 0}
log: {interval: 1, tensorboard: false}
YAML
}

# Runs that nothing disturbs.
make_references() {
    local n begin
    for n in 1 2 4; do
        mkdir "$work/reference-$n"
        begin=$(date +%s%3N)
        train $n "$work/reference-$n" "${long_run[@]}" ||
            stop "an undisturbed run fails" "$work/reference-$n/log"
        echo $(($(date +%s%3N) - begin)) >"$work/reference-$n/milliseconds"
    done
    for n in 1 2; do
        mkdir "$work/short-$n" "$work/again-$n"
        train $n "$work/short-$n" "${short_run[@]}" || stop "a short run fails" "$work/short-$n/log"
        # steps 2 and 4 are there, and 4 is damaged: it is made again, under other names
        train $n "$work/again-$n" "${short_run[@]}" --set checkpoint.keep_last=0 ||
            stop "a short run fails" "$work/again-$n/log"
        printf x | dd of="$work/again-$n/run/step-00000004/model.h5" bs=1 seek=600 conv=notrunc status=none
    done
    mkdir "$work/good"
    train 2 "$work/good" --set train.steps=$((2 * interval)) --set checkpoint.interval=$interval ||
        stop "a run fails" "$work/good/log"
}

# RANKS VICTIM [again]: how many calls change the disk
count_calls() {
    local folder=$work/count
    rm -rf "$folder"
    mkdir "$folder"
    [[ -z ${3-} ]] || cp -r "$work/again-$1/run" "$folder/run"
    LD_PRELOAD=$library YOKE_FAULTS_ROOT=$folder/run YOKE_FAULTS_RANK=$2 \
        YOKE_FAULTS_TRACE=$folder/trace train "$1" "$folder" "${short_run[@]}" ||
        stop "a traced run fails" "$folder/log"
    wc -l <"$folder/trace"
}

list_cases() {
    local i n what
    for ((i = 1; i <= kills; i++)); do echo "kill $i"; done
    for ranks_victim in '1 0' '2 0' '2 1'; do
        for again in '' again; do
            # shellcheck disable=SC2086
            n=$(count_calls $ranks_victim $again)
            # what libhdf5 puts off, it may forget to report: no stride for the last model.h5
            [[ $ranks_victim != '1 0' || -n $again || $stride -eq 1 ]] ||
                sed -n 's/^\([0-9]*\) write .*4.model.h5.tmp/call EIO 1 0 \1/p' "$work/count/trace"
            for ((i = 1; i <= n; i += stride)); do
                echo "call power $ranks_victim $i $again"
                [[ $ranks_victim == '1 0' ]] || continue
                echo "call kill $ranks_victim $i $again"
                for what in EIO ENOSPC short; do echo "call $what $ranks_victim $i $again"; done
                [[ -n $again ]] || echo "full $i"
            done
        done
    done
    for ((i = 1; i <= flips; i++)); do echo "flip $i"; done
    for ((i = 1; i <= layouts; i++)); do echo "layout $i"; done
}

count() { grep -c "^$1" "$work/results" || true; }

report() { # PART WORDS
    local n
    n=$(count "$1 ")
    [[ $n -eq 0 ]] || printf '%-46s %5d of %5d\n' "$2" "$(count "$1 ok")" "$n"
}

[[ -n ${YOKE_FAULTS_BUILD-} ]] || "$source_dir/scripts/build.sh" --tests >&2
[[ -x $yoke && -e $library ]] || stop "no $yoke or $library" /dev/null
prepare
make_references
list_cases | sed 's/ *$//' >"$work/cases" # xargs would join lines that end in a blank
: >"$work/results"
if [[ $(id -u) -eq 0 ]] && mkdir -p "$work/probe" && mount -t tmpfs none "$work/probe" 2>/dev/null; then
    umount "$work/probe"
    "$0" --case tmpfs >>"$work/results"
else
    echo "skipped: a full file system (needs root and mount)"
fi
xargs -P "$jobs" -L 1 "$0" --seed "$seed" --case <"$work/cases" >>"$work/results" 2>"$work/errors" ||
    stop "a case broke off" "$work/errors"
[[ $(wc -l <"$work/cases") -le $(wc -l <"$work/results") ]] || stop "cases are missing" "$work/errors"

grep FAILED "$work/results" | head -n 20 >&2 || true
report kill 'kills at random instants'
for when in in-a-save between-saves after-the-end; do
    n=$(grep -c "^kill ok .* $when" "$work/results" || true)
    [[ $n -eq 0 ]] || printf '    %-42s %5d\n' "${when//-/ }" "$n"
done
report crash 'kills before every call that changes the disk'
report power 'power cuts before every such call'
report error 'such calls that fail, or a full disk'
report flip 'flipped bytes and cut files'
report layout 'pairs of layouts'
survived=$(($(count 'kill ok') + $(count 'crash ok') + $(count 'power ok')))
tried=$(($(count 'kill ') + $(count 'crash ') + $(count 'power ')))
code=0
if grep -q FAILED "$work/results"; then
    keep=1
    code=1
    echo "what failed is in $work" >&2
fi
echo "faults: $survived of $tried kills survived, $(count 'flip ok') of $(count 'flip ') corruptions found"
exit $code
