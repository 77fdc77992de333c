#!/usr/bin/env bash
# What the CUDA kernels cost: registers, static shared memory, stack and spills of each, for sm_80
# and sm_90, of all .cu files or of those named.  Fails if a kernel spills that is not listed below,
# or the compiler warns.
#   --all        compile also for every architecture a release ships, warnings as errors
#   --build DIR  where compiled things are kept (build/cuda)
# Exit code 77 where there is no nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."

# kernels that may spill: none is so rare that it would not matter
may_spill='^$'
architectures=(sm_80 sm_90)

all=
folder=build/cuda
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
mkdir -p "$folder/ptxas"

# ---- compile what has changed: a report is kept under the hash of all it depends on ------------
common=$({
    nvcc --version
    find scripts/ptxas_report.sh src/core/*.h src/device/*.h src/nn -not -name '*.c' -not -name '*.cu' \
        -type f -exec sha256sum {} +
} | sha256sum)

compile() { # FILE ARCHITECTURE REPORT
    if ! nvcc -std=c++17 -O3 -DNDEBUG -D_GNU_SOURCE -Isrc -I. -Werror all-warnings -Xptxas -v \
        -arch="$2" -cubin -o /dev/null "$1" >"$3.tmp" 2>&1; then
        head -n 40 "$3.tmp" >&2 # one mistake in a template is reported once an instance
        echo "ptxas_report: $1 does not compile for $2" >&2
        return 1
    fi
    mv "$3.tmp" "$3"
}
export -f compile

reports=()
work=()
[[ ${#files[@]} -gt 0 ]] || mapfile -t files < <(find src parallel optim -name '*.cu' | sort)
for file in "${files[@]}"; do
    for architecture in "${architectures[@]}"; do
        key=$({ echo "$common" && cat "$file"; } | sha256sum | cut -c1-16)
        report=$folder/ptxas/$(basename "$file" .cu).$architecture.$key
        reports+=("$report")
        [[ -s $report ]] && continue
        rm -f "${report%.*}".*
        work+=("$file" "$architecture" "$report")
    done
done
[[ ${#reports[@]} -gt 0 ]] || { echo "ptxas_report: there are no .cu files" >&2 && exit 1; }
if [[ ${#work[@]} -gt 0 ]]; then
    printf '%s\0' "${work[@]}" | xargs -0 -n 3 -P 2 bash -c 'compile "$@"' compile || exit 1
fi

# ---- the table -----------------------------------------------------------------------------
# of a demangled name the arguments go, and what only repeats itself
status=0
for report in "${reports[@]}"; do
    name=${report##*/}
    echo "file ${name%.*}"
    c++filt <"$report"
done | awk -v may_spill="$may_spill" '
    $1 == "file" { split($2, part, "."); file = part[1]; architecture = part[2] }
    /Compiling entry function/ {
        kernel = $0
        sub(/.*entry function .(void )?/, "", kernel)
        sub(/. for .sm_[0-9a-z]*.$/, "", kernel)
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
    [[ -f $folder/all/CMakeCache.txt ]] || ! command -v ninja >/dev/null || generator=(-G Ninja)
    cmake -S . -B "$folder/all" "${generator[@]}" -DYOKE_CUDA=on -DYOKE_CUDA_ARCHITECTURES=all \
        -DYOKE_TESTS=OFF | grep 'CUDA plug-in'
    cmake --build "$folder/all" --target yoke_cuda --parallel "$(nproc)" >"$folder/all.log" 2>&1 || {
        cat "$folder/all.log" >&2
        echo "ptxas_report: the plug-in does not compile for every architecture" >&2
        exit 1
    }
    echo "the plug-in compiles without warnings: $(stat -c %s "$folder/all/libyoke_cuda.so") bytes, $((SECONDS - start)) s"
fi
exit "$status"
