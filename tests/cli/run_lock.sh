#!/usr/bin/env bash
# Two jobs do not write into one run folder; the lock of one that was killed is no obstacle.   @timeout 120
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
make_inputs
cd world

"$YOKE" train good.yaml --set train.steps=1000000 --set checkpoint.interval=100 \
    --set checkpoint.keep_last=2 >../said/first 2>&1 &
first=$!
trap 'kill -9 $first 2>/dev/null || true' EXIT
for ((i = 0; i < 100; i++)); do
    compgen -G 'run/step-*/model.h5' >/dev/null && break
    sleep 0.1
done
[ -s run/lock ] || fail "a run has no lock"

code=0
mpirun -n 2 "$YOKE" train good.yaml >../said/out 2>../said/err || code=$?
[ "$code" -eq 13 ] || fail "a second job in the folder gave $code, not 13"
grep -q "run/lock: process $first on $(hostname) is training into this folder" ../said/err ||
    fail "it does not say who is there"
kill -0 $first || fail "the first job did not survive the second"

kill -9 $first
wait $first 2>/dev/null || true
[ -s run/lock ] || fail "a killed run took its lock along"
newest=$(ls -d run/step-*/ | tail -n 1 | tr -dc 0-9 | sed 's/^0*//')
"$YOKE" train good.yaml --set train.steps=$((newest + 150)) >../said/out 2>../said/err ||
    fail "it does not go on after a kill"
grep -q 'lock: is stale, of process' ../said/err || fail "it does not say that the lock was stale"
grep -q 'resumed from run/step-' ../said/err || fail "it did not resume"
[ ! -e run/lock ] || fail "a run that ended left its lock"
