# Sourced with B=<the bundle's folder> by its commands: what a process of the bundle needs to know,
# worked out on the machine it runs on.  The commands below need no more than a POSIX shell, sed,
# awk, df and readlink.

# mpirun's ranks inherit all this
if [ "${YOKE_BUNDLE:-}" != "$B" ]; then

    # The MPI of the machine must not steer ours: container images export its settings.  (orted gets
    # those of our mpirun as arguments.)
    for name in $(env | sed -n 's/^\(OPAL_[A-Z_]*\|OMPI_MCA_[A-Za-z0-9_]*\|PMIX_MCA_[A-Za-z0-9_]*\)=.*/\1/p'); do
        [ "${YOKE_KEEP_MPI_SETTINGS:-}" ] || unset "$name"
    done
    export YOKE_BUNDLE="$B"
    export OPAL_PREFIX="$B" OPAL_SYSCONFDIR="$B/etc" HWLOC_PLUGINS_PATH="$B/lib/hwloc"
    export PMIX_LIBDIR="$B/lib/x86_64-linux-gnu/pmix2/lib" PMIX_DATADIR="$B/lib/x86_64-linux-gnu/pmix2/share"
    [ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

    # Reading another rank's memory is the fastest way for large messages, but many containers forbid it
    "$B/libexec/cma_probe" || export OMPI_MCA_btl_vader_single_copy_mechanism=none
    # Open MPI wants 4 MiB a rank in /dev/shm, and leaves shared memory out where there is less
    shm=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
    [ "${shm:-0}" -ge 65536 ] || export OMPI_MCA_btl_vader_backing_directory="${TMPDIR:-/tmp}"

    # A PyTorch brings CUDA's libraries.  The program looks into the usual places itself; only the
    # Python on the path knows of its own.  It is asked where torch lies, not made to load it.
    if [ -z "${YOKE_CUDA_LIBDIRS:-}" ] && command -v python3 >/dev/null 2>&1; then
        packages=$(python3 -c 'from importlib.util import find_spec
for name in ("nvidia", "torch"):
    spec = find_spec(name)
    if spec:
        print(list(spec.submodule_search_locations)[0].rpartition("/")[0])
        break' 2>/dev/null) || packages=
        for folder in "$packages"/nvidia/*/lib "$packages/torch/lib"; do
            [ -n "$packages" ] && [ -d "$folder" ] || continue
            export YOKE_CUDA_LIBDIRS="${YOKE_CUDA_LIBDIRS:+$YOKE_CUDA_LIBDIRS:}$folder"
        done
    fi

    # libstdc++ and libgcc_s are the machine's, because CUDA's libraries use them too, unless it has
    # none or one older than that of gcc 11
    newest=$(for file in /usr/lib/x86_64-linux-gnu/libstdc++.so.6 /lib/x86_64-linux-gnu/libstdc++.so.6 \
        /usr/lib64/libstdc++.so.6 /usr/lib/libstdc++.so.6; do
        [ ! -e "$file" ] || readlink -f "$file"
    done | sed -n 's/.*\.so\.6\.0\.\([0-9][0-9]*\)$/\1/p' | sort -n | tail -n 1)
    if [ "${newest:-0}" -lt 29 ]; then
        export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$B/lib/fallback"
    fi
fi
