#!/usr/bin/env bash
# The fault campaign in short: docs/reliability.md has the figures of the long one.   @timeout 300
set -euo pipefail
YOKE_FAULTS_BUILD=$(dirname "$YOKE") "$YOKE_SOURCE/scripts/faults.sh" --kills 6 --flips 50 \
    --layouts 3 --stride 35 --seed 1 >out
cat out
tail -n 1 out | grep -qx 'faults: \([0-9]*\) of \1 kills survived, 50 of 50 corruptions found'
