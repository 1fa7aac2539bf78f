"""The kind of index that `kind="auto"` chooses for a recall, on real codes, with what it tried.

python benchmarks/choose_index.py --images cifar10.npz --size 100000 --bits 256 --recall 0.95

Codes are ITQ codes of random 12 × 12 patches of CIFAR-10's images, as in `indexes.py`, so that any number of real ones
exists. The command prints the table `index.choice`, and the recall of further patches, which are not in the index.
"""

import argparse
import time
from pathlib import Path

import torch
from indexes import encode_patches

import deephash
from deephash.indexes.choose_index import measure_recall


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    codes = encode_patches(given.images, given.size + 1000, given.seed, given.bits)
    queries, codes = codes[given.size :], codes[: given.size]
    began, worked = time.perf_counter(), time.process_time()
    index = deephash.index(codes, "auto", recall=given.recall, seed=given.seed)
    print(index.choice)
    print(f"chosen in {time.perf_counter() - began:.0f} s, {time.process_time() - worked:.0f} s of processor time")
    nearest = deephash.index(codes, "flat").search(queries, 10)[0]
    found = index.search(queries, 10)[0]
    # measure_recall leaves out the first of each query, which is the query itself; these queries have no such item.
    away = torch.zeros(len(queries), 1, dtype=torch.int64)
    print(f"recall of 1,000 further patches {measure_recall(*(torch.cat([away, d], 1) for d in (found, nearest))):.3f}")


if __name__ == "__main__":
    main()
