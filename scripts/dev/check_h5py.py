#!/usr/bin/env python3
"""Read a checkpoint as any Python user would, with h5py alone, and check what it says.

    scripts/dev/check_h5py.py RUN/step-00012000 [--all]

Every parameter must show up in its full shape in all three groups, and what the virtual
datasets yield must equal what the index says lies in the shards, bit by bit (of the largest
parameters only the first rows, without --all).  Development only: needs h5py and numpy.
"""
import argparse
import pathlib
import sys

import h5py
import numpy as np

GROUPS = {"model": "master", "optimizer/exp_avg": "exp_avg",
          "optimizer/exp_avg_sq": "exp_avg_sq"}
SOME_ELEMENTS = 1 << 20


def by_index(model, folder, number, shape, dataset):
    """The parameter put together from the pieces, without the virtual layer."""
    rows, cols = (shape + (1,))[:2]
    out = np.full((rows, cols), np.nan, np.float32)
    generation = model.attrs["generation"]
    suffix = f".{generation}" if generation else ""
    index = model["index"][:].astype(np.int64)
    for _, row, col, n, m, shard, offset in index[index[:, 0] == number]:
        with h5py.File(folder / f"shard-{shard:05d}{suffix}.h5") as f:
            out[row:row + n, col:col + m] = f[dataset][offset:offset + n * m].reshape(n, m)
    return out.reshape(shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--all", action="store_true", help="compare every element")
    args = parser.parse_args()

    with h5py.File(args.folder / "model.h5") as model:
        print(f"{args.folder}: version {model.attrs['version']}, step {model.attrs['step']}, "
              f"{len(model['shards'])} shards, {len(model['index'])} pieces")
        names = [n.decode() for n in model["param_names"][:]]
        total = 0
        print(f"{'parameter':48} {'shape':>16} {'mean':>11} {'std':>11}")
        for number, name in enumerate(names):
            n_dims, *shape = (int(v) for v in model["param_shapes"][number])
            shape = tuple(shape[:n_dims])
            total += int(np.prod(shape))
            some = slice(None) if args.all else slice(max(1, SOME_ELEMENTS // shape[-1]))
            for group, dataset in GROUPS.items():
                d = model[group][name]
                assert d.is_virtual and d.dtype == np.float32 and d.shape == shape, d
                want = by_index(model, args.folder, number, shape, dataset)[some]
                got = d[some]
                if got.tobytes() != want.tobytes():
                    sys.exit(f"{group}/{name}: the virtual dataset differs from the pieces")
                if dataset == "master":
                    print(f"{name:48} {str(shape):>16} {got.mean():11.4e} {got.std():11.4e}")
        for group in GROUPS:
            assert sorted(model[group]) == sorted(names), f"{group} has other names"
        size = sum(p.stat().st_size for p in args.folder.iterdir())
    print(f"check_h5py: ok, {total} parameters, {size} bytes, {size / total:.3f} a parameter")


if __name__ == "__main__":
    main()
