#!/usr/bin/env bash
# Run 5 steps of every published recipe in configs/, made small by one dial, on made-up token files of
# the form its data comes in.
#   scripts/recipes/smoke.sh [--dial D] [--ranks N] [--out DIR] [RECIPE...]
#   --dial D     divides (32)
#   --ranks N    of mpirun (1)
#   --out DIR    where data and runs go, a folder for each recipe (a temporary one)
#   RECIPE       the name of a file in configs/ without .yaml (all that say "Published for")
# The dial D: layers / D, at least 2 and as many as rope_skip; heads and kv_heads / D, at least 2 and 1;
# head size / D, at least 8; ffn / D, at least 32; sequence length / D, 32 to 64.  Vocabulary, family,
# initial values, optimizer, data sources and their weights stay.  A step has two sequences a rank, warm-up one
# step, the other lengths of the schedule are automatic; stages share the 5 steps, rounded up.
# The last line is "recipes: K of N ran"; exit code 1 unless all ran.
set -euo pipefail

usage() { sed -n '2,14s/^# \{0,1\}//p' "$0"; }
refuse() {
    echo "smoke: $*" >&2
    exit 2
}

dial=32 ranks=1 out=
names=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --dial) [[ ${2-} =~ ^[1-9][0-9]*$ ]] || refuse "--dial needs a whole number above 0" && dial=$2 && shift ;;
        --ranks) [[ ${2-} =~ ^[1-9][0-9]*$ ]] || refuse "--ranks needs a whole number above 0" && ranks=$2 && shift ;;
        --out) [[ -n ${2-} ]] || refuse "--out needs a folder" && out=$(realpath -m "$2") && shift ;;
        -h | --help) usage && exit 0 ;;
        -*) refuse "unknown option $1 (--dial D, --ranks N, --out DIR)" ;;
        *) names+=("$1") ;;
    esac
    shift
done
cd "$(dirname "$0")/../.."
root=$PWD
yoke=${YOKE-$root/build/yoke} # the tests name the binary they test
[[ -x $yoke ]] || refuse "$yoke is not there; build it first (scripts/build.sh)"
if [[ ${#names[@]} = 0 ]]; then
    for file in $(grep -l '^# Published for' configs/*.yaml); do
        names+=("$(basename "$file" .yaml)")
    done
fi
if [[ -z $out ]]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi

# ---- made-up token files -------------------------------------------------------------------------
documents=8 tokens=1024 # to a file

# le WIDTH: whole numbers from the standard input as bytes, little-endian
le() {
    printf "$(awk -v width="$1" '{
        for (i = 0; i < width; i++) {
            printf "\\x%02x", $1 % 256
            $1 = int($1 / 256)
        }
    }')"
}

# ids VOCAB DELIMITER FIRST|LAST: $tokens ids in $documents documents that begin or end with the delimiter
ids() {
    awk -v vocab="$1" -v id="$2" -v where="$3" -v n="$tokens" -v documents="$documents" 'BEGIN {
        each = n / documents
        for (i = 0; i < n; i++) {
            x = (x * 1103 + 12345) % 65536
            at = i % each
            print (at == (where == "first" ? 0 : each - 1)) ? id : (x * 7 + i) % vocab
        }
    }'
}

write_llmc() { # PATH: GPT-2 ids, as llm.c writes them
    { echo 20240520; echo 1; echo $tokens; for _ in {1..253}; do echo 0; done; } | le 4 >"$1"
    ids 50257 50256 first | le 2 >>"$1"
}

write_raw() { # PATH VOCAB EOS: OLMo's .npy, which has no header
    ids "$2" "$3" last | le 4 >"$1"
}

write_datatrove() { # PATH VOCAB EOS
    local width=$((${2} > 65536 ? 4 : 2))
    ids "$2" "$3" last | le $width >"$1"
    seq $((tokens / documents)) $((tokens / documents)) $tokens | le 8 >"$1.index"
    printf 'made-up|%d\n%d\n1 kT' $width $tokens >"$1.metadata"
}

write_megatron() { # PATH without ending, VOCAB: uint16, code 8
    local each=$((tokens / documents))
    ids "$2" 0 last | le 2 >"$1.bin"
    {
        printf 'MMIDIDX\0\0'
        echo 1 | le 8
        printf '\x08'
        echo $documents | le 8
        echo $((documents + 1)) | le 8
        for ((i = 0; i < documents; i++)); do echo $each; done | le 4
        for ((i = 0; i < documents; i++)); do echo $((2 * i * each)); done | le 8
        for ((i = 0; i <= documents; i++)); do echo $i; done | le 8
    } >"$1.idx"
}

write_chat() { # PATH LENGTH: conversations, as JSONL, then tokens
    local folder
    folder=$(dirname "$1")
    for i in {1..40}; do
        printf '{"messages": [{"role": "user", "content": "What is %d and %d?"}, ' "$i" "$((i * 7))"
        printf '{"role": "assistant", "content": "It is %d, I think."}]}\n' "$((i * 8))"
    done >"$folder/chat.jsonl"
    sed 's/[^ a-zA-Z0-9]*//g' "$folder/chat.jsonl" >"$folder/chat.txt"
    "$yoke" tokenizer train --vocab 400 --special '<|endoftext|>' --special '<|im_start|>' \
        --special '<|im_end|>' --out "$folder/tokenizer.json" "$folder/chat.txt"
    "$yoke" tokenize --chat qwen2.5 --loss all --pack "$2" --overlong truncate --tokenizer "$folder/tokenizer.json" \
        --out "$1" "$folder/chat.jsonl"
}

# write_source LINE LENGTH: the files of a line "- {path: ..., weight: ...}" of yoke config; what is the same
# in many sources is made once
write_source() {
    local path vocab id format made file
    vocab=$(sed -n 's/.*vocab_size: \([0-9]*\).*/\1/p' <<<"$1")
    id=$(sed -n 's/.*eos: \([0-9]*\).*/\1/p' <<<"$1")
    format=$(sed -n 's/.*format: \([a-z0-9]*\).*/\1/p' <<<"$1")
    sed 's/, weight:.*//; s/[^"]*"\([^"]*\)"[^"]*/\1\n/g' <<<"$1" | grep . | while read -r path; do
        path=${path//\*/1}
        [[ $format = datatrove ]] && path=${path%/}/part.ds
        mkdir -p "$(dirname "$path")"
        if [[ -z $format ]]; then
            write_chat "$path" "$2"
            continue
        fi
        made=$out/made/$format-$vocab-$id/tokens
        if [[ ! -d ${made%/*} ]]; then
            mkdir -p "${made%/*}"
            "write_$format" "$made" "$vocab" "${id:-0}"
        fi
        for file in "$made"*; do cp "$file" "$path${file#"$made"}"; done
    done
}

# ---- one recipe ----------------------------------------------------------------------------------

# key SECTION NAME: its value in config.yaml, the recipe with every default
key() {
    awk -v section="$1:" -v name="$2:" '/^[a-z]/ {in_it = $1 == section} in_it && $1 == name {print $2; exit}' config.yaml
}

# stage_args STAGES: --set KEY=VALUE of each stage, a line each
stage_args() {
    awk -v dial="$dial" -v steps="$((4 / $1 + 1))" '
        function set(key, value) {print "--set\nstages." name "." key "=" value}
        /^[a-z]/ {staged = $1 == "stages:"}
        !staged {next}
        /^  - name:/ {
            name = substr($3, 2, length($3) - 2)
            set("steps", steps)
        }
        /^    [a-z]/ {section = $1}
        section == "schedule:" && $1 == "warmup_steps:" && $2 > 1 {set("schedule.warmup_steps", 1)}
        section == "parallel:" && $1 ~ /^(dp|tp|cp|pp):$/ {
            set("parallel." substr($1, 1, 2), $1 == "dp:" ? "auto" : 1)
        }
        section == "model:" && $1 == "recompute:" {set("model.recompute", "none")}
        $1 ~ /^(sequence_length|max_positions):$/ {
            n = int($2 / dial)
            set((section == "data:" ? "data." : "model.") substr($1, 1, length($1) - 1),
                n < 32 ? 32 : n > 64 ? 64 : n)
        }' config.yaml
}

at_least() { # A B: the larger
    echo $(($1 > $2 ? $1 : $2))
}

run() {
    local config=$root/configs/$1.yaml layers heads kv head ffn length most line stages of_stages
    "$yoke" config "$config" >config.yaml 2>/dev/null
    layers=$(at_least $(($(key model layers) / dial)) "$(at_least 2 "$(key model rope_skip)")")
    kv=$(at_least $(($(key model kv_heads) / dial)) 1)
    heads=$(at_least $(($(key model heads) / dial / kv * kv)) $((kv == $(key model kv_heads) ? kv : 2 * kv)))
    [[ $(key model kv_heads) = $(key model heads) ]] && kv=$heads
    head=$(at_least $(($(key model head_size) / dial / 2 * 2)) 8)
    ffn=$(at_least $(($(key model ffn) / dial)) 32)
    most=$(($(key data sequence_length) / dial))
    length=$((most < 32 ? 32 : most > 64 ? 64 : most))
    grep '^ *- {path' config.yaml | while read -r line; do write_source "$line" "$length"; done
    local args=(--set model.layers=$layers --set model.heads=$heads --set model.kv_heads=$kv
        --set model.head_size=$head --set model.hidden=$((heads * head)) --set model.ffn=$ffn
        --set model.max_positions=$length --set model.recompute=none
        --set data.sequence_length=$length --set data.tokenizer='""'
        --set train.batch_tokens=0 --set train.batch_sequences=$((2 * ranks))
        --set train.micro_batch=1 --set train.device=cpu --set train.eval_sequences=2
        --set train.run_dir=run --set schedule.warmup_steps=1 --set schedule.warmup_tokens=0
        --set schedule.total_steps=auto --set schedule.total_tokens=0 --set schedule.decay_steps=auto
        --set parallel.dp=auto --set parallel.cp=1 --set parallel.tp=1 --set parallel.pp=1
        --set checkpoint.resume=never --set log.interval=1 --set log.tensorboard=false)
    stages=$(grep -c '^  - name:' config.yaml || true)
    if [[ $stages = 0 ]]; then
        args+=(--set train.steps=5)
    else
        mapfile -t of_stages < <(stage_args "$stages")
        args+=("${of_stages[@]}")
    fi
    if [[ $ranks = 1 ]]; then
        "$yoke" train "$config" "${args[@]}"
    else
        mpirun -n "$ranks" --bind-to none "$yoke" train "$config" "${args[@]}"
    fi
}

# Five steps, each with a finite loss?
ran() {
    [[ $(grep -c '"loss": *[0-9]' run/metrics.jsonl) -ge 5 ]]
}

n_ran=0
for name in "${names[@]}"; do
    [[ -e configs/$name.yaml ]] || refuse "configs/$name.yaml is not there"
    mkdir -p "$out/$name"
    set +e # in a condition, the subshell would go on after errors
    (
        set -e
        cd "$out/$name"
        rm -rf run
        run "$name"
        ran
    ) >"$out/$name/log" 2>&1
    code=$?
    set -e
    if [[ $code = 0 ]]; then
        n_ran=$((n_ran + 1))
        echo "$name: ran"
    else
        echo "$name: failed: $(tail -n 3 "$out/$name/log" | tr '\n' ' ')"
    fi
done
echo "recipes: $n_ran of ${#names[@]} ran"
[[ $n_ran = "${#names[@]}" ]]
