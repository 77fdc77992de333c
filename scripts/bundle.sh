#!/usr/bin/env bash
# Make the relocatable bundle: the program and all it needs beside glibc, for machines without
# packages, compilers or a network.
#   --out DIR     where yoke-VERSION-x86_64/ and its .tar.gz go (build/bundle)
#   --from DIR    take what is built in DIR, instead of building for every GPU architecture
#   --no-tests    without the tests that scripts/gpu_check.sh runs on the target
# CUDA's libraries are not in it: the target's are found at run time (src/device/plugin.c).
set -euo pipefail

refuse() {
    echo "bundle: $*" >&2
    exit 1
}

out=
from=
tests=yes
while [[ $# -gt 0 ]]; do
    case $1 in
        --out | --from)
            [[ -n ${2-} ]] || refuse "$1 needs a folder"
            printf -v "${1#--}" %s "$(realpath -m "$2")"
            shift
            ;;
        --no-tests) tests= ;;
        -h | --help)
            sed -n '2,7s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) refuse "unknown option $1 (--out DIR, --from DIR, --no-tests)" ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # ldconfig is there, which is not in the PATH of Debian's users
out=${out:-build/bundle}

[[ $(uname -m) == x86_64 ]] || refuse "only for x86_64"
for tool in patchelf objdump gcc dpkg mpirun; do
    command -v "$tool" >/dev/null || refuse "$tool is missing: apt-get install patchelf binutils gcc openmpi-bin"
done
system=/usr/lib/x86_64-linux-gnu
[[ -d $system/openmpi/lib/openmpi3 ]] || refuse "needs Debian's Open MPI ($system/openmpi)"

# ---- build -------------------------------------------------------------------------------------
if [[ -z $from ]]; then
    from=build
    scripts/build.sh ${tests:+--tests}
    plugin=build/cuda/all/libyoke_cuda.so
    if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
        scripts/ptxas_report.sh --all | tail -n 1
    else
        rm -f "$plugin"
    fi
else
    plugin=$from/libyoke_cuda.so
fi
[[ -x $from/yoke ]] || refuse "$from/yoke is missing"

version=$("$from/yoke" --version)
version=${version#yoke } version=${version%% *}
name=yoke-$version-x86_64
bundle=$out/$name
rm -rf "$bundle"
modules=$bundle/lib/x86_64-linux-gnu/openmpi/lib/openmpi3
pmix=$bundle/lib/x86_64-linux-gnu/pmix2
mkdir -p "$bundle"/{bin,libexec,etc,lib/{yoke,fallback,hwloc},share/{openmpi,licences},scripts/bench} \
    "$modules" "$pmix"/{lib,share}/pmix
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ---- programs ------------------------------------------------------------------------------------
cp "$from/yoke" "$bundle/libexec/yoke"
cp -L "$(command -v orterun)" "$bundle/libexec/mpirun"
cp -L "$(command -v orted)" "$bundle/libexec/orted"
gcc -O2 scripts/bundle/cma_probe.c -o "$bundle/libexec/cma_probe"
if [[ -e $plugin ]]; then
    cp "$plugin" "$bundle/lib/yoke/"
else
    echo "bundle: without CUDA: $plugin is not built"
fi
if [[ $tests ]]; then
    mkdir -p "$bundle/tests"
    scripts/gpu_check.sh --list >"$bundle/tests/list"
    while read -r test _; do
        [[ -x $from/tests/$test ]] || refuse "$from/tests/$test is not built"
        cp "$from/tests/$test" "$bundle/tests/"
    done <"$bundle/tests/list"
    cp -r tests/fixtures "$bundle/tests/"
fi
# ours only, and before patchelf: strip after it can break a file
find "$bundle" -type f \( -name yoke -o -name cma_probe -o -name 'libyoke*' -o -path '*/tests/test_*' \) \
    -exec strip --strip-unneeded {} +

# ---- Open MPI's modules: what one cluster of Linux machines needs over shared memory and TCP ------
for module in "$system"/openmpi/lib/openmpi3/mca_*.so; do
    case ${module##*/mca_} in
        *_ucx.so | *_ofi.so | *openib* | *_psm* | *usnic* | *monitoring* | *reachable_netlink* | pml_cm.so) ;;
        vprotocol_* | compress_* | atomic_* | memheap_* | scoll_* | spml_* | sshmem_*) ;; # OpenSHMEM
        io_* | fs_* | fbtl_* | fcoll_* | sharedfp_*) ;;                                   # files
        *_flux.so | *_jsm.so | *_simulator.so | *_gridengine.so | *_loadleveler.so | *_tm.so) ;;
        *) cp -L "$module" "$modules/" ;;
    esac
done
cp -L "$system"/pmix2/lib/pmix/pmix_mca_{pcompress_zlib,prm_default}.so "$pmix/lib/pmix/"
cp "$system"/pmix2/share/pmix/help-*.txt "$pmix/share/pmix/"
cp /usr/share/openmpi/help-*.txt "$bundle/share/openmpi/"

# ---- the libraries they need ---------------------------------------------------------------------
binaries() { find "$bundle" -type f \( -name '*.so*' -o -path '*/libexec/*' -o -path '*/tests/test_*' \); }
glibc='^(ld-linux-x86-64|lib(c|m|dl|pthread|rt|resolv|util|anl|nsl|mvec|thread_db|nss_[a-z]*))\.so'
cuda='^lib(cuda|cudart|cublas|cublasLt|cudnn.*|nccl|nvrtc.*|nvJitLink)\.so'
curl='^lib(curl|ssl)\.so' # see below
ldconfig -p >"$work/cache"

licence() { # of the package that a file is from
    local package
    package=$({ dpkg -S "$1" || dpkg -S "${1#/usr}"; } 2>/dev/null | sed -n '1s/:.*//p')
    [[ -z $package || ! -f /usr/share/doc/$package/copyright ]] ||
        cp -L "/usr/share/doc/$package/copyright" "$bundle/share/licences/$package"
}
licence "$(readlink -f "$(command -v orterun)")"

declare -A seen
mapfile -t todo < <(binaries)
while [[ ${#todo[@]} -gt 0 ]]; do
    added=()
    for library in $(objdump -p "${todo[@]}" 2>/dev/null | awk '$1 == "NEEDED" { print $2 }' | sort -u); do
        [[ -z ${seen[$library]-} ]] || continue
        seen[$library]=yes
        [[ ! $library =~ $glibc && ! $library =~ $cuda && ! $library =~ $curl ]] || continue
        file=$(awk -v name="$library" '$1 == name && /x86-64/ { print $NF; exit }' "$work/cache")
        [[ -n $file ]] || refuse "$library is needed and not found"
        folder=$bundle/lib
        # never before the machine's own: CUDA's libraries use them too (etc/env.sh)
        [[ $library != libstdc++.so* && $library != libgcc_s.so* ]] || folder=$bundle/lib/fallback
        cp -L "$file" "$folder/$library"
        added+=("$folder/$library")
        licence "$(readlink -f "$file")"
    done
    todo=("${added[@]}")
done
binaries | xargs chmod u+w

# HDF5 wants libcurl for files in the cloud alone, and libcurl 25 more libraries.  A stub takes its
# place, under a name of its own so that it can hide nobody's libcurl.
hdf5=$(find "$bundle/lib" -name 'libhdf5*.so*')
objdump -T "$hdf5" | awk '/CURL_OPENSSL_4/ { print $NF }' >"$work/functions"
if [[ -s $work/functions ]]; then
    sed 's/.*/long &(void);\nlong &(void)\n{\n    return 2; \/* CURLE_FAILED_INIT *\/\n}/' "$work/functions" >"$work/stub.c"
    echo 'CURL_OPENSSL_4 { global: curl_*; local: *; };' >"$work/stub.map"
    gcc -O2 -shared -fPIC -nostdlib -Wl,-soname,libyoke_no_curl.so -Wl,--version-script="$work/stub.map" \
        -o "$bundle/lib/libyoke_no_curl.so" "$work/stub.c"
    patchelf --replace-needed libcurl.so.4 libyoke_no_curl.so "$hdf5"
fi

# libevent alone needs glibc 2.36
for library in "$bundle"/lib/libevent*.so*; do
    [[ $(objdump -T "$library") == *GLIBC_2.36*arc4random* ]] || continue
    [[ -x $work/symbol_version ]] ||
        gcc -O2 -D_GNU_SOURCE scripts/bundle/symbol_version.c -o "$work/symbol_version"
    gcc -O2 -shared -fPIC -Wl,-soname,libyoke_arc4random.so scripts/bundle/arc4random.c \
        -o "$bundle/lib/libyoke_arc4random.so"
    patchelf --add-needed libyoke_arc4random.so "$library"
    "$work/symbol_version" "$library" GLIBC_2.36 GLIBC_2.2.5
done

# DT_RPATH, not RUNPATH: it comes before LD_LIBRARY_PATH, so that no MPI of the machine gets in
rpath() {
    local path=$1
    shift
    for file in "$@"; do
        [[ ! -f $file ]] || patchelf --force-rpath --set-rpath "$path" "$file"
    done
}
rpath '$ORIGIN/../lib' "$bundle"/libexec/* "$bundle"/tests/test_*
rpath '$ORIGIN' "$bundle"/lib/*.so*
rpath '$ORIGIN/../../../..' "$modules"/*.so "$pmix"/lib/pmix/*.so
[[ ! -e $bundle/lib/yoke/libyoke_cuda.so ]] || patchelf --remove-rpath "$bundle/lib/yoke/libyoke_cuda.so"

# ---- what is read ------------------------------------------------------------------------------------
cp scripts/bundle/env.sh scripts/bundle/openmpi-mca-params.conf "$bundle/etc/"
install -m 755 scripts/bundle/yoke.sh "$bundle/yoke"
install -m 755 scripts/bundle/mpirun.sh "$bundle/mpirun"
install -m 755 scripts/bundle/orted.sh "$bundle/bin/orted"
cp -r configs docs README.md "$bundle/"
cp scripts/gpu_check.sh "$bundle/scripts/"
cp scripts/bench/vs_torch.py "$bundle/scripts/bench/"
needs=$(binaries | grep -v /fallback/ | xargs objdump -T 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)
sed -e "s/@VERSION@/$version/g" -e "s/@GLIBC@/${needs#GLIBC_}/g" scripts/bundle/README.txt >"$bundle/README.txt"

# ---- one file -------------------------------------------------------------------------------------
tar -C "$out" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9 -n >"$work/bundle.tar.gz"
bytes=$(stat -c %s "$work/bundle.tar.gz")
[[ $bytes -le $((60 << 20)) ]] || refuse "the bundle is larger than 60 MiB"
cp "$work/bundle.tar.gz" "$bundle.tar.gz.tmp"
mv "$bundle.tar.gz.tmp" "$bundle.tar.gz" # an older one stays until this one is whole
echo "bundle: $bundle.tar.gz, $((bytes / 1048576)) MiB ($(du -sm "$bundle" | cut -f1) unpacked), for glibc ${needs#GLIBC_} or newer"
