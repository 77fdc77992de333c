#!/usr/bin/env bash
# Run every fuzz target for so many seconds (60), eight at a time.  Seeds come from
# tests/fuzz/corpus/TARGET; what is found new is kept in build-fuzz/corpus/TARGET, and an input
# that fails in build-fuzz/TARGET-*.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1-60}

scripts/install_deps.sh --tests
export CCACHE_DISABLE=1
options=(-DCMAKE_C_COMPILER=clang -DYOKE_FUZZ=ON -DYOKE_TESTS=OFF)
if [[ ! -f build-fuzz/CMakeCache.txt ]]; then
    command -v ninja >/dev/null && options+=(-G Ninja)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake -S . -B build-fuzz "${options[@]}" >"$log" 2>&1 || { cat "$log" >&2 && exit 1; }

targets=()
for source in tests/fuzz/fuzz_*.c; do
    [[ -e $source ]] && targets+=("$(basename "$source" .c)")
done
if [[ ${#targets[@]} -eq 0 ]]; then
    echo "fuzz: no targets in tests/fuzz" >&2
    exit 1
fi
cmake --build build-fuzz --parallel "$(nproc)" --target "${targets[@]}"

# leaks are reported; libraries that keep memory until exit are suppressed like in the tests
fuzz_one() {
    local target=$1 corpus=build-fuzz/corpus/$1 seeds=()
    mkdir -p "$corpus"
    [[ -d tests/fuzz/corpus/$target ]] && seeds=("tests/fuzz/corpus/$target")
    if build-fuzz/tests/fuzz/"$target" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="build-fuzz/$target-" -print_final_stats=1 \
        "$corpus" "${seeds[@]}" >"build-fuzz/$target.log" 2>&1; then
        echo "fuzz: $target ok, $(sed -n 's/^stat::number_of_executed_units: *//p' \
            "build-fuzz/$target.log") inputs"
    else
        tail -n 60 "build-fuzz/$target.log" >&2
        echo "fuzz: $target failed, see build-fuzz/$target.log" >&2
        return 1
    fi
}

failed=0
for ((i = 0; i < ${#targets[@]}; i += 8)); do
    pids=()
    for target in "${targets[@]:i:8}"; do
        fuzz_one "$target" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
done
exit "$failed"
