"""Search a saved index with packed codes, or with features that a run's hasher encodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deephash.code_files.code_file import read_codes
from deephash.code_files.encode_file import BLOCK_ROWS, check_dimension
from deephash.code_files.encoder_of import load_view
from deephash.code_files.name_file import read_names
from deephash.code_files.open_source import open_source
from deephash.code_files.rows import RowSource
from deephash.indexes.row_filter import Where
from deephash.indexes.sharded_index import OpenRelease, open_release
from deephash.io.files import write_whole
from deephash.io.npz_file import write_npz
from deephash.validation import InvalidInputError, check_choice

ENDINGS = (".npz", ".parquet")


@dataclass(frozen=True)
class Found:
    """Nearest neighbours of each query.

    Args:
        queries: ids of the q queries, whole numbers or strings.
        distances: int64 (q, k), ascending.
        ids: ids of the neighbours, whole numbers or strings (q, k). If fewer than k are found, the last are -1 or the
            empty string, at distance b + 1.
        bits: code length b.
    """

    queries: np.ndarray
    distances: np.ndarray
    ids: np.ndarray
    bits: int


def search_saved(
    index_folder: Path,
    queries: Path,
    k: int,
    run: Path | None = None,
    view: str | None = None,
    device: str = "cpu",
    *,
    features: Sequence[str] | None = None,
    ids: str | None = None,
    header: bool | None = None,
    where: str | None = None,
    names: Path | None = None,
) -> Found:
    """Find the k nearest codes of each query.

    Args:
        index_folder: folder of a saved index, or of an index in shards, which returns the same neighbours.
        queries: a file of codes; with a run, a file or folder that `deephash encode` accepts.
        k: number of neighbours.
        run: run whose hasher encodes the queries; the index must contain its codes. None if the queries are codes.
        view: view of a run of two views.
        device: device to encode queries on.
        features: with a run, array or columns of the queries' features.
        ids: with a run, column of ids in a table.
        header: with a run, whether the first line of a CSV file names its columns.
        where: condition on the items, as for `Index.search`.
        names: file of the names of the items to search among; see `read_names`.

    Raises:
        InvalidInputError: no index, codes of another hasher, queries that cannot be encoded, an invalid filter, or two.
    """
    if where is not None and names is not None:
        raise InvalidInputError(
            "--where and --names are two filters; give one, or write the names into the condition: name IN ('a', 'b')."
        )
    index = open_release(index_folder)
    chosen: Where | None = where if names is None else read_names(names, index.shards[0].index)
    if run is None:
        if not (features is None and ids is None and header is None):
            raise InvalidInputError(
                f"without --run, {queries} must hold codes, which have no columns; give --run, or leave out "
                "--features, --ids and --header."
            )
        read = read_codes(queries)
        if index.release.hasher != read.hasher:
            raise InvalidInputError(
                f"{queries} holds codes of the hasher {read.hasher}, and {index_folder} those of "
                f"{index.release.hasher}; search with codes of the same hasher."
            )
        found = index.search(read.codes, k, chosen)
        return Found(read.ids, found.distances, found.names, index.release.bits)
    source = open_source(queries, run, features=features, ids=ids, header=header)
    return search_rows(index, source, queries, k, run, view, device, chosen)


def search_rows(
    index: OpenRelease,
    source: RowSource,
    queries: Path,
    k: int,
    run: Path,
    view: str | None,
    device: str,
    where: Where | None = None,
) -> Found:
    """Encode features and search with them, block by block."""
    hasher, identity, _ = load_view(run, view, device)
    if index.release.hasher != identity:
        raise InvalidInputError(
            f"the index holds codes of the hasher {index.release.hasher}, and {run} has {identity}; search with the "
            "run that made them, or encode the database again."
        )
    if source.dimension is not None:
        check_dimension(source.dimension, hasher)
    ids, answers = [], []
    for block in source.blocks(0, min(BLOCK_ROWS, source.most_rows or BLOCK_ROWS)):
        if block.bad:
            first = block.bad[0]
            raise InvalidInputError(f"query {first.id} of {queries} cannot be encoded ({first.reason}); repair it.")
        check_dimension(block.features.shape[1], hasher)
        ids.append(np.array(block.ids))
        features = block.features.to(hasher.projection.is_fitted.device)
        answers.append(index.search(hasher.encode(features).cpu(), k, where))
    distances, names = (
        np.concatenate([getattr(answer, part) for answer in answers]) for part in ("distances", "names")
    )
    return Found(np.concatenate(ids), distances, names, index.release.bits)


def write_found(found: Found, out: Path) -> None:
    """Write the neighbours atomically.

    Args:
        found: neighbours of q queries.
        out: `.npz` of queries (q,), distances (q, k) and ids (q, k), or `.parquet` with a row for each neighbour:
            query, rank from 1, id, distance.

    Raises:
        InvalidInputError: another ending.
    """
    check_choice(out.suffix, ENDINGS, f"the ending of {out.name}")
    if out.suffix == ".npz":
        write_npz(out, queries=found.queries, distances=found.distances, ids=found.ids)
        return
    import polars

    depth = found.distances.shape[1]
    columns = {
        "query": np.repeat(found.queries, depth),
        "rank": np.tile(np.arange(1, depth + 1), len(found.queries)),
        "id": found.ids.ravel(),
        "distance": found.distances.ravel(),
    }
    frame = polars.DataFrame(
        {name: values.tolist() if values.dtype.kind == "U" else values for name, values in columns.items()}
    )
    write_whole(out, frame.write_parquet)
