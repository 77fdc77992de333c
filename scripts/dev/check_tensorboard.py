#!/usr/bin/env python3
"""Compare the event files of a run with its metrics.jsonl, through TensorBoard's own reader.

usage: check_tensorboard.py RUN          (needs: pip install tensorboard)

For development: the tests parse the files with a reader of their own; this script shows that
TensorBoard agrees, also about what a resumed run makes it forget.
"""

import glob
import json
import math
import os
import struct
import sys

from tensorboard.backend.event_processing import event_accumulator, event_file_loader
from tensorboard.util import tensor_util

FIELDS = {
    "train/loss": ("train", lambda r: r["loss"]),
    "train/grad_norm": ("train", lambda r: r["grad_norm"]),
    "train/lr": ("train", lambda r: r["lr"]),
    "train/tokens_per_second": ("train", lambda r: r["machine"]["tokens_per_second"]),
    "validation/loss": ("eval", lambda r: r["loss"]),
}


def as_float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def scalars(folder):
    """{tag: {step: value}} as TensorBoard would show them."""
    accumulator = event_accumulator.EventAccumulator(
        folder, size_guidance={event_accumulator.TENSORS: 0, event_accumulator.SCALARS: 0}
    )
    accumulator.Reload()
    found = {}
    for tag in accumulator.Tags()["scalars"]:
        found[tag] = {e.step: e.value for e in accumulator.Scalars(tag)}
    for tag in accumulator.Tags()["tensors"]:
        found[tag] = {
            e.step: float(tensor_util.make_ndarray(e.tensor_proto)) for e in accumulator.Tensors(tag)
        }
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = sys.argv[1]
    folder = os.path.join(run, "tensorboard")
    files = sorted(glob.glob(os.path.join(folder, "events.out.tfevents.*")))
    if not files:
        sys.exit(f"{folder}: no event files")
    for path in files:
        events = list(event_file_loader.LegacyEventFileLoader(path).Load())
        if events[0].file_version != "brain.Event:2":
            sys.exit(f"{path}: file_version is {events[0].file_version!r}")
        print(f"{path}: {len(events)} events")

    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as f:
        records = [json.loads(line) for line in f]
    found = scalars(folder)
    failures = 0
    for tag, (kind, value) in FIELDS.items():
        want = {r["step"]: value(r) for r in records if r["kind"] == kind}
        got = found.get(tag, {})
        wrong = sorted(set(want) ^ set(got))
        for step in set(want) & set(got):
            if want[step] is None:
                same = not math.isfinite(got[step])
            else:
                # machine figures are printed with six digits, the others with all
                tolerance = 1e-5 if tag == "train/tokens_per_second" else 1e-7
                same = math.isclose(as_float32(want[step]), got[step], rel_tol=tolerance)
            if not same:
                wrong.append(step)
        print(f"{tag}: {len(want)} records, {len(wrong)} differ")
        if wrong:
            print(f"  first at step {wrong[0]}: {want.get(wrong[0])} and {got.get(wrong[0])}")
            failures += 1
    sys.exit(1 if failures else 0)


main()
