"""Writes that fail at each step, and processes that are killed while they write."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars
import pytest
import torch

from deephash.data.cache import read_or_compute
from deephash.data.protocols.base import Split
from deephash.evaluation.learnt_codes import LearntCodes
from deephash.hashers.hasher import Hasher
from deephash.io.files import LEFTOVER_SECONDS, write_json, write_text, write_whole
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.report.tables import write_per_query
from deephash.validation import StorageError

ROOT = Path(__file__).resolve().parents[2]
LARGE = 1 << 18


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted: that takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def save_hasher(folder):
    features = torch.rand(500, 400, generator=torch.Generator().manual_seed(0))
    Hasher(ITQ(400, 400, iterations=1), SBQ(400)).fit(features).save(folder)


def save_split(folder):
    rows = np.random.default_rng(0).integers(12, 1 << 40, LARGE)
    Split(np.arange(9), np.arange(9, 12), rows).save(folder / "split.npz")


WRITERS = {
    "text": lambda folder: write_text(folder / "a.txt", "x" * LARGE * 2),
    "json": lambda folder: write_json(folder / "a.json", list(range(LARGE))),
    "hasher": save_hasher,
    "codes": lambda folder: LearntCodes(torch.zeros(LARGE, 1, dtype=torch.uint8), torch.arange(LARGE)).save(folder),
    "split": save_split,
    "parquet": lambda folder: write_per_query(
        folder / "q.parquet", {"AP": torch.rand(LARGE, generator=torch.Generator().manual_seed(0))}, torch.arange(LARGE)
    ),
    "csv": lambda folder: write_whole(folder / "a.csv", polars.DataFrame({"a": np.arange(LARGE)}).write_csv),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_is_named_and_leaves_what_was_there(small_disk, writer):
    write_text(small_disk / "kept.txt", "whole")
    with pytest.raises(
        StorageError, match=rf"{small_disk}.* cannot be written \(No space left on device\); earlier files"
    ):
        WRITERS[writer](small_disk)
    assert [path.name for path in small_disk.iterdir()] == ["kept.txt"]
    write_text(small_disk / "kept.txt", "written again")


def test_read_only_disk_is_named(small_disk):
    write_text(small_disk / "a.txt", "old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=rf"{small_disk}/a.txt cannot be written \(Read-only file system\)"):
        write_text(small_disk / "a.txt", "new")
    assert (small_disk / "a.txt").read_text() == "old"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write to every folder")
def test_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"a.txt cannot be written \(Permission denied\)"):
            write_text(tmp_path / "a.txt", "new")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("step", ["pathlib.Path.touch", "pathlib.Path.write_text", "os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_each_step_of_a_write_may_be_refused(tmp_path, monkeypatch, step, number):
    path = tmp_path / "a.json"
    write_json(path, "old")
    with monkeypatch.context() as patch:

        def refuse(*_, **__):
            raise OSError(number, os.strerror(number))

        patch.setattr(step, refuse)
        with pytest.raises(StorageError, match=rf"{path} cannot be written \({os.strerror(number)}\); earlier files"):
            write_json(path, "new")
    assert path.read_text() == '"old"\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_flushed_is_told_of(tmp_path, monkeypatch):
    real, folders = os.fsync, []

    def refuse_folders(opened):
        if os.path.isdir(f"/proc/self/fd/{opened}"):
            folders.append(opened)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(opened)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("what a descriptor is of is told as on Linux")
    monkeypatch.setattr(os, "fsync", refuse_folders)
    with pytest.raises(StorageError, match=r"a.txt was written, but the disk may lose it at a power failure"):
        write_text(tmp_path / "a.txt", "new")
    assert folders
    assert (tmp_path / "a.txt").read_text() == "new"


def test_file_and_folders_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("deephash.io.files.flush", lambda path: done.append(("flush", path.name.partition(".")[0])))
    real = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (done.append(("rename", target.name)), real(self, target))
    )
    write_text(tmp_path / "new" / "a", "x")
    assert done == [("flush", "a"), ("rename", "a"), ("flush", "new"), ("flush", tmp_path.name)]


@pytest.mark.parametrize(("name", "refused"), [("n" * 255, False), ("é" * 127, False), ("n" * 256, True)])
def test_long_names(tmp_path, name, refused):
    if refused:
        with pytest.raises(StorageError, match=r"n cannot be written \(File name too long\)"):
            write_text(tmp_path / name, "x")
        assert not list(tmp_path.iterdir())
    else:
        write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


def test_writers_of_one_target_do_not_meet(tmp_path):
    together = threading.Barrier(2)
    seen = []

    def write(partial):
        partial.write_text(partial.name)
        together.wait(30)
        seen.append(partial.name)
        assert partial.read_text() == partial.name

    threads = [threading.Thread(target=write_whole, args=(tmp_path / "a", write)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() in seen


def test_what_killed_writers_left_is_removed_a_day_on(tmp_path):
    old, fresh, another = (
        tmp_path / name for name in ("a.0123abcd.partial", "a.4567abcd.partial", "b.0123abcd.partial")
    )
    download = tmp_path / "a.tar.partial"
    for path in (old, fresh, another, download):
        path.touch()
    for path in (old, another, download):
        os.utime(path, (time.time() - LEFTOVER_SECONDS - 60,) * 2)
    write_text(tmp_path / "a", "x")
    assert {path.name for path in tmp_path.iterdir()} == {"a", fresh.name, another.name, download.name}


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"cannot be written \(No space left on device\).* will compute it again"):
        found = read_or_compute(tmp_path, "a", "0" * 64, lambda _: {"x": torch.ones(3)})
    assert found["x"].tolist() == [1, 1, 1]


def test_full_disk_in_a_run_says_what_is_saved(small_disk):
    """The whole program: the hasher is written, then the disk is full; the run goes on once there is room."""
    command = [sys.executable, ROOT / "train.py", "method=itq", "bits=16", "logger=none", "figures=false"]
    command += [f"hydra.run.dir={small_disk}/run"]
    subprocess.run(["mount", "-o", "remount,size=168k", small_disk], check=True)
    done = subprocess.run(command, capture_output=True, text=True, cwd=small_disk.parent)
    assert done.returncode == 2, done.stderr[-1500:]
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: {small_disk}/run/"), line
    assert "cannot be written (No space left on device)" in line
    assert f"All that was saved before is intact; continue with: deephash train resume={small_disk.name}/run" in line
    assert Hasher.load(small_disk / "run" / "hasher").bits == 16
    assert not (small_disk / "run" / "metrics.json").exists()


@pytest.mark.ci
@pytest.mark.skipif(os.name != "posix", reason="processes are killed as on POSIX systems")
def test_killed_writers_leave_whole_files(tmp_path):
    script = ROOT / "benchmarks" / "killed_writes.py"
    done = subprocess.run([sys.executable, script, "--kills", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.startswith("4 kills in ")
