"""Seconds and peak memory of paired methods on two views of CIFAR-10: GIST, and a colour histogram.

python benchmarks/cross_modal.py cifar10.npz --cache FOLDER                        the eigenvector methods, to 64 bits
python benchmarks/cross_modal.py cifar10.npz --methods cvh cmfh --bits 16          some, at another length

The .npz is that of data=cifar10_gist: images uint8 (n, 32, 32, 3) and labels. Each method is fitted on 59,000
pairs in a separate process, whose peak memory includes features and libraries. 1,000 other pairs are the queries.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from measurements import result_path, write_measurements

from deephash.affinity.label import Label
from deephash.codes import unpack
from deephash.data.cache import read_or_describe
from deephash.data.descriptors.gist import Gist
from deephash.data.views import Views
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.metrics.average_precision import average_precision
from deephash.ranking.counts import DistanceCounts
from deephash.report.tables import markdown_table

CONF = Path(__file__).resolve().parent.parent / "conf"
QUERIES, LEVELS = 1_000, 4
COLUMNS = ("method", "bits", "fit s", "peak MB", "GIST → colour mAP", "colour → GIST mAP")


def compute_colour_histogram(images):
    """Compute shares of pixels in 4 × 4 × 4 boxes of red, green and blue: uint8 (n, h, w, 3) → float32 (n, 64)."""
    level = images.astype(np.int64) * LEVELS // 256
    boxes = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    rows = boxes.reshape(len(images), -1)
    flat = rows + np.arange(len(rows))[:, None] * LEVELS**3
    counts = np.bincount(flat.ravel(), minlength=len(rows) * LEVELS**3).reshape(len(rows), -1)
    return (counts / rows.shape[1]).astype(np.float32)


def read_views(path, cache):
    """Return GIST and colour histograms of all images as two views, and their labels."""
    with np.load(path, allow_pickle=False) as stored:
        images, labels = stored["images"], torch.from_numpy(stored["labels"].astype(np.int64))
    gist = read_or_describe(images, Gist(), cache)
    return Views({"gist": gist, "colour": torch.from_numpy(compute_colour_histogram(images))}), labels


def mean_average_precision(query_codes, database_codes, relevant, bits):
    """Tie-aware mAP of packed codes, in blocks of queries."""
    signs = [2.0 * unpack(codes, bits).float() - 1 for codes in (query_codes, database_codes)]
    values = []
    for queries, related in zip(torch.split(signs[0], 100), torch.split(relevant, 100), strict=True):
        distances = ((bits - queries @ signs[1].T) / 2).round().long()
        counts = torch.zeros(2, len(queries), bits + 1, dtype=torch.int64)
        counts[0].scatter_add_(1, distances, torch.ones_like(distances))
        counts[1].scatter_add_(1, distances, related.long())
        values.append(average_precision(DistanceCounts(counts[0], counts[1])))
    return float(torch.cat(values).nanmean())


def measure(arguments, method):
    """Measure one method in this process and return its row."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"method={method}", "logger=none", f"bits={arguments.bits}"])
    views, labels = read_views(arguments.file, arguments.cache)
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0))
    queries, database = order[:QUERIES], order[QUERIES:]
    quantizers = {name: instantiate(config.quantizer, bits=arguments.bits) for name in views.names}
    sizes = {"input_dims": views.dimensions, "output_dim": quantizers["gist"].projection_dim}
    projection = instantiate(config.projection, **sizes)
    hasher = CrossModalHasher(projection, quantizers)
    training = views[database]
    start = time.perf_counter()
    affinity = Label().supervise(training, labels[database])
    hasher.fit(training, labels=labels[database], affinity=affinity, generator=torch.Generator().manual_seed(0))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked, searched = hasher.encode(views[queries]), hasher.encode(training)
    relevant = labels[queries][:, None] == labels[database]
    scores = [
        mean_average_precision(asked[one], searched[other], relevant, arguments.bits)
        for one, other in (("gist", "colour"), ("colour", "gist"))
    ]
    return [method, arguments.bits, seconds, peak, *scores]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder in which GIST features are cached")
    parser.add_argument("--methods", nargs="+", default=["cvh", "cmfh", "imh", "scm_sequential"])
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--json", type=result_path, help="result file to write")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments, arguments.methods[0])))
        return
    rows = []
    for method in arguments.methods:
        command = [sys.executable, __file__, *sys.argv[1:], "--methods", method, "--one"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    shown = [
        [method, bits, f"{seconds:.1f}", f"{peak:.0f}", *(f"{score:.4f}" for score in scores)]
        for method, bits, seconds, peak, *scores in rows
    ]
    print(markdown_table(COLUMNS, shown, right=range(1, len(COLUMNS))))
    if arguments.json:
        measured = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_measurements(arguments.json, measured, torch.get_num_threads())


if __name__ == "__main__":
    main()
