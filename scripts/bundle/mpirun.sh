#!/bin/sh
# mpirun of the bundle.  Ranks on other machines get the variables that steer yoke and the libraries
# below it; what env.sh finds out is found out on each machine.
set -eu
B=$(dirname "$(readlink -f "$0")")
. "$B/etc/env.sh"
for name in $(env | sed -n 's/^\(NCCL_[A-Z0-9_]*\|OMP_[A-Z0-9_]*\|CUDA_[A-Z0-9_]*\|YOKE_[A-Z0-9_]*\)=.*/\1/p'); do
    case $name in
        YOKE_BUNDLE | YOKE_CUDA_LIBDIRS | CUDA_HOME | CUDA_PATH) ;;
        *) set -- -x "$name" "$@" ;;
    esac
done
exec "$B/libexec/mpirun" "$@"
