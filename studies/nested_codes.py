"""Prefixes of one nested code against codes of each length: the share of true neighbours among the nearest codes.

python studies/nested_codes.py gist=gist.npy efficientnet=efficientnet.npy --seeds 3

A file has the features of a collection, .npy (n, d), or the one tensor of a .safetensors file, as the cache of
encoders and descriptors holds them. Each seed draws 1,000 queries; all other rows are the database, and everything is
fitted on 20,000 of them. Recall is the share of a query's 10 nearest items by Euclidean distance that are among the
first 100 by Hamming distance, with ties in the order of the database. The lines are nested ITQ, ITQ fitted to each
length alone, and prefixes of the longest ITQ code. The runs are printed as rows of a result file.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from deephash.codes import cut_codes, pack
from deephash.indexes.flat import Flat
from deephash.projections.base import Projection
from deephash.projections.itq import ITQ
from deephash.projections.nested_itq import NestedITQ
from deephash.validation import InvalidInputError

BITS = (64, 128, 256, 512)
QUERIES, ROWS, NEIGHBOURS, DEPTH = 1_000, 20_000, 10, 100


def read_features(path: Path) -> Tensor:
    """Read features float32 (n, d) from a .npy file, or the only tensor of a .safetensors file."""
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False)).float()
    tensors = load_file(path)
    if len(tensors) != 1:
        raise InvalidInputError(f"{path} has {len(tensors)} tensors; expected a file with the features alone.")
    return next(iter(tensors.values())).float()


def find_nearest(database: Tensor, queries: Tensor) -> Tensor:
    """Return the ids of each query's nearest items by Euclidean distance, int64 (q, 10), in blocks of queries."""
    return torch.cat([torch.cdist(q, database).topk(NEIGHBOURS, largest=False).indices for q in queries.split(100)])


def encode(projection: Projection, features: Tensor) -> Tensor:
    """Return packed codes of features."""
    with torch.no_grad():
        return torch.cat([pack(projection(rows) >= 0) for rows in features.split(4096)])


def compute_recall(codes: Tensor, queries: Tensor, bits: int, nearest: Tensor) -> float:
    """Return recall by the first bits of packed codes."""
    ids = Flat(cut_codes(codes, bits), bits).search(cut_codes(queries, bits), DEPTH)[1]
    return float((ids[:, :, None] == nearest[:, None]).any(1).float().mean())


def measure(features: Tensor, seed: int) -> list[tuple[str, int, float]]:
    """Return method, bits and recall of a draw of queries and of random starts."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features), generator=generator)
    queries, database = features[order[:QUERIES]], features[order[QUERIES:]]
    rows_of_fit = database[:ROWS]
    nearest = find_nearest(database, queries)
    d, rows = features.shape[1], []
    nested = NestedITQ(d, max(BITS)).fit(rows_of_fit, generator=torch.Generator().manual_seed(seed))
    codes, query_codes = encode(nested, database), encode(nested, queries)
    rows += [("nested_itq", bits, compute_recall(codes, query_codes, bits, nearest)) for bits in BITS]
    alone = [bits for bits in BITS if bits <= d]
    for bits in alone:
        itq = ITQ(d, bits).fit(rows_of_fit, generator=torch.Generator().manual_seed(seed))
        codes, query_codes = encode(itq, database), encode(itq, queries)
        rows.append(("itq", bits, compute_recall(codes, query_codes, bits, nearest)))
    rows += [("itq_prefix", bits, compute_recall(codes, query_codes, bits, nearest)) for bits in alone]
    return rows


def main() -> None:
    """Measure each collection, and print rows of a result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--seeds", type=int, default=3, help="draws (default 3)")
    arguments = parser.parse_args()
    for collection in arguments.collections:
        name, _, path = collection.partition("=")
        features = read_features(Path(path))
        for seed in range(arguments.seeds):
            for method, bits, recall in measure(features, seed):
                print(json.dumps([name, method, bits, seed, round(recall, 5)]), flush=True)


if __name__ == "__main__":
    main()
