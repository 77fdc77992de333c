#!/usr/bin/env bash
# scripts/gpu_check.sh runs through on the emulated device, and says so; and a failure shows.
# @timeout 600
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

build=$(dirname "$YOKE")
export YOKE_CUDA_PLUGIN=$build/tests/libyoke_cuda_emulated.so
if [[ ! -e $YOKE_CUDA_PLUGIN ]]; then
    echo "skipped: $YOKE_CUDA_PLUGIN is not built"
    exit 77
fi
check() { "$YOKE_SOURCE/scripts/gpu_check.sh" --build "$build" --quick --out report >out 2>&1; }

rm -f report
check || fail "$(cat out)"
grep -q '^gpu_check: [0-9]* passed, 0 failed, 1 skipped' report || fail "$(tail -n 3 report)"
for part in doctor 'test_bias ' 'train cuda-4-ranks' 'resumed as cpu' 'bench ops' 'tokens/s'; do
    grep -q "$part" report || fail "the report lacks \"$part\""
done

# where no GPU can be used, nothing but the doctor is tried
echo "no library" >broken.so
if YOKE_CUDA_PLUGIN=$PWD/broken.so check; then fail "a broken plug-in passed: $(cat out)"; fi
grep -q '^failed with exit code 9: doctor' report || fail "$(cat report)"
grep -q '^gpu_check: yoke finds no GPU' report || fail "$(cat report)"
grep -q '^gpu_check: 0 passed, 1 failed' report || fail "$(tail -n 3 report)"
