#!/usr/bin/env bash
# The plug-in wants nothing that the program and the libraries it names do not offer, hides what is
# its own, needs no C++ runtime; and it loads, as far as a machine without a driver can tell.
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}

plugin=$(dirname "$YOKE")/libyoke_cuda.so
if [[ ! -e $plugin ]]; then
    echo "skipped: $plugin is not built (no CUDA toolkit)"
    exit 77
fi

needed=$(objdump -p "$plugin" | awk '$1 == "NEEDED" { print $2 }')
if grep -vE '^(libcublasLt|libnccl|libc|libm|libdl|libpthread|librt|ld-linux-x86-64)\.so(\.[0-9]+)?$' <<<"$needed"; then
    fail "it needs these libraries, which no one expects"
fi

# offered: by the program, the libraries that are loaded with it, and those that the plug-in names
{
    nm -D --defined-only "$YOKE"
    { ldd "$YOKE" && ldd "$plugin"; } | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' |
        sort -u | xargs -n 1 nm -D --defined-only
} | awk '{ sub(/@.*/, "", $NF); print $NF }' | sort -u >offered
nm -D --undefined-only "$plugin" | awk '$1 == "U" { sub(/@.*/, "", $2); print $2 }' | sort -u >wanted
[[ -s wanted ]] || fail "nm lists nothing"
grep -q '^status_set$' wanted || fail "it does not use the program's status_set"
comm -13 offered wanted >missing
[[ ! -s missing ]] || fail "nobody offers: $(tr '\n' ' ' <missing)"

nm -D --defined-only "$plugin" | awk '{ print $NF }' | sort >exported
if grep -vE '^((device_cuda|nn_cuda|comm_nccl)_ops|yoke_cuda_[a-z_]+)$' exported; then
    fail "it exports these names, which may clash with others"
fi
for table in device_cuda_ops nn_cuda_ops yoke_cuda_version; do
    grep -q "^$table\$" exported || fail "it does not export $table"
done

# with the toolkit's stand-in for the driver it loads, and CUDA itself answers
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
stub=$(realpath "$(dirname "$(realpath "$nvcc")")/../lib64/stubs/libcuda.so" 2>/dev/null) || stub=
if [[ -e $stub ]]; then
    rm -rf driver && mkdir driver && ln -s "$stub" driver/libcuda.so.1
    code=0
    LD_LIBRARY_PATH=$PWD/driver "$YOKE" bench step "$YOKE_SOURCE/configs/tiny-gpt2.yaml" \
        --set model.vocab_size=64 --device cuda >out 2>err || code=$?
    [[ $code -eq 9 ]] && grep -q cudaErrorStubLibrary err ||
        fail "exit code $code with the stub of the driver, want 9: $(cat out err)"
fi
