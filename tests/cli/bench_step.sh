#!/bin/bash
# What a step consists of adds up to its time, on one rank and on two; every operation has a rate.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
options=("$YOKE_SOURCE/configs/tiny-gpt2.yaml" --batch 2 --tokens 32 --steps 3 --threads 1 --folder "$PWD"
    --device cpu --precision fp32 --set model.vocab_size=300)

# all the seconds of the parts, less those of the step
sums_up() {
    tr ',{' '\n\n' <"$1" | awk -F': ' '
        /"step_seconds"/ { step = $2 + 0 }
        /"seconds"|"loader"|"communication"|"rest"/ { sum += $2; if ($1 ~ /"rest"/) rest = $2 }
        END { if (!(step > 0 && rest >= -1e-4 && rest < step && (sum - step)^2 < 1e-8)) exit 1 }'
}
for ranks in 1 2; do
    mpirun -n $ranks --bind-to none --oversubscribe "$YOKE" bench step "${options[@]}" --json >step.json
    sums_up step.json || { echo "parts of a step on $ranks ranks do not add up:" && cat step.json && exit 1; }
    for part in '"qkv forward 64x' '"mlp up dw 64x' '"attention_bwd"' '"adamw_update"' '"gemm_share"'; do
        grep -qF "$part" step.json || { echo "a step on $ranks ranks has no $part:" && cat step.json && exit 1; }
    done
done
"$YOKE" bench step "${options[@]}" >step.txt
grep -q 'head dx 64x300x' step.txt && grep -q 'page faults in a step' step.txt
"$YOKE" bench ops "${options[@]}" >ops.txt
grep -q '^adamw .* MB .* of a copy' ops.txt
