"""Ranking on a GPU against dense products of ±1 in torch: python benchmarks/ranking_gpu.py [--json FILE].

Codes are clustered and on the device. All rivals are interleaved in one process, and times are minima of synchronised
repetitions. The tasks are metrics by label relevance and the 100 nearest, by the Triton engine and by the torch engine.
The rival for lists is common code: half-precision products of ±1 codes and topk, in blocks that fit. For metrics it
sorts the same products and computes the average precision of the lists. Rivals get at most 1,000 queries, and their
times are scaled.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from deephash.codes import pack, unpack
from deephash.metrics.average_precision import average_precision
from deephash.metrics.pr_curve import auprc_micro
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import SharedLabel
from deephash.ranking.torch_engine import TorchEngine
from deephash.ranking.triton_engine import TritonEngine
from deephash.report.tables import markdown_table

CLASSES, K, DENSE_PAIRS = 10, 100, 2**28
RIVAL_QUERIES = 1000


def draw_clustered_codes(bits, queries, items, device):
    """Draw signs of random directions through clusters in 12 dimensions, one per class, and the classes."""
    generator = torch.Generator(device).manual_seed(0)
    draw = {"generator": generator, "device": device}
    centres, directions = torch.randn(CLASSES, 12, **draw), torch.randn(12, bits, **draw)
    labels = [torch.randint(0, CLASSES, (n,), **draw) for n in (queries, items)]
    points = [centres[x] + torch.randn(len(x), 12, **draw) for x in labels]
    return [pack(x @ directions + 1 >= 0) for x in points], labels


def multiply_blocks(codes, bits):
    """Yield rows of queries and similarities of ±1 codes, half precision (rows, N), block by block."""
    queries, database = (unpack(x, bits).half() * 2 - 1 for x in codes)
    rows = max(1, DENSE_PAIRS // len(database))
    for start in range(0, len(queries), rows):
        yield slice(start, start + rows), queries[start : start + rows] @ database.T


def search_dense(codes, bits):
    return [block.topk(K).values for _, block in multiply_blocks(codes, bits)]


def score_dense(codes, bits, labels):
    """Compute the mean average precision of lists sorted by product, with ties in the order of the sort."""
    total = 0.0
    for rows, block in multiply_blocks(codes, bits):
        relevant = labels[1][block.argsort(1, descending=True)] == labels[0][rows, None]
        ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
        precision = relevant.cumsum(1) / ranks
        total += float(((precision * relevant).sum(1) / relevant.sum(1)).sum())
    return total / len(codes[0])


def measure(tasks, repetitions):
    """Measure the least seconds of each task, in interleaved repetitions after one that compiles."""
    seconds = {name: float("inf") for name in tasks}
    for repetition in range(repetitions + 1):
        for name, task in tasks.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            task()
            torch.cuda.synchronize()
            if repetition:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def compare(queries, items, bits, repetitions, device):
    """Check that the engines agree and return times and ratios for one size."""
    codes, labels = draw_clustered_codes(bits, queries, items, device)
    distance = Hamming(bits)
    engines = {"Triton": TritonEngine(), "torch": TorchEngine()}

    def metrics(engine, codes, labels):
        counts = engine.rank(*codes, distance, SharedLabel(*labels))
        return float(average_precision(counts).nanmean()), float(auprc_micro(counts))

    few = codes[0][:64]
    counts = [e.rank(few, codes[1], distance, SharedLabel(labels[0][:64], labels[1])) for e in engines.values()]
    assert torch.equal(counts[0].total, counts[1].total)
    assert torch.equal(counts[0].relevant, counts[1].relevant)
    lists = [e.search(few, codes[1], distance, K) for e in engines.values()]
    assert all(torch.equal(x, y) for x, y in zip(*lists, strict=True))
    part = [codes[0][:RIVAL_QUERIES], codes[1]]
    part_labels = labels[0][:RIVAL_QUERIES], labels[1]
    triton, plain = engines.values()
    tasks = {
        "metrics, Triton": lambda: metrics(triton, codes, labels),
        "metrics, torch": lambda: metrics(plain, part, part_labels),
        "metrics, dense": lambda: score_dense(part, bits, part_labels),
        f"top {K}, Triton": lambda: triton.search(*codes, distance, K),
        f"top {K}, torch": lambda: plain.search(*part, distance, K),
        f"top {K}, dense": lambda: search_dense(part, bits),
    }
    seconds = measure(tasks, repetitions)
    for name in seconds:
        if not name.endswith("Triton"):
            seconds[name] *= queries / len(part[0])
    return [
        {
            "queries": queries,
            "items": items,
            "bits": bits,
            "task": task,
            "Triton, ms": round(1e3 * seconds[f"{task}, Triton"], 2),
            "distances/s": f"{queries * items / seconds[f'{task}, Triton']:.2e}",
            "× torch engine": round(seconds[f"{task}, torch"] / seconds[f"{task}, Triton"], 1),
            "× dense": round(seconds[f"{task}, dense"] / seconds[f"{task}, Triton"], 1),
        }
        for task in ("metrics", f"top {K}")
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device here; benchmarks/ranking.py measures the CPU.")
    device = torch.device("cuda")
    rows = []
    for bits in arguments.bits:
        for queries, items in ((1, 1_000_000), (1000, 59_000), (10_000, 1_000_000)):
            rows += compare(queries, items, bits, arguments.repetitions, device)
            print(markdown_table(list(rows[0]), [list(row.values()) for row in rows]), flush=True)
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
