#!/usr/bin/env bash
# scripts/slurm/train.sbatch under a Slurm of one node that is started here: a run whose time is up, or that
# gets a signal, goes on by itself to the end, with the numbers of one that nothing stopped.  Skipped,
# visibly, where Slurm is not installed or does not start.   @timeout 240   @alone
. "$YOKE_SOURCE/tests/cli/bad_inputs.bash"
unset "${!OMPI_MCA_@}" # srun places ranks, not these

# a command that fails says so, since some of Slurm's do not; and so does a signal
set -o errtrace
trap 'echo "${BASH_SOURCE##*/}, line $LINENO: exit code $?: $BASH_COMMAND" >&2' ERR
for signal in HUP INT TERM USR1 USR2; do
    trap "echo \"a SIG$signal came at: \$BASH_COMMAND\" >&2; exit 1" $signal
done

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
    local code=$? pids
    trap - ERR
    [ $code -eq 0 ] || [ $code -eq 77 ] ||
        tail -n 20 "$here"/slurm*.log "$here"/../world/*.log >&2 || true
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
trap end EXIT
mungekey --create --keyfile="$here/munge.key" || skip "mungekey failed"
munged --force --key-file="$here/munge.key" --socket="$run/munge" --pid-file="$run/munged.pid" \
    --log-file="$here/munged.log" --seed-file="$here/munge.seed" >"$here/munged.out" 2>&1 ||
    skip "munged does not start: $(tail -n 1 "$here/munged.out")"
export SLURM_CONF=$run/slurm.conf
port=$((20000 + $$ % 6000 * 2)) # below those that the kernel gives to clients
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
PropagatePrioProcess=1
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmix
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1
KillWait=5
ReturnToService=2
MessageTimeout=30
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=3 State=UNKNOWN
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
steps=(--set train.steps=40000 --set log.interval=500 --set train.eval_interval=0 --set checkpoint.interval=10000)
declare -A job log # of each run
numbers() { sed 's/,"machine":.*//' "$1/metrics.jsonl"; }

submit() { # RUN OPTION... [-- OPTION...]: of sbatch, of yoke train
    local run=$1 of_sbatch=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        of_sbatch+=("$1")
        shift
    done
    job[$run]=$(nice -n "$nice" sbatch --parsable --job-name="$run" "${of_sbatch[@]}" \
        "$YOKE_SOURCE/scripts/slurm/train.sbatch" good.yaml --set train.run_dir="$run" "${steps[@]}" "${@:2}")
    log[$run]=$run-${job[$run]}.log
}
state() { # RUN: its state and why; nothing if Slurm does not answer this time
    scontrol show job "${job[$1]}" | sed -n 's/.*JobState=\([A-Z_]*\) Reason=\([^ ]*\).*/\1 \2/p' || true
}
completed() { [[ $(state "$1") == COMPLETED* ]]; }
says() { grep -qs "$2" "${log[$1]}"; } # RUN WORDS
trains() { [ -s "$1/metrics.jsonl" ]; } # Slurm may hand on what it logs seconds later
wait_until() { # CONDITION RUN...
    for ((i = 0; i < 600; i++)); do
        ! "$@" || return 0
        case $(state "$2") in
            # A requeued job is held back for two minutes, in which its first start goes away for good; an
            # administrator can have it start when that is so.
            'PENDING BeginTime') sleep 3 && scontrol update jobid="${job[$2]}" starttime=now || true ;;
            COMPLETED*) "$@" && return 0 || fail "$2 is done, but not $*" ;;
            FAILED* | CANCELLED* | TIMEOUT* | NODE_FAIL* | OUT_OF_MEMORY*) fail "job $2 is $(state "$2")" ;;
        esac
        sleep 0.2
    done
    fail "$2 is still $(state "$2"), not yet $*"
}

# The end of a job's time: a minute is the least there is.  Slurm looks every 30 s for signals due in the
# next 30, so this one comes 10 to 40 s after the start; meanwhile the others run, before it.
# It says nothing of tasks: one for the NUMA domain.
nice=19
submit timed --time=1 --signal=USR1@20 -- --set train.steps=1000000000

nice=0
submit plain --ntasks=2
wait_until completed plain
[ ! -e run/lock ] && says plain 'step 40000/40000' || fail "an undisturbed job does not reach its end"
! says plain 'goes back into the queue' || fail "an undisturbed job was requeued"

# a signal, as Slurm sends it before the end of the time
submit signalled --ntasks=2
wait_until trains signalled
scancel --signal=USR1 "${job[signalled]}" || fail "it is too late for a signal: $(state signalled)"
wait_until completed signalled
says signalled 'goes back into the queue' || fail "the job was not requeued"
says signalled 'resumed from signalled/step-' || fail "the second start did not resume"
diff <(numbers plain) <(numbers signalled) || fail "other numbers than those of a run that nothing stopped"

wait_until says timed 'resumed from timed/step-'
scancel "${job[timed]}"
