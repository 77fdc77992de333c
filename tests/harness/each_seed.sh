#!/bin/sh
# each_seed.sh N command...: run the command with YOKE_EMULATION_SEED = 1 to N and stop at the first
# seed that fails.  A YOKE_EMULATION_SEED that is set already is the only one: that is how one
# failure is repeated.
n=$1
shift
for seed in ${YOKE_EMULATION_SEED:-$(seq 1 "$n")}; do
    YOKE_EMULATION_SEED=$seed "$@"
    code=$?
    if [ $code -ne 0 ]; then
        [ $code -eq 77 ] || echo "failed with YOKE_EMULATION_SEED=$seed" >&2
        exit $code
    fi
done
