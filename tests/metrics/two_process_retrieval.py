"""One process of several: receives its share of the queries, and writes the scores of all queries.

Called as `two_process_retrieval.py RANK WORLD RENDEZVOUS COUNTS OUTPUT SHARES...`; a SHARES is the first row of each
process and the end, comma-separated, and case i is written to OUTPUT/RANK-i.npz.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from deephash.metrics.hamming_retrieval import HammingRetrieval
from deephash.ranking.counts import DistanceCounts


def figures_of_share(total, relevant, ids, mine):
    metric = HammingRetrieval(total.shape[1] - 1, at=[20], radii=[2])
    for start in range(mine.start, mine.stop, 7):
        rows = slice(start, min(start + 7, mine.stop))
        metric.update(DistanceCounts(total[rows], relevant[rows]), ids[rows])
    columns = {f"query:{name}": column.numpy() for name, column in metric.per_query().items()}
    curves = {f"curve:{name}": curve.precision.numpy() for name, curve in metric.pr_curve().items()}
    # Asked last: what per_query and pr_curve gathered must be gone from the states.
    figures = {name: value.numpy() for name, value in metric.compute().items()}
    return figures | columns | curves


def main(rank, world, rendezvous, counts_file, output, *cases):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=int(rank), world_size=int(world))
    with np.load(counts_file, allow_pickle=False) as stored:
        total, relevant, ids = (torch.from_numpy(stored[name]) for name in ("total", "relevant", "ids"))
    for number, shares in enumerate(cases):
        edges = [int(edge) for edge in shares.split(",")]
        mine = range(edges[int(rank)], edges[int(rank) + 1])
        np.savez(Path(output) / f"{rank}-{number}.npz", **figures_of_share(total, relevant, ids, mine))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
