"""Kill a process at random moments while it writes hashers and the files of runs; all files must load.

python benchmarks/killed_writes.py --kills 200
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import polars
import torch

from deephash.data.protocols.base import Split
from deephash.evaluation.learnt_codes import LearntCodes, load_learnt
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.io.files import read_json, write_json
from deephash.projections.lsh import LSH
from deephash.quantizers.sbq import SBQ
from deephash.report.tables import write_per_query

PRELOADED = (
    "deephash.hashers.hasher",
    "deephash.projections.lsh",
    "deephash.report.tables",
    "deephash.evaluation.learnt_codes",
)
DIMENSIONS, BITS, ITEMS = 256, 64, 20_000


def fit_hasher(version: int) -> Hasher:
    """Fit a hasher whose weights follow from its version."""
    features = torch.randn(200, DIMENSIONS, generator=torch.Generator().manual_seed(version))
    return Hasher(LSH(DIMENSIONS, BITS), SBQ(BITS)).fit(features, generator=torch.Generator().manual_seed(version))


def write_forever(folder: Path, writing: Event) -> None:
    """Write one version of each file after another; all values of a version follow from its number."""
    hashers = [fit_hasher(version) for version in range(2)]
    version = 0
    while True:
        version += 1
        hashers[version % 2].save(folder / "hasher")
        codes = torch.full((ITEMS, BITS // 8), version % 256, dtype=torch.uint8)
        LearntCodes(codes, torch.full((ITEMS,), version)).save(folder)
        Split(np.arange(version, version + 50), np.arange(0, 1), np.arange(10**6, 10**6 + ITEMS)).save(
            folder / "split.npz"
        )
        scores = torch.full((ITEMS,), float(version))
        write_per_query(folder / "per_query.parquet", {"AP": scores}, torch.full((ITEMS,), version))
        write_json(folder / "metrics.json", {"version": version, "metrics": [version] * 2000})
        writing.set()


def check(folder: Path, identities: set[str]) -> tuple[list[int], str]:
    """Load everything.

    Returns:
        The versions of the files, in the order in which they are written, and the hasher's identity.

    Raises:
        Exception: a file is damaged.
    """
    identity = load(folder / "hasher").identity
    assert identity in identities, f"a hasher that was never written: {identity}"
    learnt = load_learnt(folder)
    assert learnt is not None
    assert len(learnt.codes) == len(learnt.ids) == ITEMS
    assert (learnt.ids == learnt.ids[0]).all()
    assert (learnt.codes == int(learnt.ids[0]) % 256).all()
    split = Split.load(folder / "split.npz")
    per_query = polars.read_parquet(folder / "per_query.parquet")
    assert per_query.shape == (ITEMS, 2)
    assert per_query["query"].n_unique() == 1
    assert (per_query["AP"] == per_query["query"]).all()
    row = read_json(folder / "metrics.json", "a row")
    assert row["metrics"] == [row["version"]] * 2000
    return [int(learnt.ids[0]), int(split.train[0]), int(per_query["query"][0]), row["version"]], identity


def kill_writers(kills: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Repeatedly start a writer in the same folder, kill it at a random moment, and check the files.

    Returns:
        Number of kills within a round of writes, which leave files of two versions, of kills between two rounds, and of
        kills that leave an unfinished file beside the others.
    """
    # The server of the forks has imported everything and used nothing, so forks lose no thread of polars or torch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "polars", "safetensors.torch", *PRELOADED])
    draw = random.Random(seed)
    identities = {fit_hasher(version).identity for version in range(2)}
    found: Counter[str] = Counter()
    for _ in range(kills):
        leftovers = set(folder.rglob("*.partial"))
        writing = context.Event()
        writer = context.Process(target=write_forever, args=(folder, writing), daemon=True)
        writer.start()
        if not writing.wait(60):
            raise RuntimeError("the writer does not start")
        time.sleep(draw.uniform(0, 0.15))
        writer.kill()
        writer.join()
        versions, _ = check(folder, identities)
        # Files are written in this order, so each may be one version ahead of the next.
        assert versions == sorted(versions, reverse=True), versions
        assert versions[0] - versions[-1] in (0, 1), versions
        found["two versions" if versions[0] != versions[-1] else "one version"] += 1
        found["unfinished file left"] += bool(set(folder.rglob("*.partial")) - leftovers)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_writers(arguments.kills, Path(folder), arguments.seed)
    print(f"{arguments.kills} kills in {time.perf_counter() - started:.0f} s, all files whole: {dict(found)}")


if __name__ == "__main__":
    sys.exit(main())
