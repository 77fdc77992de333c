# bad_inputs - what the bad_*.sh tests share: good inputs made once, tools that damage copies of
# them, and the check that a command refuses as documented.
#
# All files a command may see lie in world/; its outputs and exit codes lie in said/.
set -euo pipefail

seconds=${YOKE_REFUSAL_SECONDS:-10} # a refusal takes less; instrumented builds need more
cases=0

fail() {
    echo "$*" >&2
    [ ! -s said/err ] || sed 's/^/  stderr: /' said/err >&2
    exit 1
}

# ---- good inputs ---------------------------------------------------------------------------

# world/: text.txt, t.json, train.h5, valid.h5 and good.yaml, which trains on them into run/
make_inputs() {
    rm -rf world said
    mkdir world said
    cd world
    awk 'BEGIN {
        for (i = 0; i < 400; i++)
            printf "Ox %d pulls log %d%s, and the yoke holds it.\n\n", i, i * 37 % 101,
                i % 3 ? "" : " slowly"
    }' >text.txt
    "$YOKE" tokenizer train --vocab 300 --out t.json text.txt >../said/out
    "$YOKE" tokenize --tokenizer t.json --out train.h5 --validation valid.h5 \
        --validation-share 0.2 --paragraphs-per-document 4 text.txt >../said/out
    cat >good.yaml <<'YAML'
model: {family: llama, layers: 1, hidden: 16, heads: 2, kv_heads: 1, ffn: 32}
data: {tokenizer: t.json, train: train.h5, validation: valid.h5, sequence_length: 16}
train: {run_dir: run, steps: 2, batch_sequences: 4, threads: 1, precision: fp32}
optim: {lr: 1.0e-3}
schedule: {kind: constant}
checkpoint: {interval: 1}
log: {tensorboard: false}
YAML
    cd ..
}

# world/run with checkpoints of steps 1 and 2, of two ranks
make_run() {
    launched train good.yaml
    [ "$(cat said/codes)" = "0 0" ] || fail "the good run failed: codes $(cat said/codes)"
}

# ---- damage --------------------------------------------------------------------------------

flip() { # FILE OFFSET: turn one bit of one byte
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    [ -n "$byte" ] || fail "$1 has no byte $2"
    printf "\\$(printf %03o $((byte ^ 64)))" |
        dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

cut_at() { # FILE BYTES
    [ "$(wc -c <"$1")" -gt "$2" ] || fail "$1 is no longer than $2 bytes"
    truncate -s "$2" "$1"
}

region() { # FILE N: where the N-th large dataset of a sealed HDF5 file begins
    head -c 512 "$1" | tr -d '\0' | sed -n 's/.* regions=\([^ ]*\) .*/\1/p' | cut -d, -f"$2" |
        cut -d+ -f1
}

# ---- running and judging -------------------------------------------------------------------

alone() { # yoke's arguments; one process
    local code=0
    (cd world && exec timeout "$seconds" "$YOKE" "$@") >said/out 2>said/err </dev/null || code=$?
    echo "$code" >said/codes
}

# Two ranks.  Each one's own code is written down and hidden from mpirun, which would end the
# other rank at the first that fails: ranks have to find the way out by themselves.
launched() {
    rm -f said/code.*
    (cd world && exec timeout "$seconds" mpirun -q -n 2 bash -c \
        'code=0; "$YOKE" "$@" || code=$?; echo $code >../said/code.$OMPI_COMM_WORLD_RANK' \
        rank "$@") >said/out 2>said/err </dev/null || fail "mpirun: exit code $?: yoke $*"
    echo "$(cat said/code.0) $(cat said/code.1)" >said/codes
}

snapshot() {
    (cd world && find . -printf '%y %p %s\n' | sort && find . -type f -exec sha256sum {} + | sort)
}

# HOW (alone or launched), exit code, words of the error line, yoke's arguments
refused() {
    local how=$1 code=$2 words=$3 want
    shift 3
    snapshot >said/before
    $how "$@"
    want=$code
    [ "$how" = alone ] || want="$code $code"
    [ "$(cat said/codes)" = "$want" ] || fail "exit codes $(cat said/codes), want $want: yoke $*"
    [ "$(grep -c '^yoke.*error: ' said/err)" = 1 ] || fail "not one line of error: yoke $*"
    ! grep -v '^yoke' said/err || fail "other lines than yoke's own: yoke $*"
    grep '^yoke.*error: ' said/err | grep -qF -- "$words" || fail "want \"$words\": yoke $*"
    snapshot | diff said/before - >&2 || fail "files changed: yoke $*"
    cases=$((cases + 1))
}

# HOW, exit code, words, a file in world/, shell code that damages it as $f, yoke's arguments:
# refused with the damaged file in its place, which is put back afterwards
damaged() {
    local how=$1 code=$2 words=$3 f=world/$4 damage=$5
    shift 5
    cp -a "$f" said/kept
    eval "$damage"
    if [ -f "$f" ] && [ ! -L "$f" ] && cmp -s "$f" said/kept; then fail "no damage: $damage"; fi
    refused "$how" "$code" "$words" "$@"
    rm -rf "$f"
    mv said/kept "$f"
}
