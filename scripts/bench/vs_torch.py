#!/usr/bin/env python3
"""Time training steps of yoke and of PyTorch alternately on this machine.

usage: vs_torch.py [--yoke build/yoke] [--device cpu|cuda] [--precision fp32|bf16|fp16]
                   [--case CONFIG:BATCH:TOKENS[:KEY=VALUE,...]]... [--modes eager,compile]
                   [--attention auto|flash|cudnn] [--threads 2] [--rounds 5] [--steps N]
                   [--set KEY=VALUE]...                              (needs: pip install torch)

  cpu   (default) GPT-2 124M, 4 sequences of 512 tokens, fp32, eager
  cuda  GPT-2 124M, 64 x 1024, and Llama 1.3B, 4 x 4096, bf16; eager, and torch.compile with the
        flash attention of scaled_dot_product_attention

A step is forward, backward, clipping of the global norm and AdamW, on the model that `yoke config`
prints.  PyTorch gets what is usual for speed: one product for q, k and v and one for gate and up,
scaled_dot_product_attention, fused AdamW; below fp32 autocast over fp32 weights, which is yoke's
precision too.  Each round times all programs, one after the other and alone, so that what else
the machine does falls on all; the figures are medians over the rounds.  A process of PyTorch lives
through all rounds, so that it compiles and warms up once, and sleeps while others are timed.  The
last lines are `vs torch: PRECISION R (MODEL, MODE)`, R being yoke's tokens/s over PyTorch's.
vs_torch_cpu.py does all that is compared on CPUs.
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

    model = Model()
    for weight in model.parameters():
        # with PyTorch's own embeddings logits are in the hundreds, softmax saturates, and within few
        # steps gradients are numbers that are too small to be normal, which CPUs take ages for
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.02)
    return model


def time_torch(a):
    """A line of JSON with the seconds of each step for every line that comes in."""
    import contextlib
    import resource

    import torch
    from torch import nn

    (config, batch, tokens, sets), mode = a.cases[0], a.modes[0]
    shape = read_shape(a.yoke, config, a.overrides + sets)
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

    def step():
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(a.device, half) if half else contextlib.nullcontext():
            loss = run(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        finish()
        return time.perf_counter() - start

    with attention:
        for _ in range(WARM_UP):
            step()
        for _ in sys.stdin:
            seconds = [step() for _ in range(a.steps)]
            peak = (torch.cuda.max_memory_allocated() if cuda
                    else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            print(json.dumps({"version": torch.__version__, "seconds": seconds,
                              "peak_bytes": peak, "parameters": parameters}), flush=True)


# ---- the comparison ----------------------------------------------------------------------------


def last_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"vs_torch: exit code {done.returncode} of: {' '.join(command)}")
    return json.loads(done.stdout.splitlines()[-1])


class Torch:
    """A process that times steps when it is asked to."""

    def __init__(self, a, case, mode, common):
        config, batch, tokens, sets = case
        self.attention = a.attention or ("flash" if a.device == "cuda" and mode == "compile"
                                         and a.precision != "fp32" else "auto")
        self.command = [sys.executable, os.path.join(os.path.dirname(__file__), "vs_torch.py"),
                        "--torch-only", "--yoke", a.yoke, "--modes", mode, "--case",
                        f"{config}:{batch}:{tokens}", "--attention", self.attention,
                        *common, *sets]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def time(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"vs_torch: exit code {self.process.wait()} of: {' '.join(self.command)}")
        return json.loads(line)

    def end(self):
        self.process.communicate()


def case_name(case):
    config, batch, tokens, sets = case
    name = os.path.basename(config).removesuffix(".yaml")
    changed = " ".join(word for word in sets if word != "--set")
    return f"{name}{' ' + changed if changed else ''}, {batch} x {tokens}"


def compare(a, case):
    """Medians over the rounds: {program: tokens/s}, {program: bytes at the peak}."""
    config, batch, tokens, sets = case
    name = case_name(case)
    common = ["--device", a.device, "--precision", a.precision, "--threads", str(a.threads),
              "--steps", str(a.steps), *a.overrides]
    yoke_command = [a.yoke, "bench", "step", config, "--json", "--batch", str(batch), "--tokens",
                    str(tokens), *common, *sets]
    rates, bytes_used = {}, {}
    torches = {}
    for mode in a.modes:  # one after the other: each warms up alone
        torches[mode] = Torch(a, case, mode, common)
        torches[mode].time()
    for i in range(a.rounds):
        for mode, torch in torches.items():
            t = torch.time()
            rate = batch * tokens / statistics.median(t["seconds"])
            rates.setdefault(mode, []).append(rate)
            bytes_used.setdefault(mode, []).append(t["peak_bytes"])
            print(f"{name} round {i + 1}: torch {t['version']} {mode}, attention "
                  f"{torch.attention}, {a.precision}: {rate:.1f} tokens/s, "
                  f"{t['peak_bytes'] / 1e6:.0f} MB, {t['parameters']} parameters", flush=True)
        y = last_json(yoke_command)
        rates.setdefault("yoke", []).append(y["tokens_per_second"])
        peak = next((p for gpu, p in PEAKS.items() if gpu in y.get("model", "")), None)
        used = y["device_used_bytes"] if a.device == "cuda" else y["peak_rss_bytes"]
        bytes_used.setdefault("yoke", []).append(used)
        print(f"{name} round {i + 1}: yoke ({y['isa']}, {y['precision']}) "
              f"{y['tokens_per_second']:.1f} tokens/s, {used / 1e6:.0f} MB of "
              f"{y['planned_bytes'] / 1e6:.0f} planned; GEMM {y['gemm_peak'] / 1e9:.0f} GFLOP/s"
              + (f"; {100 * y['flops_per_second'] / peak:.1f}% of {peak / 1e12:.0f} TFLOP/s"
                 if peak and a.precision == "bf16" else ""), flush=True)
    for torch in torches.values():
        torch.end()
    medians = {program: statistics.median(r) for program, r in rates.items()}
    print(f"{name} median, {a.precision}: "
          + ", ".join(f"{program} {m:.1f} tokens/s" for program, m in medians.items()), flush=True)
    return medians, {program: statistics.median(b) for program, b in bytes_used.items()}


def parse_case(text):
    config, batch, tokens, *sets = text.split(":", 3)
    words = [word for s in sets for key in s.split(",") for word in ("--set", key)]
    return config, int(batch), int(tokens), words


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--yoke", default="build/yoke")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--precision", choices=["fp32", "bf16", "fp16"])
    p.add_argument("--case", type=parse_case, action="append", dest="cases",
                   metavar="CONFIG:BATCH:TOKENS[:KEY=VALUE,...]")
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
    lines = []
    for case in a.cases:
        medians, _ = compare(a, case)
        lines += [f"vs torch: {a.precision} {medians['yoke'] / medians[mode]:.2f} "
                  f"({case_name(case)}, {mode})" for mode in a.modes]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
