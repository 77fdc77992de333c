#!/usr/bin/env bash
# yoke selfcheck agrees with a layout that is right, says when one rank cannot hold the model, and
# leaves nothing behind; yoke plan tells about a layout without running it.   @timeout 120
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs
sed -i 's/layers: 1/layers: 8/; s/heads: 2, kv_heads: 1/heads: 4, kv_heads: 2/' world/good.yaml

check() { # ranks, yoke's arguments: its code and output
    local ranks=$1
    shift
    code=0
    (cd world && timeout 60 mpirun -q -n "$ranks" "$YOKE" selfcheck good.yaml "$@") \
        >said/out 2>said/err || code=$?
}

check 4 --set parallel.tp=2 --set parallel.pp=2
[ "$code" = 0 ] || fail "exit code $code: $(cat said/out)"
grep -q '^selfcheck: 4 ranks give what one rank gives$' said/out || fail "$(cat said/out)"
grep -q '  model.layers.7.mlp.down_proj.weight$' said/out || fail "not all tensors are listed"
[ ! -e world/run ] || fail "something was left in the run folder"
check 2 --set parallel.tp=2 --set model.heads=1 --set model.kv_heads=1
[ "$code" = 3 ] || fail "an impossible layout: exit code $code"

# a machine on which one rank cannot hold all layers, but two that recompute can
if unshare -m true 2>/dev/null; then
    printf 'MemAvailable: 14000 kB\n' >meminfo
    code=0
    (cd world && unshare -m sh -c 'mount --bind ../meminfo /proc/meminfo && exec "$@"' sh \
        timeout 60 mpirun -q -n 2 "$YOKE" selfcheck good.yaml --set parallel.pp=2 \
        --set model.recompute=full --set data.sequence_length=256 --set train.batch_sequences=8 \
        --set train.micro_batch=8) >said/out 2>said/err || code=$?
    [ "$code" = 0 ] || fail "with little memory: exit code $code: $(cat said/out)"
    grep -q 'one rank cannot hold 8 layers: checked with [42]' said/err || fail "not smaller"
    printf 'MemAvailable: 500 kB\n' >meminfo
    little() {
        (cd world && unshare -m sh -c 'mount --bind ../meminfo /proc/meminfo && exec "$@"' sh \
            timeout 60 "$@") >said/out 2>said/err
    }
    little "$YOKE" train good.yaml --set train.device=cpu --set train.micro_batch=2 && fail "no room, but it trains"
    grep -q 'MB are free; lower train.micro_batch, set model.recompute: full, set checkpoint.async: false, split the model further (parallel.tp, parallel.pp), or use more hosts$' \
        said/err || fail "advice: $(cat said/err)"
    little "$YOKE" train good.yaml --set train.device=cpu --set train.micro_batch=1 --set model.recompute=full \
        --set checkpoint.async=false && fail "no room, but it trains"
    grep -q 'MB are free; split the model further (parallel.tp, parallel.pp), or use more hosts$' said/err || fail "advice: $(cat said/err)"
    little "$YOKE" plan good.yaml --set train.device=cpu || fail "plan"
    grep -q '^this host has 0.5 MB free: enough for 0 of 1 such ranks$' said/out || fail "$(cat said/out)"
    # four ranks that fit only because they share weights, of which this model has many
    large() { "$@" good.yaml --set train.device=cpu --set parallel.dp=4 --set model.vocab_size=100000 --set checkpoint.async=false; }
    (cd world && large "$YOKE" plan) >said/out || fail "plan of a large vocabulary"
    kib=$(awk '$1 == "stage" { all = 4 * $NF } /share weights/ { printf "%d", (all - $(NF - 3) / 2) * 1e6 / 1024 }' said/out)
    printf 'MemAvailable: %d kB\n' "$kib" >meminfo
    large little "$YOKE" plan || fail "plan"
    grep -q 'enough for 4 of 4 such ranks$' said/out || fail "$(cat said/out)"
    large little "$YOKE" plan --set parallel.zero=0 || fail "plan"
    ! grep -q 'share weights\|enough for 4' said/out || fail "$(cat said/out)"
else
    echo "skipped: this machine does not let us pretend that memory is short"
fi

# ---- yoke plan -------------------------------------------------------------------------------
(cd world && "$YOKE" plan good.yaml --set parallel.pp=4 --set parallel.dp=2 --timeline \
    --svg plan.svg) >said/out 2>said/err || fail "plan"
grep -q '^ranks: 8 = dp 2 x cp 1 x tp 1 x pp 4$' said/out || fail "$(cat said/out)"
grep -q '^part 3 on stage 3: layers . to 7, norm and head$' said/out || fail "$(cat said/out)"
grep -q '^stage 0  F0' said/out || fail "no timeline"
grep -q '^  stage 3  *[0-9.]* ' said/out || fail "no memory of the last stage: $(cat said/out)"
grep -q '</svg>' world/plan.svg || fail "no image"
micro_batches() { # what plan says, and what it should say; options
    local said want=$1
    shift
    said=$(cd world && "$YOKE" plan good.yaml --set data.sequence_length=16 \
        --set train.batch_sequences=32 "$@" | grep '^micro-batches')
    [ "$said" = "micro-batches: $want sequences a step" ] || fail "$said with $*, not $want"
}
micro_batches '1 of up to 32' --set train.micro_batch=auto
micro_batches '1 of up to 8' --set train.micro_batch=auto --set parallel.dp=4
micro_batches '1 of up to 8' --set train.micro_batch=32 --set parallel.dp=4
micro_batches '8 of up to 4' --set train.micro_batch=auto --set parallel.pp=2
micro_batches '2 of up to 16' --set train.micro_batch=16 --set parallel.pp=2
(cd world && timeout 60 mpirun -q -n 2 "$YOKE" train good.yaml --set parallel.pp=2 \
    --set train.steps=1 --set train.batch_sequences=2 --set train.micro_batch=2) \
    >said/out 2>said/err || fail "train with one micro-batch: $(cat said/err)"
grep -q 'pipeline: 1f1b, idle [5-9][0-9.]* %; more micro-batches a step would make it less: a smaller train.micro_batch or a larger batch$' said/err ||
    fail "train does not say that stages wait: $(cat said/err)"
refused alone 3 'does not make the 6 ranks' plan good.yaml --ranks 6 --set parallel.pp=4
refused alone 2 'plan: give one CONFIG' plan
echo "selfcheck and plan: ok"
