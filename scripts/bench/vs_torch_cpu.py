#!/usr/bin/env python3
"""Time GPT-2 124M training steps of yoke and of eager PyTorch alternately on this machine's CPU.

usage: vs_torch_cpu.py [--yoke build/yoke] [--config configs/gpt2-124m.yaml] [--batch 4]
                       [--tokens 512] [--threads 2] [--rounds 5]      (needs: pip install torch)

A step is forward, backward, clipping of the global norm and AdamW in fp32.  PyTorch gets its
scaled_dot_product_attention and its fused AdamW.  Each round times both programs, so that what
else the machine does falls on both; the figures are medians over the rounds.  The last line is
`vs torch: fp32 R`, R being yoke's tokens/s over PyTorch's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

LAYERS, HIDDEN, HEADS, VOCAB, POSITIONS = 12, 768, 12, 50257, 1024


def torch_steps(batch, tokens, threads, steps):
    """Seconds of each step, in this process."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
            self.attn, self.proj = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
            self.up, self.down = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)

        def forward(self, x):
            B, T, C = x.shape
            q, k, v = self.attn(self.ln_1(x)).split(C, dim=2)
            heads = [t.view(B, T, HEADS, C // HEADS).transpose(1, 2) for t in (q, k, v)]
            y = F.scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
            return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))

    class GPT2(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(VOCAB, HIDDEN), nn.Embedding(POSITIONS, HIDDEN)
            self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
            self.ln_f = nn.LayerNorm(HIDDEN)

        def forward(self, ids, targets):
            x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
            logits = F.linear(self.ln_f(self.blocks(x)), self.wte.weight)
            return F.cross_entropy(logits.view(-1, VOCAB), targets.view(-1))

    model = GPT2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    ids = torch.randint(0, VOCAB, (batch, tokens))
    targets = torch.randint(0, VOCAB, (batch, tokens))
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        model(ids, targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"version": torch.__version__, "seconds": seconds, "peak_rss_bytes": peak}


def run(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--yoke", default="build/yoke")
    p.add_argument("--config", default="configs/gpt2-124m.yaml")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=3, help="timed steps a program and round")
    p.add_argument("--torch-only", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.torch_only:  # two steps to warm up
        print(json.dumps(torch_steps(a.batch, a.tokens, a.threads, a.steps + 2)))
        return
    sizes = ["--batch", str(a.batch), "--tokens", str(a.tokens), "--threads", str(a.threads),
             "--steps", str(a.steps)]
    torch_command = [sys.executable, __file__, "--torch-only", *sizes]
    yoke_command = [a.yoke, "bench", "step", a.config, "--json", *sizes]
    per_step = a.batch * a.tokens
    rates = {"torch": [], "yoke": []}
    for i in range(a.rounds):
        t, y = run(torch_command), run(yoke_command)
        rates["torch"].append(per_step / statistics.median(t["seconds"][2:]))
        rates["yoke"].append(y["tokens_per_second"])
        print(f"round {i + 1}: torch {t['version']} {rates['torch'][-1]:.1f} tokens/s, "
              f"{t['peak_rss_bytes'] / 1e6:.0f} MB; yoke ({y['isa']}) "
              f"{rates['yoke'][-1]:.1f} tokens/s, {y['peak_rss_bytes'] / 1e6:.0f} MB of "
              f"{y['planned_bytes'] / 1e6:.0f} planned; GEMM {y['gemm_peak'] / 1e9:.0f} GFLOP/s",
              flush=True)
    torch_rate, yoke_rate = (statistics.median(rates[k]) for k in ("torch", "yoke"))
    print(f"median: torch {torch_rate:.1f} tokens/s, yoke {yoke_rate:.1f} tokens/s")
    print(f"vs torch: fp32 {yoke_rate / torch_rate:.2f}")


if __name__ == "__main__":
    main()
