"""Ranking on a GPU against dense products of ±1 in torch: python benchmarks/ranking_gpu.py [--json FILE].

Codes are clustered and on the device. All rivals are interleaved in one process, and times are minima of synchronised
repetitions. The tasks are metrics by label relevance and the 100 nearest, by the Triton engine and by the torch engine.
The rival for lists is common code: half-precision products of ±1 codes and topk, in blocks that fit. For metrics it
sorts the same products and computes the average precision of the lists. Rivals get at most 1,000 queries, and their
times are scaled. Where FAISS has GpuIndexBinaryFlat, it is a rival for lists, too. Then kind="gpu" answers a lone query
and 1,000 queries on random codes of 64 bits. With TRITON_INTERPRET=1 and --device cpu, small sizes run without a GPU.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

import deephash
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


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def search_faiss(codes, bits):
    """Return a search by FAISS on the GPU, or None where its wheel has none."""
    try:
        import faiss
    except ImportError:
        return None
    if not hasattr(faiss, "GpuIndexBinaryFlat") or not torch.cuda.is_available():
        return None
    index = faiss.GpuIndexBinaryFlat(faiss.StandardGpuResources(), bits)
    queries, database = (np.ascontiguousarray(side.cpu().numpy()) for side in codes)
    index.add(database)
    return partial(index.search, queries, K)


def measure_index(items, bits, repetitions, device):
    """Return rows of the times of kind="gpu" for a lone query and for a batch, on random codes."""
    rng = np.random.default_rng(0)
    codes = np.frombuffer(rng.bytes(items * bits // 8), np.uint8).reshape(items, -1)
    index = deephash.index(codes, "gpu", bits=bits, device=str(device))
    rows = []
    for queries in (1, min(RIVAL_QUERIES, items)):
        asked = torch.from_numpy(codes[:queries].copy())
        seconds = measure({"search": partial(index.search, asked, K)}, repetitions)["search"]
        rows.append(
            {
                "queries": queries,
                "items": items,
                "bits": bits,
                "task": f"kind=gpu, top {K}",
                "Triton, ms": round(1e3 * seconds, 2),
                "distances/s": f"{queries * items / seconds:.2e}",
            }
        )
    return rows


def measure(tasks, repetitions):
    """Measure the least seconds of each task, in interleaved repetitions after one that compiles."""
    seconds = {name: float("inf") for name in tasks}
    for repetition in range(repetitions + 1):
        for name, task in tasks.items():
            synchronise()
            start = time.perf_counter()
            task()
            synchronise()
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
    faiss = search_faiss(part, bits)
    if faiss is not None:
        tasks[f"top {K}, FAISS"] = faiss
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
            "× FAISS": round(seconds.get(f"{task}, FAISS", float("nan")) / seconds[f"{task}, Triton"], 1),
        }
        for task in ("metrics", f"top {K}")
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--sizes", nargs="+", default=["1x1000000", "1000x59000", "10000x1000000"], metavar="QxN")
    parser.add_argument("--index-sizes", type=int, nargs="*", default=[10**8, 10**9], help="codes of kind=gpu")
    parser.add_argument("--index-bits", type=int, default=64)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; benchmarks/ranking.py measures the CPU.")
    rows = []
    for bits in arguments.bits:
        for size in arguments.sizes:
            queries, items = map(int, size.split("x"))
            rows += compare(queries, items, bits, arguments.repetitions, device)
    for items in arguments.index_sizes:
        rows += measure_index(items, arguments.index_bits, arguments.repetitions, device)
    columns = list(rows[0])
    print(markdown_table(columns, [[row.get(column, "") for column in columns] for row in rows]))
    print(torch.cuda.get_device_name() if device.type == "cuda" else device, f"torch {torch.__version__}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
