"""Write the codes of a run: the database in shards, the queries, and the relevant items of each query."""

import re
from functools import partial
from pathlib import Path

import torch

from deephash.code_files.code_file import CodePaths, describe_codes
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.functional.shares import get_share
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.io.files import write_json, write_whole
from deephash.io.npy_file import save_npy
from deephash.io.npz_file import write_npz
from deephash.io.ownership import check_free
from deephash.io.run_folder import RunFolder
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels
from deephash.validation import InvalidInputError, check_count

QUERIES, DATABASE = "queries.npy", "database"
SHARD_FILE = re.compile(r"shard-\d{5,}\.(npy|ids\.npy|labels\.npy|json)")


def write_run_shards(run: Path, out: Path, shards: int, overwrite: bool = False) -> int:
    """Encode a run's queries and database, and write `queries.npy` and `database/shard-NNNNN.npy`.

    Args:
        run: folder of a complete run of one view.
        out: folder to write into.
        shards: number of shards of the database.
        overwrite: whether to replace existing files of these names, and to remove surplus shards of an earlier call.

    Returns:
        Number of database items.

    Raises:
        InvalidInputError: the run is incomplete or has two views, there are more shards than items, or the folder
            contains codes and `overwrite` is False.
    """
    from deephash.io.instantiation import build
    from deephash.training.run_data import read_run_data

    check_count(shards, "shards")
    surplus_shards = find_surplus_shards(out, shards, overwrite)
    stored = RunFolder(run)
    stored.check_complete()
    hasher, config = load(run), stored.read_config()
    if not isinstance(hasher, Hasher):
        raise InvalidInputError(f"{run} has two views; encode each with deephash encode --view.")
    data = read_run_data(stored, config)
    database, queries = data.part("database"), data.part("query")
    if shards > len(database):
        raise InvalidInputError(f"shards={shards} exceeds the {len(database)} items of the database; lower it.")
    relevance = FittedTruth(build(config.truth), data).relevance(queries, database)

    def write(path: Path, codes: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor | None) -> None:
        paths = CodePaths(path)
        for place, values in ((paths.ids, ids), (paths.labels, labels), (paths.codes, codes)):
            if values is not None:
                write_whole(place, partial(save_npy, values=values.numpy()))
        source = {"run": str(run), "split": data.split.hash}
        description = describe_codes(
            paths, len(codes), 0, hasher.identity, hasher.distance, hasher.bits, "", {**source, "file": path.name}
        )
        write_json(paths.description, description)

    labels = (
        (relevance.query, relevance.database) if isinstance(relevance, SharedLabel | SharedLabels) else (None, None)
    )
    for path in surplus_shards:
        path.unlink(missing_ok=True)
    codes = hasher.encode(database.features)
    for shard in range(shards):
        rows = get_share(len(database), shard, shards)
        some = slice(rows.start, rows.stop)
        shard_labels = None if labels[1] is None else labels[1][some]
        write(out / DATABASE / f"shard-{shard:05d}.npy", codes[some], database.ids[some], shard_labels)
    if isinstance(relevance, Neighbours):
        path = CodePaths(out / QUERIES).neighbours
        write_npz(path, offsets=relevance.offsets.numpy(), ids=relevance.ids.numpy())
    write(out / QUERIES, hasher.encode(queries.features), queries.ids, labels[0])
    return len(database)


def find_surplus_shards(out: Path, shards: int, overwrite: bool) -> list[Path]:
    """Return the files of an earlier call with more shards, which the caller must remove.

    Raises:
        InvalidInputError: a file exists and `overwrite` is False, or a folder has the name of a file.
    """
    places = [out / QUERIES, *(out / DATABASE / f"shard-{shard:05d}.npy" for shard in range(shards))]
    written = [path for place in places for path in (*CodePaths(place).all[:3], CodePaths(place).labels)]
    written.append(CodePaths(out / QUERIES).neighbours)
    known = [path for path in (out / DATABASE).glob("shard-*") if SHARD_FILE.fullmatch(path.name)]
    surplus_shards = [path for path in known if path not in written]
    check_free(*written, *surplus_shards, overwrite=overwrite)
    return surplus_shards
