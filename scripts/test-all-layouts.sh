#!/usr/bin/env bash
# Compare every layout of up to 8 ranks with one rank: all (dp, cp, tp, pp) with every schedule, ZeRO
# stage, recomputation, with and without sequence parallelism, on six models (tests/train/
# test_layouts.c).  Thousands of cells: hours.  The last line counts.
#   --sample N   only N cells
#   --seed S     another choice of them (default 1)
#   --device D   cpu (default) or cuda: the GPUs of this machine, shared by the ranks
set -euo pipefail
cd "$(dirname "$0")/.."

sample=
seed=1
device=cpu
while [[ $# -gt 0 ]]; do
    case $1 in
        --sample | --seed | --device)
            [[ $# -ge 2 ]] || { echo "test-all-layouts: $1 needs a value" >&2 && exit 2; }
            declare "${1#--}=$2"
            shift
            ;;
        -h | --help)
            sed -n '2,7s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            echo "test-all-layouts: unknown option $1 (try --help)" >&2
            exit 2
            ;;
    esac
    shift
done

scripts/build.sh --tests >&2
export YOKE_LAYOUTS=all YOKE_TEST_DEVICE=$device OMP_NUM_THREADS=1
[[ -z $sample ]] || YOKE_LAYOUTS="$seed $sample"
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1
[[ $(id -u) -ne 0 ]] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

equal=0
all=0
failed=0
for ranks in 1 2 3 4 5 6 7 8; do
    out=$(mpirun -n $ranks build/tests/test_layouts) || failed=1
    line=$(grep '^layouts: ' <<<"$out" || true)
    [[ -n $line ]] || { echo "$out" >&2 && failed=1 && continue; }
    echo "$line"
    read -r _ k _ n _ <<<"$line"
    equal=$((equal + k))
    all=$((all + n))
done
echo "layouts: $equal of $all equal"
[[ $failed -eq 0 && $equal -eq $all ]]
