#!/usr/bin/env bash
# The relocatable bundle runs on a machine that has nothing but a C library and busybox, without a
# network: tokenizer, tokens, training on two ranks, resume, evaluation.   @timeout 300
set -euo pipefail

fail() {
    echo "$*" >&2
    exit 1
}
skip() {
    echo "skipped: $*"
    exit 77
}

[[ $(uname -m) == x86_64 ]] || skip "bundles are for x86_64"
for tool in patchelf objdump busybox unshare chroot; do
    command -v "$tool" >/dev/null || skip "$tool is missing (scripts/install_deps.sh --tests)"
done
if ldd "$(command -v busybox)" >/dev/null 2>&1; then skip "busybox is not the static one"; fi
enter=(unshare --mount --net --pid --fork --uts --ipc)
[[ $(id -u) -eq 0 ]] || enter+=(--map-root-user)
"${enter[@]}" mount -t tmpfs tmpfs /tmp 2>/dev/null || skip "unshare is not permitted here"
[[ -d /usr/lib/x86_64-linux-gnu/openmpi/lib/openmpi3 ]] || skip "needs Debian's Open MPI"

# ---- the bundle, out of the build that is tested -----------------------------------------------------
rm -rf out root
"$YOKE_SOURCE/scripts/bundle.sh" --from "$(dirname "$YOKE")" --out out >log 2>&1 || fail "$(cat log)"
cat log
[[ $(getconf GNU_LIBC_VERSION) != 'glibc 2.36' ]] || grep -q 'for glibc 2\.34 or newer' log ||
    fail "on Debian 12 it wants a newer glibc than the README says"
[[ $(ls out/*.tar.gz | wc -l) -eq 1 ]] || fail "not one archive: $(ls out)"

# ---- an empty machine ---------------------------------------------------------------------------------
mkdir -p root/{bin,lib/x86_64-linux-gnu,lib64,dev,proc,sys,tmp,etc,home}
for command in $(busybox --list); do ln -s busybox "root/bin/$command"; done
cp --remove-destination "$(command -v busybox)" root/bin/busybox
for library in ld-linux-x86-64 libc libm libdl libpthread librt libresolv libutil libnss_files; do
    for file in /lib/x86_64-linux-gnu/"$library".so.*; do
        [[ ! -e $file ]] || cp -L "$file" root/lib/x86_64-linux-gnu/
    done
done
ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 root/lib64/
echo 'root:x:0:0::/home:/bin/sh' >root/etc/passwd
echo '127.0.0.1 localhost bare' >root/etc/hosts
mkdir "root/srv" && mkdir "root/srv/a b"
tar xzf out/*.tar.gz -C "root/srv/a b"
mv "root/srv/a b"/yoke-* "root/srv/a b/yoke"

cat >root/try.sh <<'END'
set -eu
cd /tmp
y="/srv/a b/yoke"
[ "$(find / -xdev -name 'libmpi*' -o -xdev -name 'libhdf5*' -o -xdev -name 'libdnnl*' | grep -v '^/srv/' | wc -l)" = 0 ]
awk 'BEGIN {
    srand(7)
    split("the of and to a in that it was he for on are with as his they be at one have", word)
    for (i = 0; i < 400; i++) {
        for (k = 0; k < 40; k++) printf "%s ", word[int(rand() * 21) + 1]
        printf "\n\n"
    }
}' >text.txt
"$y/yoke" tokenizer train --vocab 300 --out t.json text.txt
"$y/yoke" tokenize --tokenizer t.json --out train.h5 --validation valid.h5 --validation-share 0.1 \
    --paragraphs-per-document 2 text.txt
cat >tiny.yaml <<'YAML'
model: {family: llama, layers: 2, hidden: 32, heads: 4, kv_heads: 2, ffn: 64}
data: {tokenizer: t.json, train: train.h5, validation: valid.h5, sequence_length: 32}
train: {run_dir: run, steps: 6, batch_sequences: 8, eval_interval: 0}
optim: {lr: 1.0e-3}
schedule: {kind: cosine, warmup_steps: 2}
checkpoint: {interval: 4}
log: {interval: 1, tensorboard: false}
YAML
# a steering variable of another MPI, a library path with other libraries, a current folder of its own
export OMPI_MCA_pml=ucx OPAL_PREFIX=/opt/other
"$y/mpirun" -n 2 "$y/yoke" train tiny.yaml --set train.steps=4
"$y/mpirun" -n 2 "$y/yoke" train tiny.yaml 2>&1 | tee second
grep -q 'resumed from .*step-0*4' second
[ "$(grep -c '"kind":"train"' run/metrics.jsonl)" = 6 ]
"$y/yoke" eval run
"$y/yoke" doctor >doctor
grep -q 'GPU.*there is no NVIDIA driver' doctor
PATH="$y:$PATH" yoke generate run --prompt "the" --tokens 5
# every library but glibc is the bundle's
if LD_TRACE_LOADED_OBJECTS=1 LD_LIBRARY_PATH="$y/lib/fallback" "$y/libexec/yoke" |
    grep '=>' | grep -v '=> /srv/a b/yoke/\|=> /lib/x86_64-linux-gnu/lib\(c\|m\|dl\|pthread\|rt\|resolv\|util\)\.so'; then
    echo "libraries that are not the bundle's" >&2
    exit 1
fi
echo "bundle: ok"
END

# private mounts, process ids, host name, and a network of its own with nothing but the loopback
cat >enter.sh <<'END'
set -eu
mount --make-rprivate /
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount -t tmpfs -o mode=755 tmpfs root/dev
mkdir root/dev/shm
mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
for name in null zero random urandom; do
    touch root/dev/$name
    mount --bind /dev/$name root/dev/$name
done
busybox ip link set lo up
busybox hostname bare
exec chroot root /bin/env -i PATH=/bin HOME=/home TERM=dumb /bin/sh /try.sh
END
"${enter[@]}" sh enter.sh >tried 2>&1 || {
    cat tried >&2
    fail "the bundle does not run in an empty root"
}
tail -n 12 tried
[[ $(tail -n 1 tried) == "bundle: ok" ]] || fail "it did not run to its end"
rm -rf out root
