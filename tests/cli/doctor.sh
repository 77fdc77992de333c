#!/usr/bin/env bash
# yoke doctor: the report, its exit codes, and what it says about a machine without a driver, without
# the plug-in, and with an emulated device that has faults.
# @timeout 300
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}
unset YOKE_CUDA_PLUGIN YOKE_CUDA_LIBDIRS YOKE_EMULATION_FAULT CUDA_VISIBLE_DEVICES
rm -rf ./*

# run CODE COMMAND...: its output is in out and err
run() {
    local want=$1 got=0
    shift
    "$@" >out 2>err || got=$?
    [ "$got" = "$want" ] || fail "exit code $got, want $want: $* ($(tail -n 20 out err))"
}
says() { grep -qE -- "$1" out || fail "the report lacks \"$1\": $(cat out)"; }
silent() { ! grep -qE -- "$1" out || fail "the report has \"$1\": $(cat out)"; }
# refused: one line on stderr with the words (mpirun adds its own)
refused() {
    [ "$(grep -c '^yoke.*error' err)" = 1 ] || fail "not one error: $(cat err)"
    grep -E '^yoke.*error' err | grep -qE -- "$1" || fail "the error lacks \"$1\": $(cat err)"
}

# --- the command line
run 0 "$YOKE" doctor --help
says '^usage: yoke doctor'
run 2 "$YOKE" doctor --device tpu
refused '--device: tpu is not known; valid: auto, cpu, cuda'
run 2 "$YOKE" doctor --comm pigeon
refused '--comm: pigeon is not known; valid: auto, nccl, mpi'
run 2 "$YOKE" doctor --limit 0
refused '--limit'
run 2 "$YOKE" doctor config.yaml
refused 'takes options only'

# --- one machine
run 0 "$YOKE" doctor --device cpu
for line in '^yoke [0-9.]+$' '^  network +lo 127.0.0.1' '^host .* \(1 rank\)' '^  processor ' \
    '^  cores +this rank may use [0-9]+ of [0-9]+: [0-9]' '^  memory +[0-9.]+ [GT]iB' \
    '^  limits .*locked memory' '^  MPI ' '^  /dev/shm ' '^  single copy ' '^what was tried works'; do
    says "$line"
done
silent 'GPU'
[ ! -s err ] || fail "stderr: $(cat err)"
(
    ulimit -v 8000000
    run 0 "$YOKE" doctor --device cpu
)
says '^  ! the address space is limited'
says '^what was tried works; see the [0-9]+ lines? with !'

# --- ranks
run 0 mpirun -n 3 "$YOKE" doctor --device cpu
says '^host .* \(3 ranks\)'
for rank in 0 1 2; do says "^  $rank +.*, cores .*, no GPU"; done
says '^  all ranks +sum of 16.0 MiB: [0-9.]+ ms, [0-9.]+ GB/s'
says '^    rank 2 +[0-9.]+ +[0-9.]+ +-'
[ "$(grep -c '^  processor' out)" = 1 ] || fail "the host is not described once: $(cat out)"
run 2 mpirun -n 2 "$YOKE" doctor --device tpu
refused 'tpu'

# a rank that never comes: MPI does not start
# shellcheck disable=SC2016 # for the inner shell
run 10 mpirun -n 3 sh -c 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then exec sleep 30; fi
    exec "$YOKE" doctor --device cpu --limit 2'
says '^  network '
refused 'MPI did not start within 2 s: .*btl_tcp_if_include'

# --- no driver, a driver without the plug-in, a plug-in of another version
run 0 "$YOKE" doctor
if grep -q 'there is no NVIDIA driver' out; then
    says '^  GPU +none: cuda: there is no NVIDIA driver'
    run 9 "$YOKE" doctor --device cuda
    refused 'there is no NVIDIA driver .*--device cpu'
    run 9 mpirun -n 2 "$YOKE" doctor --device cuda
    refused 'rank 0 of 2: cuda: there is no NVIDIA driver'

    mkdir -p driver home/bin home/lib/yoke
    cp "$YOKE" home/bin/yoke
    echo 'int x;' >driver.c
    printf 'const char yoke_cuda_version[] = "0.0.9";\nint device_cuda_ops;\n' >plugin.c
    if cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o driver/libcuda.so.1 driver.c; then
        export LD_LIBRARY_PATH=$PWD/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        run 9 home/bin/yoke doctor --device cuda
        refused "the plug-in libyoke_cuda.so is missing; looked in $PWD/home/bin, $PWD/home/bin/../lib/yoke"
        cc -shared -fPIC -o home/lib/yoke/libyoke_cuda.so plugin.c
        run 9 home/bin/yoke doctor --device cuda
        refused "home/bin/../lib/yoke/libyoke_cuda.so belongs to yoke 0.0.9, this program is yoke "
        echo 'damaged' >home/bin/libyoke_cuda.so
        run 9 home/bin/yoke doctor --device cuda
        refused "home/bin/libyoke_cuda.so: file too short"
    fi
fi
unset LD_LIBRARY_PATH

# --- the emulated device
emulated=$(dirname "$YOKE")/tests/libyoke_cuda_emulated.so
[ -e "$emulated" ] || exit 0
export YOKE_CUDA_PLUGIN=$emulated
run 0 "$YOKE" doctor --device cuda
says '^  GPU +0 at 0000:01:00.0: .*compute capability 9.0, 8.0 GiB, of which '
says '^  GPU +7 at 0000:08:00.0'
says '^  versions +driver .*runtime .*cuBLASLt .*NCCL '
says '^  peer access'
says '^  libraries +libyoke_cuda_emulated.so from /'
run 0 mpirun -n 3 "$YOKE" doctor --device cuda
says '^  2 .*GPU 2 at 0000:03:00.0'
says '^vectors in GPU memory over nccl'
[ "$(grep -c '^    rank 2' out)" = 2 ] || fail "not two tables of pairs: $(cat out)"
silent '^  !'
run 0 mpirun -n 2 "$YOKE" doctor --device cuda --comm mpi
says '^vectors in GPU memory over mpi, staged'

fault() { # CODE FAULT ARGUMENT...
    local code=$1
    export YOKE_EMULATION_FAULT=$2
    shift 2
    run "$code" "$@"
    unset YOKE_EMULATION_FAULT
}
fault 0 no_device "$YOKE" doctor
says '^  GPU +none: cuda: there is a driver but no GPU is visible'
fault 9 old_driver "$YOKE" doctor --device cuda
refused 'the NVIDIA driver is too old'
fault 0 devices=2,peer=no mpirun -n 3 "$YOKE" doctor
says '^  ! ranks 0 and 2 are both on GPU 0000:01:00.0 of .*parallel.share_gpu: true'
says "^  ! some GPUs cannot reach each other's memory"
says '^vectors in GPU memory over mpi, staged'
fault 0 nccl_init mpirun -n 2 "$YOKE" doctor
says '^  ! NCCL does not work.*NCCL_P2P_DISABLE=1'
fault 10 nccl_init mpirun -n 2 "$YOKE" doctor --comm nccl
fault 9 fault=cast mpirun -n 2 "$YOKE" doctor
# rank 2 stops answering, on a slow machine after the sums, on a fast one among them: whoever meets
# it says so
fault 10 nccl_hang=2,nccl_after=8 mpirun -n 3 "$YOKE" doctor --limit 3
refused '(no answer within 3 s between rank [01] .* and rank 2 .*|the sum over all 3 ranks did not end within 3 s) over nccl: .*NCCL_P2P_DISABLE=1'
