#!/usr/bin/env bash
# Two hosts on one machine: network namespaces with a cable (veth) between them, and mpirun that starts
# ranks on both over TCP.  Tensor parallelism stays inside a host, data and pipeline parallelism go
# between them, and the losses are those of one rank.  Skipped, visibly, where namespaces are not
# permitted.   @timeout 180
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"

skip() {
    echo "skipped: $*"
    exit 77
}

if [ -z "${YOKE_TEST_FIRST_HOST-}" ]; then
    for tool in unshare nsenter ip mpirun; do
        command -v "$tool" >/dev/null || skip "there is no $tool"
    done
    unshare -m -n -u true 2>/dev/null || skip "this machine does not let us make namespaces"
    unshare -n sh -c 'ip link add cable type veth peer name cable2' 2>/dev/null ||
        skip "this machine does not let us make network devices"
    make_inputs
    exec env YOKE_TEST_FIRST_HOST=1 unshare -m -n -u bash "$0"
fi

# ---- inside: this is the first host ----------------------------------------------------------
hostname ox1
unshare -n -u sleep 170 &
other=$!
trap 'kill $other 2>/dev/null || true' EXIT
sleep 0.3
on_other() { nsenter -t $other -n -u "$@"; }
on_other hostname ox2
ip link set lo up
ip link add cable type veth peer name cable2
ip link set cable2 netns $other
ip addr add 10.77.0.1/24 dev cable
ip link set cable up
on_other ip link set lo up
on_other ip addr add 10.77.0.2/24 dev cable2
on_other ip link set cable2 up
printf '127.0.0.1 localhost\n10.77.0.1 ox1\n10.77.0.2 ox2\n' >hosts
mount --make-rprivate /
mount --bind hosts /etc/hosts
printf 'ox1 slots=4\nox2 slots=4\n' >hostfile

# what mpirun calls to start its other half there
mkdir -p bin
cat >bin/remote <<SH
#!/bin/sh
while [ "\$1" = -x ] || [ "\$1" = -q ]; do shift; done
shift # the host: there is one
exec nsenter -t $other -n -u env -i PATH="\$PATH" HOME="\$HOME" sh -c "\$*"
SH
chmod +x bin/remote

both() { # NAME, yoke's arguments: a run on both hosts
    local name=$1
    shift
    (cd world && timeout 60 mpirun -n 8 --hostfile ../hostfile --map-by slot --bind-to none \
        --mca plm_rsh_agent "$PWD/../bin/remote" --mca btl tcp,self \
        --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
        -x YOKE -x OMP_NUM_THREADS=1 "$YOKE" train good.yaml --set train.run_dir="$name" "$@") \
        >"said/$name" 2>&1 || {
        cat "said/$name" >&2
        fail "$name failed"
    }
}

losses() { grep -o '"loss": *[0-9.]*' "world/$1/metrics.jsonl" | grep -o '[0-9.]*$'; }

sed -i 's/layers: 1/layers: 4/; s/heads: 2, kv_heads: 1/heads: 4, kv_heads: 2/; s/steps: 2/steps: 4/' world/good.yaml
sed -i 's/checkpoint: {interval: 1}/checkpoint: {interval: 0}/' world/good.yaml
(cd world && "$YOKE" train good.yaml --set train.run_dir=one --set log.interval=1) >said/one 2>&1 || fail "one rank failed"

both tp_dp --set parallel.tp=4 --set log.interval=1
both mixed --set parallel.tp=2 --set log.interval=1
both dp_pp --set parallel.tp=2 --set parallel.pp=2 --set log.interval=1
both pp --set parallel.tp=4 --set parallel.pp=2 --set log.interval=1
for run in tp_dp mixed dp_pp pp; do
    grep -q 'host ox1: ranks 0' "said/$run" || fail "$run: ranks are not on ox1: $(cat "said/$run")"
    grep -q 'host ox2: ranks 4' "said/$run" || fail "$run: ranks are not on ox2: $(cat "said/$run")"
    paste <(losses one) <(losses "$run") | awk '
        { d = $1 - $2; if (d < 0) d = -d; if (d > 2e-6 * $1) { print $0; bad = 1 } n++ }
        END { exit bad || n == 0 }' || fail "$run: other losses than one rank's"
done
# tensor parallelism inside a host: its ranks are neighbours
grep -q 'rank 0: host ox1, dp 0 cp 0 tp 0 pp 0' said/pp || fail "$(cat said/pp)"
grep -q 'rank 3: host ox1, dp 0 cp 0 tp 3 pp 0' said/pp || fail "$(cat said/pp)"
grep -q 'rank 4: host ox2, dp 0 cp 0 tp 0 pp 1' said/pp || fail "$(cat said/pp)"
# of two hosts with two data-parallel ranks each, those of one have weights together
grep -q 'weights .* one copy for 2 ranks of a host' said/mixed || fail "$(cat said/mixed)"
grep -q "memory of the 4 ranks of rank 0's host: [0-9]" said/mixed || fail "$(cat said/mixed)"
echo "two hosts: ok"
