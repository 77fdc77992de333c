#!/usr/bin/env python3
"""Time training steps of yoke and of PyTorch alternately on this machine's CPU, fp32 and bf16.

usage: vs_torch_cpu.py [--yoke build/yoke] [--threads 2] [--rounds 5] [--steps 3] [--models NAME,...]
                       [--modes eager,compile] [--precisions fp32,bf16]   (needs: pip install torch)

  124m       GPT-2 124M, 4 sequences of 512 tokens
  124m-1024  GPT-2 124M, 8 of 1,024
  6x384      6 layers, 384 wide, 32 of 256, vocabulary of 65 characters
  4x128      4 layers, 128 wide, 12 of 64, vocabulary of 65 characters

How, is said in vs_torch.py.  At the end stand a table, yoke's tokens/s over PyTorch's and its resident
memory at the peak over PyTorch's, and the line `vs torch: fp32 R bf16 R` of the first model against
the faster of PyTorch's modes.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vs_torch  # noqa: E402

GPT2 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../configs/gpt2-124m.yaml")
SMALL = "model.vocab_size=65,model.layers={},model.hidden={},model.heads={}"
MODELS = {
    "124m": f"{GPT2}:4:512",
    "124m-1024": f"{GPT2}:8:1024",
    "6x384": f"{GPT2}:32:256:" + SMALL.format(6, 384, 6),
    "4x128": f"{GPT2}:12:64:" + SMALL.format(4, 128, 4),
}
SMALL_STEPS = {"4x128": 20}  # they take milliseconds


def words(text):
    return text.split(",")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--yoke", default="build/yoke")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=3, help="timed steps a program and round")
    p.add_argument("--models", type=words, default=["124m"], metavar=",".join(MODELS))
    p.add_argument("--modes", type=words, default=["eager", "compile"])
    p.add_argument("--precisions", type=words, default=["fp32", "bf16"])
    a = p.parse_args()
    unknown = [m for m in a.models if m not in MODELS]
    if unknown:
        p.error(f"no model {unknown[0]!r}; there are {', '.join(MODELS)}")
    a.device, a.attention, a.overrides = "cpu", None, []
    steps, table, last = a.steps, [], []
    for model in a.models:
        case = vs_torch.parse_case(MODELS[model])
        a.steps = max(steps, SMALL_STEPS.get(model, 0))
        for a.precision in a.precisions:
            rates, bytes_used = vs_torch.compare(a, case)
            for mode in a.modes:
                table.append(f"{model:10} {a.precision} {mode:8} {rates['yoke']:10.1f} tokens/s "
                             f"{rates['yoke'] / rates[mode]:6.2f} x; memory "
                             f"{bytes_used['yoke'] / bytes_used[mode]:.2f} x")
            if model == a.models[0]:
                best = max(rates[mode] for mode in a.modes)
                last.append(f"{a.precision} {rates['yoke'] / best:.2f}")
    print("\n".join(table))
    print("vs torch: " + " ".join(last))


if __name__ == "__main__":
    main()
