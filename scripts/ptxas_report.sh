#!/usr/bin/env bash
# What the CUDA kernels cost: registers, static shared memory, stack and spills of each, for every
# architecture that the build is for, as its compiler said; all .cu files or those named.  Builds what
# is not up to date.  Fails if a kernel spills that is not listed below, or the compiler warns.
#   --all        compile also for every architecture a release ships, warnings as errors
#   --build DIR  the build folder (build)
# Exit code 77 where there is no nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."

# kernels that may spill: none is so rare that it would not matter
may_spill='^$'

all=
folder=build
files=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --all) all=yes ;;
        --build)
            folder=${2:?--build needs a folder}
            shift
            ;;
        -h | --help)
            sed -n '2,7s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *.cu)
            [[ -f $1 ]] || { echo "ptxas_report: there is no $1 in $PWD" >&2 && exit 2; }
            files+=("$1")
            ;;
        *)
            echo "ptxas_report: unknown argument $1 (--all, --build DIR, FILE.cu...)" >&2
            exit 2
            ;;
    esac
    shift
done

PATH=$PATH:/usr/local/cuda/bin
if ! command -v nvcc >/dev/null; then
    echo "ptxas_report: skipped, there is no nvcc (on PATH or in /usr/local/cuda/bin)"
    exit 77
fi

# ---- what ptxas said, kept by the build ----------------------------------------------------------
log=$(mktemp)
trap 'rm -f "$log"' EXIT
generator=()
[[ -f $folder/CMakeCache.txt ]] || ! command -v ninja >/dev/null || generator=(-G Ninja)
{
    { [[ -f $folder/CMakeCache.txt ]] || cmake -S . -B "$folder" "${generator[@]}" -DYOKE_CUDA=on; } &&
        cmake --build "$folder" --target yoke_cuda_kernels --parallel "$(nproc)"
} >"$log" 2>&1 || {
    tail -n 60 "$log" >&2
    echo "ptxas_report: the kernels are not built in $folder" >&2
    exit 1
}
reports=()
[[ ${#files[@]} -gt 0 ]] || mapfile -t files < <(find src parallel optim -name '*.cu' | sort)
for file in "${files[@]}"; do reports+=("$folder/cuda/$file.o.ptxas"); done
[[ ${#reports[@]} -gt 0 ]] || { echo "ptxas_report: there are no .cu files" >&2 && exit 1; }

# ---- the table -----------------------------------------------------------------------------
# of a demangled name the arguments go, and what only repeats itself
status=0
for report in "${reports[@]}"; do
    echo "file $(basename "$report" .cu.o.ptxas)"
    c++filt <"$report"
done | awk -v may_spill="$may_spill" '
    $1 == "file" { file = $2 }
    /Compiling entry function/ {
        kernel = architecture = $0
        sub(/.*entry function .(void )?/, "", kernel)
        sub(/. for .sm_[0-9a-z]*.$/, "", kernel)
        gsub(/.* for .|.$/, "", architecture)
        sub(/\([^()]*\)$/, "", kernel)
        gsub(/\(anonymous namespace\)::/, "", kernel)
        gsub(/__nv_bfloat16/, "bf16", kernel)
        gsub(/__half/, "fp16", kernel)
        gsub(/\((bool|int)\)/, "", kernel)
        stack = stores = loads = 0
    }
    /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
    /Used [0-9]+ registers/ {
        registers = $5
        shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH - 11) : 0
        row = sprintf("%-18s %-52s %-6s %9d %7d %6d %7d", file, kernel, architecture, registers,
            shared, stack, stores + loads)
        if (stores + loads > 0 && kernel !~ may_spill) {
            row = row "  SPILLS"
            spilling++
        }
        rows++
        print row | "sort"
    }
    BEGIN {
        printf "%-18s %-52s %-6s %9s %7s %6s %7s\n", "file", "kernel", "", "registers", "shared",
            "stack", "spills"
        fflush()
    }
    END {
        close("sort")
        printf "%d kernels, %d spill\n", rows, spilling
        exit spilling > 0 || rows == 0
    }' || status=1

# ---- every architecture ------------------------------------------------------------------------
if [[ $all ]]; then
    start=$SECONDS
    generator=()
    [[ -f $folder/cuda/all/CMakeCache.txt ]] || ! command -v ninja >/dev/null || generator=(-G Ninja)
    cmake -S . -B "$folder/cuda/all" "${generator[@]}" -DYOKE_CUDA=on -DYOKE_CUDA_ARCHITECTURES=all \
        -DYOKE_TESTS=OFF | grep 'CUDA plug-in'
    cmake --build "$folder/cuda/all" --target yoke_cuda --parallel "$(nproc)" >"$folder/cuda/all.log" 2>&1 || {
        cat "$folder/cuda/all.log" >&2
        echo "ptxas_report: the plug-in does not compile for every architecture" >&2
        exit 1
    }
    echo "the plug-in compiles without warnings: $(stat -c %s "$folder/cuda/all/libyoke_cuda.so") bytes, $((SECONDS - start)) s"
fi
exit "$status"
