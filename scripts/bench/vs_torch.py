#!/usr/bin/env python3
"""Time training steps of yoke and of PyTorch alternately on this machine.

usage: vs_torch.py [--yoke build/yoke] [--device cpu|cuda] [--precision fp32|bf16|fp16]
                   [--case CONFIG:BATCH:TOKENS]... [--modes eager,compile]
                   [--attention auto|flash|cudnn] [--threads 2] [--rounds 5] [--steps N]
                   [--set KEY=VALUE]...                              (needs: pip install torch)

  cpu   (default) GPT-2 124M, 4 sequences of 512 tokens, fp32, eager
  cuda  GPT-2 124M, 64 x 1024, and Llama 1.3B, 4 x 4096, bf16; eager, and torch.compile with the
        flash attention of scaled_dot_product_attention

A step is forward, backward, clipping of the global norm and AdamW, on the model that `yoke config`
prints.  PyTorch gets what is usual for speed: one product for q, k and v and one for gate and up,
scaled_dot_product_attention, fused AdamW; below fp32 autocast over fp32 weights, which is yoke's
precision too.  Each round times all programs, one after the other and alone, so that what else
the machine does falls on all; the figures are medians over the rounds.  The last lines are
`vs torch: PRECISION R (MODEL, MODE)`, R being yoke's tokens/s over PyTorch's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

CASES = {
    "cpu": ["configs/gpt2-124m.yaml:4:512"],
    "cuda": ["configs/gpt2-124m.yaml:64:1024", "configs/llama-1.3b.yaml:4:4096"],
}
WARM_UP = 3
# dense bf16 FLOP/s without sparsity, from the data sheets
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


# ---- the model in PyTorch ---------------------------------------------------------------------


def read_shape(yoke, config, overrides):
    """The model section of the resolved configuration; every value is on a line of its own."""
    command = [yoke, "config", config, *overrides]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:  # on success stderr may warn about data, which nothing here reads
        sys.exit(f"vs_torch: {done.stderr.strip()}")
    shape, inside = {}, False
    for line in done.stdout.splitlines():
        if not line.startswith(" "):
            inside = line.startswith("model:")
        elif inside and ":" in line:
            key, value = line.split(":", 1)
            shape[key.strip()] = value.split("#")[0].strip().strip('"')
    return shape


def make_model(shape, tokens, dtype):
    """With activations between blocks in `dtype`, as yoke has them."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    llama = shape["family"] == "llama"
    C, H, L = int(shape["hidden"]), int(shape["heads"]), int(shape["layers"])
    G = int(shape["kv_heads"]) or H
    V, D, eps = int(shape["vocab_size"]), C // H, float(shape["norm_eps"])
    hidden = int(shape["ffn"]) or 4 * C
    tied = not llama or shape["tied_embeddings"] == "true"

    class RMSNorm(nn.RMSNorm):
        def forward(self, x):  # with weights of another type PyTorch has no fused kernel
            return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)

    norm = (lambda: RMSNorm(C, eps)) if llama else (lambda: nn.LayerNorm(C, eps))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = norm(), norm()
            self.qkv = nn.Linear(C, (H + 2 * G) * D, bias=not llama)
            self.proj = nn.Linear(C, C, bias=not llama)
            self.up = nn.Linear(C, 2 * hidden if llama else hidden, bias=not llama)
            self.down = nn.Linear(hidden, C, bias=not llama)

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            parts = self.qkv(self.norm_1(x)).split([H * D, G * D, G * D], dim=2)
            q, k, v = [t.view(B, T, -1, D).transpose(1, 2) for t in parts]
            if llama:
                q, k = turn(q, cos, sin), turn(k, cos, sin)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=G != H)
            x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
            h = self.up(self.norm_2(x))
            if llama:
                gate, up = h.chunk(2, dim=2)
                return x + self.down(F.silu(gate) * up)
            return x + self.down(F.gelu(h, approximate="tanh"))

    def turn(x, cos, sin):
        a, b = x.chunk(2, dim=3)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=3).to(x.dtype)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(V, C)
            self.wpe = None if llama else nn.Embedding(max(int(shape["max_positions"]), tokens), C)
            self.blocks = nn.ModuleList([Block() for _ in range(L)])
            self.norm_f = norm()
            self.head = None if tied else nn.Linear(C, V, bias=False)
            turns = torch.arange(tokens)[:, None] / float(shape["rope_theta"]) ** (
                torch.arange(0, D, 2)[None, :] / D)
            self.register_buffer("cos", turns.cos(), persistent=False)
            self.register_buffer("sin", turns.sin(), persistent=False)

        def forward(self, ids, targets):
            x = self.wte(ids)
            if self.wpe is not None:
                x = x + self.wpe(torch.arange(ids.shape[1], device=ids.device))
            x = x.to(dtype)
            for block in self.blocks:
                x = block(x, self.cos, self.sin)
            head = self.wte.weight if self.head is None else self.head.weight
            logits = F.linear(self.norm_f(x), head)
            return F.cross_entropy(logits.view(-1, V), targets.view(-1))

    return Model()


def time_torch(a):
    """Seconds of each step, in this process."""
    import contextlib
    import resource

    import torch
    from torch import nn

    (config, batch, tokens), mode = a.cases[0], a.modes[0]
    shape = read_shape(a.yoke, config, a.overrides)
    cuda = a.device == "cuda"
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    half = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[a.precision]
    with torch.device(a.device):
        model = make_model(shape, tokens, half or torch.float32)
        ids = torch.randint(0, int(shape["vocab_size"]), (batch, tokens))
        targets = torch.randint(0, int(shape["vocab_size"]), (batch, tokens))
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if mode == "compile" else model
    attention = contextlib.nullcontext()
    if a.attention != "auto":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        attention = sdpa_kernel({"flash": SDPBackend.FLASH_ATTENTION,
                                 "cudnn": SDPBackend.CUDNN_ATTENTION}[a.attention])
    finish = torch.cuda.synchronize if cuda else lambda: None
    seconds = []
    with attention:
        for _ in range(WARM_UP + a.steps):
            start = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast(a.device, half) if half else contextlib.nullcontext():
                loss = run(ids, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            finish()
            seconds.append(time.perf_counter() - start)
    peak = (torch.cuda.max_memory_allocated() if cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps({"version": torch.__version__, "seconds": seconds[WARM_UP:],
                      "peak_bytes": peak, "parameters": parameters, "loss": loss.item()}))


# ---- the comparison ----------------------------------------------------------------------------


def last_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"vs_torch: exit code {done.returncode} of: {' '.join(command)}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(a, case):
    config, batch, tokens = case
    name = os.path.basename(config).removesuffix(".yaml")
    common = ["--device", a.device, "--precision", a.precision, "--threads", str(a.threads),
              "--steps", str(a.steps), *a.overrides]
    yoke_command = [a.yoke, "bench", "step", config, "--json", "--batch", str(batch), "--tokens",
                    str(tokens), *common]
    rates = {}
    for i in range(a.rounds):
        for mode in a.modes:
            attention = a.attention or ("flash" if a.device == "cuda" and mode == "compile"
                                        and a.precision != "fp32" else "auto")
            t = last_json([sys.executable, __file__, "--torch-only", "--yoke", a.yoke, "--modes",
                           mode, "--case", f"{config}:{batch}:{tokens}", "--attention", attention,
                           *common])
            rate = batch * tokens / statistics.median(t["seconds"])
            rates.setdefault(mode, []).append(rate)
            print(f"{name} round {i + 1}: torch {t['version']} {mode}, attention {attention}: "
                  f"{rate:.1f} tokens/s, {t['peak_bytes'] / 1e6:.0f} MB, "
                  f"{t['parameters']} parameters", flush=True)
        y = last_json(yoke_command)
        rates.setdefault("yoke", []).append(y["tokens_per_second"])
        peak = next((p for gpu, p in PEAKS.items() if gpu in y.get("model", "")), None)
        used = y["device_used_bytes"] if a.device == "cuda" else y["peak_rss_bytes"]
        print(f"{name} round {i + 1}: yoke ({y['isa']}, {y['precision']}) "
              f"{y['tokens_per_second']:.1f} tokens/s, {used / 1e6:.0f} MB of "
              f"{y['planned_bytes'] / 1e6:.0f} planned; GEMM {y['gemm_peak'] / 1e9:.0f} GFLOP/s"
              + (f"; {100 * y['flops_per_second'] / peak:.1f}% of {peak / 1e12:.0f} TFLOP/s"
                 if peak and a.precision == "bf16" else ""), flush=True)
    medians = {mode: statistics.median(r) for mode, r in rates.items()}
    print(f"{name} median: " + ", ".join(f"{mode} {m:.1f} tokens/s" for mode, m in medians.items()))
    return [f"vs torch: {a.precision} {medians['yoke'] / medians[mode]:.2f} ({name}, {mode})"
            for mode in a.modes]


def parse_case(text):
    config, batch, tokens = text.rsplit(":", 2)
    return config, int(batch), int(tokens)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--yoke", default="build/yoke")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--precision", choices=["fp32", "bf16", "fp16"])
    p.add_argument("--case", type=parse_case, action="append", dest="cases",
                   metavar="CONFIG:BATCH:TOKENS")
    p.add_argument("--modes", type=lambda text: text.split(","), metavar="eager,compile")
    p.add_argument("--attention", choices=["auto", "flash", "cudnn"])
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, help="timed steps a program and round (3; cuda: 10)")
    p.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE",
                   help="override a key of the configurations")
    p.add_argument("--torch-only", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    cuda = a.device == "cuda"
    a.cases = a.cases or [parse_case(c) for c in CASES[a.device]]
    a.precision = a.precision or ("bf16" if cuda else "fp32")
    a.modes = a.modes or (["eager", "compile"] if cuda else ["eager"])
    a.steps = a.steps or (10 if cuda else 3)
    a.overrides = [word for s in a.sets for word in ("--set", s)]
    if a.torch_only:
        time_torch(a)
        return
    lines = [line for case in a.cases for line in compare(a, case)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
