#!/usr/bin/env bash
# verify, diff, inspect, and checkpoint pack, unpack, average: what they write is what was there, what
# they say is so, and bad input changes nothing.   @timeout 120
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs
make_run
cd world
first=run/step-00000001 second=run/step-00000002

quietly() { "$@" >../said/out 2>../said/err; }
expect() { # EXIT-CODE COMMAND...: and all it prints is in said/
    local want=$1 code=0
    shift
    quietly "$@" || code=$?
    [ "$code" -eq "$want" ] || { cat ../said/out; fail "$* gave $code, not $want"; }
}
says() { grep -qe "$1" ../said/out ../said/err || { cat ../said/out; fail "does not say: $1"; }; }

# ---- verify, by one rank and by three --------------------------------------------------------
expect 0 "$YOKE" verify $first run valid.h5
says "$second: every byte is as written"
expect 0 mpirun -n 3 "$YOKE" verify run
[ "$(grep -c 'every byte' ../said/out)" -eq 2 ] || fail "two checkpoints are not two lines"
cp -r run damaged
at=$(($(wc -c <damaged/step-00000002/shard-00001.h5) - 50))
flip damaged/step-00000002/shard-00001.h5 $at
flip damaged/step-00000002/shard-00000.h5 $at
expect 5 mpirun -n 3 "$YOKE" verify damaged
says 'shard-00000.h5: is damaged: exp_avg_sq of parameter'
says 'shard-00001.h5: is damaged: exp_avg_sq of parameter'
says 'damaged/step-00000001: every byte is as written'
expect 5 "$YOKE" verify damaged/step-00000002
says 'shard-00000.h5: is damaged'
says 'shard-00001.h5: is damaged'
cp valid.h5 bad.h5
flip bad.h5 $(($(wc -c <bad.h5) - 1))
expect 4 "$YOKE" verify bad.h5
mkdir empty
expect 5 "$YOKE" verify empty

# ---- diff ------------------------------------------------------------------------------------
expect 0 "$YOKE" diff $first $first
says '^0 of .* tensors differ'
expect 1 "$YOKE" diff $first $second
says '^step *1 -> 2'
says 'exp_avg_sq *model.norm.weight'
expect 0 "$YOKE" diff run $second # a run folder is its newest checkpoint
"$YOKE" train good.yaml --set train.run_dir=one --set optim.lr=0.002 >../said/out 2>&1
expect 1 "$YOKE" diff run one
says 'optim.lr  *0.001 -> 0.002'
says 'train.run_dir'
expect 5 "$YOKE" diff damaged one
expect 5 "$YOKE" diff run empty

# ---- inspect says what a run is ----------------------------------------------------------------
expect 0 "$YOKE" inspect --config $second
for what in recipe_sha256 '"compiler"' '"hosts"' '"libraries"' tokenizer_sha256 'metrics.jsonl' \
    '^validation *loss' '^  lr: 0.001'; do
    says "$what"
done

# ---- pack and unpack ---------------------------------------------------------------------------
expect 0 "$YOKE" checkpoint pack $second packed.h5
expect 0 "$YOKE" verify packed.h5
expect 0 "$YOKE" diff packed.h5 $second
says '^0 of .* tensors differ'
[ "$(h5dump -H packed.h5 | grep -c 'LAYOUT\|VIRTUAL')" -eq 0 ] || fail "packed.h5 is virtual"
h5dump -d /model/model.norm.weight -y -w 1 packed.h5 | sed -n '/DATA {/,/}/p' >../said/packed
h5dump -d /model/model.norm.weight -y -w 1 $second/model.h5 | sed -n '/DATA {/,/}/p' >../said/model
[ -s ../said/model ] && cmp -s ../said/model ../said/packed || fail "h5dump sees other numbers"
expect 0 "$YOKE" checkpoint unpack packed.h5 again
expect 0 "$YOKE" verify again
expect 0 "$YOKE" diff again $second
expect 6 "$YOKE" checkpoint pack $second packed.h5 # nothing is replaced
expect 6 "$YOKE" checkpoint unpack packed.h5 again
cp packed.h5 torn.h5
flip torn.h5 $(($(wc -c <torn.h5) / 2))
expect 5 "$YOKE" verify torn.h5
expect 5 "$YOKE" checkpoint unpack torn.h5 never
[ ! -e never ] || fail "an unpacked damaged file left something"
expect 5 "$YOKE" checkpoint pack damaged/step-00000002 never.h5
[ ! -e never.h5 ] && [ ! -e never.h5.tmp ] || fail "a damaged checkpoint left something"

# what was unpacked goes on as what was packed
"$YOKE" train good.yaml --set train.steps=4 --set train.run_dir=again >../said/out 2>&1
cp -r run same
"$YOKE" train good.yaml --set train.steps=4 --set train.run_dir=same >../said/out 2>&1
expect 0 "$YOKE" diff --tensors again same

# ---- average -----------------------------------------------------------------------------------
expect 0 "$YOKE" checkpoint average mean $first $second
says 'wrote mean/step-00000002'
value() { # CHECKPOINT INDEX: an element of a bias-free norm, as h5dump prints it
    h5dump -d /model/model.norm.weight -y -w 1 -m '%.9g' "$1/model.h5" |
        awk '/DATA {/ { on = 1; next } on' | tr -d ', ' | sed -n "$2p"
}
for i in 1 7 16; do
    awk -v a="$(value $first $i)" -v b="$(value $second $i)" -v m="$(value mean/step-00000002 $i)" \
        'BEGIN { d = m - (a + b) / 2; exit !(a != b && d < 1e-7 && d > -1e-7) }' ||
        fail "element $i of the mean is not the mean"
done
expect 0 "$YOKE" verify mean
expect 0 "$YOKE" checkpoint average same_mean $second $second packed.h5
expect 0 "$YOKE" diff --tensors same_mean $second
expect 0 "$YOKE" inspect mean
says 'average_of'
sed 's/hidden: 16/hidden: 32/; s/run_dir: run/run_dir: wide/' good.yaml >wide.yaml
"$YOKE" train wide.yaml >../said/out 2>&1
expect 5 "$YOKE" checkpoint average never $first wide
says 'is \['
expect 5 "$YOKE" checkpoint average never $first damaged
[ ! -e never ] || [ -z "$(ls -A never)" ] || fail "a mean that failed left something"

# ---- usage -------------------------------------------------------------------------------------
expect 2 "$YOKE" checkpoint
expect 2 "$YOKE" checkpoint fold a b
expect 2 "$YOKE" checkpoint pack a
expect 2 "$YOKE" checkpoint average out $first
expect 2 "$YOKE" diff $first
expect 2 "$YOKE" verify
expect 2 "$YOKE" verify --loud run
