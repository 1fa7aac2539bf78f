"""Encoding in shards by Ray Data: the same codes as one process, after any kill, and each shard once."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import polars
import psutil
import pytest
import torch
from PIL import Image

from deephash.cluster.shard_encoding import ShardEncoder, ShardTask
from deephash.cluster.shard_manifest import MANIFEST, PROGRESS, read_progress
from deephash.code_files.encode_file import encode_file
from deephash.code_files.encoder_of import load_view
from deephash.code_files.open_source import open_source
from deephash.code_files.row_range import RowRange
from deephash.validation import InvalidInputError

pytest.importorskip("ray")
PROGRAM = "deephash.command_line.main"


@pytest.fixture(scope="module")
def parquet_folder(tmp_path_factory):
    """The digits as Parquet files of uneven length, with ids that are no places, and one row without a value."""
    from deephash.data.mnist5k import read_mnist_digits

    folder = tmp_path_factory.mktemp("parquet")
    x = read_mnist_digits()[0].astype(np.float32)
    ids = np.arange(len(x)) * 7
    x[1234, 5] = np.nan
    for number, (low, high) in enumerate([(0, 1700), (1700, 1750), (1750, 5000)]):
        columns = {"id": ids[low:high], "x": polars.Series(x[low:high], dtype=polars.Array(polars.Float32, 784))}
        polars.DataFrame(columns).write_parquet(folder / f"part-{number}.parquet", row_group_size=600)
    return folder


def task(run, source, out, **settings):
    defaults = {"view": None, "features": None, "ids": None, "image_size": None, "device": "cpu", "rows": 100}
    return ShardTask(str(run), str(source), str(out), **{**defaults, **settings})


def contents(folder):
    """Bytes of what counts: codes, ids and bad rows of every shard."""
    return {path.name: path.read_bytes() for path in folder.glob("shard-*") if path.suffix != ".json"} | {
        path.name: path.read_bytes() for path in folder.glob("*.bad.json")
    }


def gathered(folder):
    """Codes and ids of all shards, in the manifest's order."""
    files = [
        folder / f"shard-{record['shard']:06d}.npy" for record in json.loads((folder / MANIFEST).read_text())["shards"]
    ]
    codes = np.concatenate([np.load(file) for file in files])
    return codes, np.concatenate([np.load(file.with_suffix(".ids.npy")) for file in files])


def workers_of(driver):
    """Processes of Ray's workers that belong to a driver, by what they are called while they encode."""
    found = []
    for child in driver.children(recursive=True):
        try:
            if "ShardEncoder" in " ".join([child.name(), *child.cmdline()]):
                found.append(child)
        except psutil.Error:
            continue
    return found


def arguments_of(run_folder, parquet_folder, out):
    """An encoding in 25 shards by two workers."""
    return [PROGRAM, "encode", run_folder, parquet_folder, out, "--skip-bad", "--engine", "ray", "--workers", 2,
            "--rows", 100, "--shard-rows", 200]  # fmt: skip


@pytest.fixture(scope="module")
def killed_shards(run_folder, parquet_folder, tmp_path_factory):
    """Folder of shards that were made while a worker was killed."""
    out = tmp_path_factory.mktemp("killed") / "shards"
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments_of(run_folder, parquet_folder, out))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    progress, killed = out / PROGRESS, 0
    while process.poll() is None and not killed:
        if progress.exists() and len(progress.read_text().splitlines()) > 2:
            for worker in workers_of(psutil.Process(process.pid))[:1]:
                worker.send_signal(signal.SIGKILL)
                killed += 1
        time.sleep(0.005)
    said, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert said.startswith("4,999 codes of 16 bits in 25 shards")
    assert said.count("\n") == 1, "Ray speaks on standard output"
    assert killed, "the encoding had ended before a worker could be killed; give it more shards"
    return out


@pytest.mark.ci
def test_a_killed_worker_changes_nothing(run_folder, parquet_folder, killed_shards, tmp_path):
    alone = tmp_path / "alone.npy"
    hasher, identity, _ = load_view(run_folder)
    encode_file(hasher, open_source(parquet_folder, run_folder), alone, identity=identity, skip_bad=True, rows=100)
    codes, ids = gathered(killed_shards)
    assert np.array_equal(codes, np.load(alone))
    assert np.array_equal(ids, np.load(alone.with_suffix(".ids.npy")))
    manifest = json.loads((killed_shards / MANIFEST).read_text())
    assert [record["start"] for record in manifest["shards"]] == list(range(0, 5000, 200))
    assert manifest["skipped"] == 1
    assert json.loads((killed_shards / "shard-000006.bad.json").read_text())[0]["id"] == 1234 * 7
    assert not list(killed_shards.glob("attempt-*"))


@pytest.mark.ci
def test_resuming_makes_only_what_is_missing_or_damaged(run_folder, parquet_folder, killed_shards, command, tmp_path):
    out = tmp_path / "shards"
    shutil.copytree(killed_shards, out)
    before, stamps = contents(out), {file.name: file.stat().st_mtime_ns for file in out.glob("shard-*.npy")}
    (out / "shard-000001.npy").write_bytes(b"damaged")
    (out / "shard-000003.ids.npy").unlink()
    lines = (out / PROGRESS).read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])["shard"]
    (out / PROGRESS).write_text("".join(lines)[:-9])
    arguments = arguments_of(run_folder, parquet_folder, out)
    told = command(*(argument for argument in arguments if argument != "--skip-bad"), status=1)
    assert f"1 of 5,000 rows cannot be encoded; they are listed beside their shards, the first in {out}" in told
    assert not (out / MANIFEST).exists()
    command(*arguments)
    assert contents(out) == before
    after = {file.name: file.stat().st_mtime_ns for file in out.glob("shard-*.npy")}
    assert {int(name[6:12]) for name in stamps if after[name] != stamps[name]} == {1, 3, last}


def test_shards_of_images_in_a_store_are_those_of_the_folder(compose_config, tmp_path):
    from deephash.command_line.programs.train import train

    draw = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    data = (
        "data=image_folder",
        f"data.path={tmp_path}/images",
        f"data.cache={tmp_path}",
        "data.descriptor.image_size=32",
        "protocol.queries=4",
        "metrics.at=[5]",
    )
    train(compose_config(*data, "method=lsh", "bits=8", "figures=false"), tmp_path / "run")
    (tmp_path / "images/a/00.png").write_bytes(b"no image")
    folder, store = (open_source(source, tmp_path / "run") for source in
                     (tmp_path / "images", (tmp_path / "images").as_uri()))  # fmt: skip
    assert store.names == folder.names
    for one, other in zip(folder.blocks(0, 20), store.blocks(0, 20), strict=True):
        assert torch.equal(one.features, other.features)
        assert one.ids == other.ids
        assert [row.id for row in one.bad] == [row.id for row in other.bad]


def test_stores_of_fsspec_are_read(run_folder, parquet_folder):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in parquet_folder.iterdir():
        memory.pipe(f"/bucket/{file.name}", file.read_bytes())
    local, stored = (open_source(source, run_folder) for source in (parquet_folder, "memory://bucket"))
    assert stored.rows == local.rows == 5000
    (one, *_), (other, *_) = (list(source.blocks(1700, 100)) for source in (local, stored))
    assert torch.equal(one.features, other.features)
    assert one.ids.tolist() == other.ids.tolist() == [row * 7 for row in range(1700, 1800)]
    with pytest.raises(InvalidInputError, match=r"nowhere://bucket cannot be read"):
        open_source("nowhere://bucket", run_folder)


@pytest.fixture
def s3_server(monkeypatch):
    """Address of a server that speaks S3's protocol, moto's."""
    pytest.importorskip("moto")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], **silent)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_objects_of_s3_are_read(s3_server, run_folder, parquet_folder):
    from pyarrow import fs

    settings = {"scheme": "http", "region": "us-east-1"}
    store = fs.S3FileSystem(endpoint_override=s3_server, allow_bucket_creation=True, **settings)
    store.create_dir("bucket")
    fs.copy_files(str(parquet_folder), "bucket/digits", destination_filesystem=store)
    address = f"s3://bucket/digits?endpoint_override={s3_server}&scheme=http&region=us-east-1"
    local, stored = (open_source(source, run_folder) for source in (parquet_folder, address))
    assert stored.rows == local.rows == 5000
    for one, other in zip(local.blocks(1000, 500), stored.blocks(1000, 500), strict=True):
        assert torch.equal(one.features, other.features)
        assert np.array_equal(one.ids, other.ids)
        assert one.bad == other.bad
    with pytest.raises(InvalidInputError, match="cannot be read"):
        open_source(address.replace("bucket", "nowhere"), run_folder)


@pytest.mark.parametrize("start", [0, 500, 4500])
def test_a_range_of_rows_is_the_source_s_own(run_folder, parquet_folder, start):
    source = open_source(parquet_folder, run_folder)
    blocks = list(RowRange(source, start, start + 500).blocks(0, 250))
    assert [block.stop for block in blocks] == [250, 500]
    assert sum(len(block.ids) + len(block.bad) for block in blocks) == 500
    assert blocks[0].ids[0] == start * 7


def test_a_shard_without_a_good_row_is_empty_and_told(run_folder, tmp_path):
    np.save(tmp_path / "x.npy", np.full((300, 784), np.nan, np.float32))
    record = ShardEncoder(vars(task(run_folder, tmp_path / "x.npy", tmp_path / "out")))(
        {"shard": 0, "start": 0, "stop": 300}
    )
    assert (record["rows"], record["bad"]) == (0, 300)
    assert len(json.loads((tmp_path / "out/shard-000000.bad.json").read_text())) == 300
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["shard-000000.bad.json"]


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="holds other files"):
        read_progress(tmp_path, {"hasher": "a"}, overwrite=False)
    assert read_progress(tmp_path / "new", {"hasher": "a"}, overwrite=False) == {}
    with pytest.raises(InvalidInputError, match="holds an encoding with another hasher"):
        read_progress(tmp_path / "new", {"hasher": "b"}, overwrite=False)
    assert read_progress(tmp_path / "new", {"hasher": "b"}, overwrite=True) == {}
