"""Encoding a source into a folder of shards by workers of Ray Data: each shard once, whatever breaks off."""

import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deephash.cluster.ray_session import ray_session
from deephash.cluster.shard_manifest import (
    MANIFEST,
    ShardRecord,
    begin,
    check_folder,
    finish,
    note,
    shard_digests,
    shard_name,
)
from deephash.code_files.code_file import CodePaths, describe_codes
from deephash.code_files.code_writer import write_bad_rows
from deephash.code_files.encode_file import encoded_blocks
from deephash.code_files.encoder_of import load_view
from deephash.code_files.open_source import open_source
from deephash.code_files.row_range import RowRange
from deephash.code_files.rows import RowSource
from deephash.hashers.hasher import Hasher
from deephash.io.files import flush, write_json, writing
from deephash.io.npy_file import save_npy
from deephash.io.ownership import check_not_source, only_writer
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_count

# Codes of a shard: a million of 64 bits are 8 MB, and features of 512 dimensions that make them 2 GB.
SHARD_ROWS = 1 << 20
ATTEMPT = re.compile(r"attempt-[0-9a-f]{16}")


@dataclass(frozen=True)
class ShardTask:
    """What every worker needs to make a shard.

    Args:
        run: folder of the run or hasher, where every worker reads it.
        source: file, folder or address of the items.
        out: folder of the shards, where every worker writes.
        view: of a hasher of two views.
        features: array or columns of features.
        ids: column of ids.
        image_size: side of images in pixels.
        device: where to encode.
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


@dataclass(frozen=True)
class EncodedShards:
    """What came of an encoding.

    Args:
        rows: number of codes.
        bad: rows that cannot be encoded.
        shards: number of shards.
        made: of them by this call.
        bits: code length b.
        bad_rows: the first list of rows that cannot be encoded, where they keep the encoding from being complete; a
            manifest is written only where there are none or they are skipped.
    """

    rows: int
    bad: int
    shards: int
    made: int
    bits: int
    bad_rows: Path | None = None


class ShardEncoder:
    """One worker: holds the hasher and the opened source, and makes one shard after another.

    A shard is made in a folder of the attempt's own and moved into place when it is whole, its description last; so of
    two workers that make the same one, as after a lost connection, both leave the same bytes.

    Args:
        task: a `ShardTask` as a dictionary.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = ShardTask(**task)
        self.refusal = ""
        try:
            self.hasher, self.identity, self.view = load_view(self.task.run, self.task.view, self.task.device)
            self.source = open_source(
                self.task.source,
                self.task.run,
                features=self.task.features,
                ids=self.task.ids,
                image_size=self.task.image_size,
                header=self.task.header,
            )
        except InvalidInputError as error:
            self.refusal = str(error)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make the shard of the rows start to stop, and give its `ShardRecord` as a row.

        What the user got wrong is a row too, with the line in `refusal`: an error that a worker raises is told by Ray
        with the tracebacks of all that lies between.
        """
        try:
            if self.refusal:
                raise InvalidInputError(self.refusal)
            return {**self.made(row), "refusal": ""}
        except InvalidInputError as error:
            return {**asdict(ShardRecord(int(row["shard"]), 0, 0, 0, 0, {})), "digests": "", "refusal": str(error)}

    def made(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make a shard.

        Raises:
            InvalidInputError: a damaged source, or one of another dimension than the hasher's.
            StorageError: the disk does not take it.
        """
        shard, start, stop = (int(row[name]) for name in ("shard", "start", "stop"))
        out = Path(self.task.out)
        attempt = out / f"attempt-{secrets.token_hex(8)}"
        with writing(attempt):
            attempt.mkdir(parents=True)
        paths = CodePaths(attempt / shard_name(shard))
        try:
            part = RowRange(self.source, start, stop)
            rows, bad = write_shard(self.hasher, part, paths, self.identity, self.view, self.task.rows)
            digests = shard_digests(attempt, shard) if rows else {}
            with writing(out):
                for file in sorted(attempt.iterdir(), key=lambda file: file.name == paths.description.name):
                    os.replace(file, out / file.name)
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
        # Names differ from shard to shard, which makes no column of a table.
        return {**asdict(ShardRecord(shard, start, stop, rows, bad, {})), "digests": json.dumps(digests)}


def write_shard(
    hasher: Hasher, source: RowSource, paths: CodePaths, identity: str, view: str, rows: int
) -> tuple[int, int]:
    """Encode a source and write the files that `encode_file` would, at the end and not as they grow.

    Args:
        hasher: fitted, on the device that is to encode.
        source: of features, of few enough rows that their codes and ids can be held.
        paths: of an `.npy` file in a folder of this call's own.
        identity: of the hasher that the codes are said to be of.
        view: which view of a hasher of two this is.
        rows: rows that are read and encoded at a time.

    Returns:
        Numbers of rows encoded and not; where none is encoded only `.bad.json` is written.
    """
    codes, ids, bad = [], [], []
    for some, block in encoded_blocks(hasher, source, 0, min(rows, source.most_rows or rows)):
        codes.append(some)
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
        described = describe_codes(
            paths, kept, len(bad), identity, hasher.distance, hasher.bits, view, source.fingerprint()
        )
        write_json(paths.description, described)
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

    The codes are those of `encode_file`, shard after shard: blocks begin at the same rows. The same call goes on where
    an earlier one broke off, and makes again what no longer fits its checksum. Rows that cannot be encoded are listed
    beside their shard.

    Args:
        task: what is encoded by what.
        shard_rows: rows of a shard, raised to a multiple of a block's.
        workers: of Ray Data; None takes a processor each.
        address: of a Ray cluster that runs; None starts one here.
        skip_bad: whether rows that cannot be encoded are left out; else there is no manifest where there are some.
        overwrite: whether shards of something else there are replaced.

    Raises:
        InvalidInputError: what the run, the source or the folder is refused for; a source of unknown length; no row
            that can be encoded.
    """
    check_count(shard_rows, "shard_rows")
    hasher, identity, view = load_view(task.run, task.view, "cpu")
    source = open_source(
        task.source, task.run, features=task.features, ids=task.ids, image_size=task.image_size, header=task.header
    )
    if source.rows is None:
        raise InvalidInputError(f"{task.source} does not say how many rows it has; write it as Parquet for engine=ray.")
    block = min(task.rows, source.most_rows or task.rows)
    size = -(-shard_rows // block) * block
    out = Path(task.out)
    what = {
        "hasher": identity,
        "view": view,
        "rows": block,
        "shard_rows": size,
        "device": task.device,
        "source": source.fingerprint(),
    }
    check_not_source(task.source, out)
    check_folder(out, overwrite)
    with only_writer(out, str(out)):
        return encode_missing(hasher, source, task, what, workers, address, skip_bad, overwrite)


def encode_missing(
    hasher: Hasher,
    source: RowSource,
    task: ShardTask,
    what: Mapping[str, Any],
    workers: int | None,
    address: str | None,
    skip_bad: bool,
    overwrite: bool,
) -> EncodedShards:
    """Encode the shards that are not whole yet, and write the manifest."""
    out, size = Path(task.out), what["shard_rows"]
    assert source.rows is not None
    done = begin(out, what, overwrite)
    remove_attempts(out)
    bounds = [
        {"shard": shard, "start": start, "stop": min(start + size, source.rows)}
        for shard, start in enumerate(range(0, source.rows, size))
    ]
    missing = [entry for entry in bounds if entry["shard"] not in done]
    if missing:
        (out / MANIFEST).unlink(missing_ok=True)  # It says that all are there.
        for record in made_shards(missing, task, workers, address):
            note(out, record)
            done[record.shard] = record
        remove_attempts(out)
    rows, bad = (sum(getattr(record, name) for record in done.values()) for name in ("rows", "bad"))
    if bad and not skip_bad:
        first = min(record.shard for record in done.values() if record.bad)
        listed = CodePaths(out / shard_name(first)).bad
        return EncodedShards(rows, bad, len(bounds), len(missing), hasher.bits, listed)
    if rows == 0:
        raise InvalidInputError(f"0 of {bad} rows can be encoded; they are listed beside their shards in {out}.")
    finish(out, {"bits": hasher.bits, "items": rows, "skipped": bad, **what}, done)
    return EncodedShards(rows, bad, len(bounds), len(missing), hasher.bits)


def remove_attempts(out: Path) -> None:
    """Remove what killed workers left."""
    for leftover in out.iterdir():
        if ATTEMPT.fullmatch(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)


def made_shards(missing: list[dict[str, int]], task: ShardTask, workers: int | None, address: str | None) -> Any:
    """Records of shards as workers make them, in any order; another worker makes those of a lost worker.

    Raises:
        InvalidInputError: what a worker refuses.
    """
    # Ray tells of lost workers on standard output, which is the command's own.
    with redirect_stdout(sys.stderr), ray_session(workers or os.cpu_count() or 1, address) as ray:
        from ray import data

        # Its account of each execution is none of the command's.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        offered = int(ray.cluster_resources().get("GPU" if task.device == "cuda" else "CPU", 0))
        resources = {"num_cpus": 1, "num_gpus": 1} if task.device == "cuda" else {"num_cpus": 1}
        tasks: Any = data.from_items(missing, override_num_blocks=len(missing))
        made = tasks.map(
            ShardEncoder,
            fn_constructor_kwargs={"task": asdict(task)},
            concurrency=max(1, min(workers or offered, offered, len(missing))),
            **resources,
        )
        for row in track(made.iter_rows(), "Encoding shards", len(missing)):
            if refusal := row.pop("refusal"):
                raise InvalidInputError(refusal)
            yield ShardRecord(**{**row, "digests": json.loads(row["digests"])})
