"""Encode a source into a folder of shards with workers of Ray Data; interrupted calls continue where they stopped."""

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deephash.cluster.ray_session import ray_workers
from deephash.cluster.shard_manifest import (
    MANIFEST,
    ShardRecord,
    check_folder,
    digest_shard,
    name_shard_file,
    read_progress,
    save_progress,
    write_manifest,
)
from deephash.code_files.code_file import CodePaths, describe_codes
from deephash.code_files.code_writer import write_bad_rows
from deephash.code_files.encode_file import encode_blocks
from deephash.code_files.encoder_of import load_view
from deephash.code_files.open_source import open_source
from deephash.code_files.row_range import RowRange
from deephash.code_files.rows import RowSource
from deephash.hashers.hasher import Hasher
from deephash.indexes.index_writing import remove_subfolders
from deephash.io.files import flush, write_json, writing
from deephash.io.npy_file import save_npy
from deephash.io.ownership import check_not_source, lock_for_writing
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_count

# Rows of a shard: a million 64-bit codes are 8 MB, and their 512-dimensional float32 features are 2 GB.
SHARD_ROWS = 1 << 20
ATTEMPT = re.compile(r"attempt-[0-9a-f]{16}")


@dataclass(frozen=True)
class ShardTask:
    """Arguments of an encoding, which every worker gets; all workers need access to the folders.

    Args:
        run: folder of the run or hasher.
        source: file, folder or address of the items.
        out: folder of the shards.
        view: view of a hasher of two views.
        features: array or columns of features.
        ids: column of ids.
        image_size: side of images in pixels.
        device: device to encode on.
        rows: rows of a block.
        header: whether the first line of a CSV file names its columns.
    """

    run: str
    source: str
    out: str
    view: str | None
    features: list[str] | None
    ids: str | None
    image_size: int | None
    device: str
    rows: int
    header: bool | None = None

    def open_source(self) -> RowSource:
        """Open the source."""
        return open_source(
            self.source,
            self.run,
            features=self.features,
            ids=self.ids,
            image_size=self.image_size,
            header=self.header,
        )


@dataclass(frozen=True)
class EncodedShards:
    """Result of an encoding.

    Args:
        rows: number of codes.
        bad: number of rows that cannot be encoded.
        shards: number of shards.
        made: number of shards that this call encoded.
        bits: code length b.
        bad_rows: first file that lists rows that cannot be encoded, if these rows are not skipped and so prevent the
            manifest.
    """

    rows: int
    bad: int
    shards: int
    made: int
    bits: int
    bad_rows: Path | None = None


class ShardEncoder:
    """A worker that holds the hasher and the opened source, and encodes one shard after another.

    A shard is encoded in the folder of an attempt, and moved into place once it is complete; its description is moved
    last. So if two workers encode the same shard, for example after a lost connection, the result is the same bytes.

    Args:
        task: a `ShardTask` as a dictionary.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = ShardTask(**task)
        self.refusal = ""
        try:
            self.hasher, self.identity, self.view = load_view(self.task.run, self.task.view, self.task.device)
            self.source = self.task.open_source()
        except InvalidInputError as error:
            self.refusal = str(error)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Encode the shard of the rows start to stop, and return its `ShardRecord` as a row.

        An `InvalidInputError` becomes a row with its message in `refusal`, since Ray reports the exception of a worker
        with the tracebacks of all layers in between.
        """
        try:
            if self.refusal:
                raise InvalidInputError(self.refusal)
            return {**self.encode(row), "refusal": ""}
        except InvalidInputError as error:
            return {**asdict(ShardRecord(int(row["shard"]), 0, 0, 0, 0, {})), "digests": "", "refusal": str(error)}

    def encode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Encode a shard.

        Raises:
            InvalidInputError: the source is damaged, or its dimension differs from the hasher's.
            StorageError: the disk is full or not writable.
        """
        shard, start, stop = (int(row[name]) for name in ("shard", "start", "stop"))
        out = Path(self.task.out)
        attempt = out / f"attempt-{secrets.token_hex(8)}"
        with writing(attempt):
            attempt.mkdir(parents=True)
        paths = CodePaths(attempt / name_shard_file(shard))
        try:
            part = RowRange(self.source, start, stop)
            rows, bad = write_shard(self.hasher, part, paths, self.identity, self.view, self.task.rows)
            digests = digest_shard(attempt, shard) if rows else {}
            with writing(out):
                for file in sorted(attempt.iterdir(), key=lambda file: file.name == paths.description.name):
                    os.replace(file, out / file.name)
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
        # File names differ between shards, so the digests cannot be a column of a table: write them as JSON.
        return {**asdict(ShardRecord(shard, start, stop, rows, bad, {})), "digests": json.dumps(digests)}


def write_shard(
    hasher: Hasher, source: RowSource, paths: CodePaths, identity: str, view: str, rows: int
) -> tuple[int, int]:
    """Encode a source, and write the files of `encode_file` at the end.

    Args:
        hasher: fitted hasher, on the device to encode on.
        source: rows of features, few enough that their codes and ids fit in memory.
        paths: paths of an `.npy` file in a folder that only this call uses.
        identity: identity of the hasher to record.
        view: view of this hasher, if the whole hasher has two.
        rows: rows to read and encode at a time.

    Returns:
        Numbers of rows that were and were not encoded; if none was, only `.bad.json` is written.
    """
    codes, ids, bad = [], [], []
    for block_codes, block in encode_blocks(hasher, source, 0, min(rows, source.most_rows or rows)):
        codes.append(block_codes)
        ids.append(np.asarray(block.ids, np.str_ if source.named else np.int64))
        bad += block.bad
    kept = sum(map(len, codes))
    if bad:
        write_bad_rows(paths.bad, (json.dumps(asdict(row)) for row in bad))
    if kept:
        for path, parts in ((paths.codes, codes), (paths.ids, ids)):
            with writing(path):
                save_npy(path, np.concatenate(parts))
                flush(path)
        description = describe_codes(
            paths, kept, len(bad), identity, hasher.distance, hasher.bits, view, source.fingerprint()
        )
        write_json(paths.description, description)
    return kept, len(bad)


def encode_shards(
    task: ShardTask,
    *,
    shard_rows: int = SHARD_ROWS,
    workers: int | None = None,
    address: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
) -> EncodedShards:
    """Encode all rows of a source into `shard-NNNNNN.npy` files with ids, and a manifest with their checksums.

    The codes equal those of `encode_file`, since blocks begin at the same rows. The same call continues where an
    earlier one stopped, and repeats the shards that no longer match their checksums. Rows that cannot be encoded are
    listed beside their shard.

    Args:
        task: arguments of the encoding.
        shard_rows: rows of a shard, rounded up to a multiple of a block.
        workers: workers of Ray Data; None uses one for each processor.
        address: address of a running Ray cluster; None starts one here.
        skip_bad: whether to skip rows that cannot be encoded; if false, such rows prevent the manifest.
        overwrite: whether to replace shards of another encoding.

    Raises:
        InvalidInputError: the run, the source or the folder is invalid, the length of the source is unknown, or no row
            can be encoded.
    """
    check_count(shard_rows, "shard_rows")
    hasher, identity, view = load_view(task.run, task.view, "cpu")
    source = task.open_source()
    if source.rows is None:
        raise InvalidInputError(f"{task.source} does not say how many rows it has; write it as Parquet for engine=ray.")
    block = min(task.rows, source.most_rows or task.rows)
    size = -(-shard_rows // block) * block
    out = Path(task.out)
    settings = {
        "hasher": identity,
        "view": view,
        "rows": block,
        "shard_rows": size,
        "device": task.device,
        "source": source.fingerprint(),
    }
    check_not_source(task.source, out)
    check_folder(out, overwrite)
    with lock_for_writing(out, str(out)):
        return encode_missing(hasher, source, task, settings, workers, address, skip_bad, overwrite)


def encode_missing(
    hasher: Hasher,
    source: RowSource,
    task: ShardTask,
    settings: Mapping[str, Any],
    workers: int | None,
    address: str | None,
    skip_bad: bool,
    overwrite: bool,
) -> EncodedShards:
    """Encode the shards that are missing or damaged, and write the manifest."""
    out, size = Path(task.out), settings["shard_rows"]
    assert source.rows is not None
    done = read_progress(out, settings, overwrite)
    remove_subfolders(out, ATTEMPT)
    bounds = [
        {"shard": shard, "start": start, "stop": min(start + size, source.rows)}
        for shard, start in enumerate(range(0, source.rows, size))
    ]
    missing = [entry for entry in bounds if entry["shard"] not in done]
    if missing:
        (out / MANIFEST).unlink(missing_ok=True)  # The manifest states that all shards exist.
        for record in run_workers(missing, task, workers, address):
            save_progress(out, record)
            done[record.shard] = record
        remove_subfolders(out, ATTEMPT)
    rows, bad = (sum(getattr(record, name) for record in done.values()) for name in ("rows", "bad"))
    if bad and not skip_bad:
        first = min(record.shard for record in done.values() if record.bad)
        listed = CodePaths(out / name_shard_file(first)).bad
        return EncodedShards(rows, bad, len(bounds), len(missing), hasher.bits, listed)
    if rows == 0:
        raise InvalidInputError(f"0 of {bad} rows can be encoded; they are listed beside their shards in {out}.")
    write_manifest(out, {"bits": hasher.bits, "items": rows, "skipped": bad, **settings}, done)
    return EncodedShards(rows, bad, len(bounds), len(missing), hasher.bits)


def run_workers(
    missing: list[dict[str, int]], task: ShardTask, workers: int | None, address: str | None
) -> Iterator[ShardRecord]:
    """Yield the records of shards as workers finish them, in any order; Ray repeats the shard of a lost worker."""
    with ray_workers(workers, address, task.device) as (_, resources, offered):
        from ray import data

        # Ray Data reports each execution; the command does not show that.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        tasks: Any = data.from_items(missing, override_num_blocks=len(missing))
        records = tasks.map(
            ShardEncoder,
            fn_constructor_kwargs={"task": asdict(task)},
            concurrency=max(1, min(offered, len(missing))),
            **resources,
        )
        for row in track(records.iter_rows(), "Encoding shards", len(missing)):
            if refusal := row.pop("refusal"):
                raise InvalidInputError(refusal)
            yield ShardRecord(**{**row, "digests": json.loads(row["digests"])})
