#!/usr/bin/env bash
# scripts/slurm/train.sbatch under a Slurm of one node that is started here: a run whose time is up, or that
# gets a signal, goes on by itself to the end, with the numbers of one that nothing stopped.  Skipped,
# visibly, where Slurm is not installed or does not start.   @timeout 240   @alone
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
unset "${!OMPI_MCA_@}" # srun places ranks, not these

skip() {
    echo "skipped: $*"
    exit 77
}
for tool in slurmctld slurmd munged mungekey sbatch scontrol; do
    PATH=$PATH:/usr/sbin command -v $tool >/dev/null || skip "there is no $tool"
done
[ "$(id -u)" -eq 0 ] || skip "slurmd wants to be root"
PATH=$PATH:/usr/sbin
make_inputs

# ---- Slurm, all of it in here ------------------------------------------------------------------
rm -rf slurm
mkdir -p slurm/state slurm/spool
here=$PWD/slurm
# a socket's name must be short
run=$(mktemp -d /tmp/yoke-slurm-XXXXXX)
# everything that was started with this configuration, jobs included
ours() { grep -lzsx "SLURM_CONF=$run/slurm.conf" /proc/[0-9]*/environ | cut -d / -f 3 | grep -vx $$ || true; }
end() {
    local pids
    scancel --user=root 2>/dev/null || true
    for ((k = 0; k < 50; k++)); do
        [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
        sleep 0.2
    done
    for signal in TERM KILL; do
        mapfile -t pids < <(ours)
        [ ${#pids[@]} -eq 0 ] || kill -$signal "${pids[@]}" 2>/dev/null || true
        [ $signal = KILL ] || sleep 1
    done
    [ ! -s "$run/munged.pid" ] || kill "$(cat "$run/munged.pid")" 2>/dev/null || true
    rm -rf "$run"
}
trap 'exit 1' INT TERM
trap end EXIT
mungekey --create --keyfile="$here/munge.key" || skip "mungekey failed"
munged --force --key-file="$here/munge.key" --socket="$run/munge" --pid-file="$run/munged.pid" \
    --log-file="$here/munged.log" --seed-file="$here/munge.seed" >"$here/munged.out" 2>&1 ||
    skip "munged does not start: $(tail -n 1 "$here/munged.out")"
export SLURM_CONF=$run/slurm.conf
port=$((20000 + $$ % 20000))
cat >"$run/slurm.conf" <<CONF
ClusterName=yoke
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$run/munge
CredType=cred/munge
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmix
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1
KillWait=5
ReturnToService=2
MessageTimeout=30
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
CONF
slurmctld >"$here/out" 2>&1 || skip "slurmctld does not start: $(tail -n 1 "$here/out")"
slurmd >"$here/out" 2>&1 || skip "slurmd does not start: $(tail -n 1 "$here/out")"
for ((i = 0; i < 100; i++)); do
    [[ $(sinfo -h -o %T 2>/dev/null) == idle ]] && break
    sleep 0.2
done
[[ $(sinfo -h -o %T 2>/dev/null) == idle ]] ||
    skip "the node does not come up: $(tail -n 3 "$here/slurmctld.log" "$here/slurmd.log")"
srun --mpi=list 2>&1 | grep -q pmix || skip "this Slurm has no pmix"

# ---- the runs ------------------------------------------------------------------------------------
cd world
export YOKE OMP_NUM_THREADS=1
steps=(--set train.steps=100000 --set log.interval=1000 --set train.eval_interval=0 --set checkpoint.interval=10000)
numbers() { sed 's/,"machine":.*//' "$1/metrics.jsonl"; }

submit() { # RUN OPTION... [-- OPTION...]: of sbatch, of yoke train
    local name=$1 of_sbatch=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        of_sbatch+=("$1")
        shift
    done
    job=$(sbatch --parsable --ntasks=2 --job-name="$name" "${of_sbatch[@]}" \
        "$YOKE_SOURCE/scripts/slurm/train.sbatch" good.yaml --set train.run_dir="$name" "${steps[@]}" "${@:2}")
    log=$name-$job.log
}
# A requeued job is held back for two minutes, in which its first start goes away for good; an
# administrator can have it start when that is so.
release() {
    local seconds=0
    while scontrol show job "$job" | grep -q 'JobState=PENDING.*Reason=BeginTime'; do
        seconds=$((seconds + 1))
        [ $seconds -lt 4 ] || scontrol update jobid="$job" starttime=now 2>/dev/null || true
        sleep 1
    done
}
wait_for_job() {
    for ((i = 0; i < 600; i++)); do
        state=$(scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p')
        case $state in
            COMPLETED) return ;;
            PENDING) release ;;
            FAILED | CANCELLED | TIMEOUT | NODE_FAIL | OUT_OF_MEMORY)
                tail -n 20 "$log" >&2
                fail "the job is $state"
                ;;
        esac
        sleep 0.2
    done
    tail -n 20 "$log" "$here/slurmctld.log" >&2
    fail "the job is still $state"
}
same() { diff <(numbers plain) <(numbers "$1") || fail "$1 has other numbers than a run that nothing stopped"; }

submit plain
wait_for_job
[ ! -e run/lock ] && grep -q 'step 100000/100000' "$log" || fail "an undisturbed job does not reach its end"
! grep -q 'goes back into the queue' "$log" || fail "an undisturbed job was requeued"

# a signal, as Slurm sends it before the end of the time
submit signalled
for ((i = 0; i < 300; i++)); do
    ! compgen -G 'signalled/step-*/model.h5' >/dev/null || break
    sleep 0.1
done
scancel --signal=USR1 "$job"
wait_for_job
grep -q 'goes back into the queue' "$log" || fail "the job was not requeued"
grep -q 'resumed from signalled/step-' "$log" || fail "the second start did not resume"
same signalled

# the end of the job's time: a minute is the least there is, so the signal is to come 55 s before it; Slurm
# looks every 30 s
submit timed --time=1 --signal=USR1@55 -- --set train.steps=1000000000
for ((i = 0; i < 600; i++)); do
    grep -qs 'resumed from timed/step-' "$log" && break
    release
    sleep 0.2
done
grep -q 'resumed from timed/step-' "$log" || fail "a job whose time is up does not go on"
scancel "$job"
