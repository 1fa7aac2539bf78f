"""An interrupted computation of features continues after its last written rows, and never returns half a file."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from deephash.data import cache, unfinished_rows
from deephash.data.cache import read_or_describe
from deephash.data.descriptors.base import Descriptor
from deephash.data.unfinished_rows import UnfinishedRows

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)


class Means(Descriptor):
    """The mean of each image; counts the images, and can stop at one of them."""

    def __init__(self, stops_at=None):
        self.image_size = None
        self.described = 0
        self.stops_at = stops_at

    def parameters(self):
        return {}

    def describe(self, images):
        self.described += len(images)
        if self.stops_at is not None and self.described > self.stops_at:
            raise KeyboardInterrupt
        return torch.from_numpy(images.reshape(len(images), -1).mean(1, keepdims=True).astype(np.float32))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(cache, "BLOCK_IMAGES", 4)
    monkeypatch.setattr(unfinished_rows, "SAVE_SECONDS", 0)


def interrupt(folder):
    with pytest.raises(KeyboardInterrupt):
        read_or_describe(IMAGES, Means(stops_at=22), folder)


def test_it_continues_after_the_rows_that_were_written(small_blocks, tmp_path):
    interrupt(tmp_path)
    (unfinished,) = tmp_path.iterdir()
    assert len(list(unfinished.iterdir())) == 5
    rest = Means()
    features = read_or_describe(IMAGES, rest, tmp_path)
    assert rest.described == 20
    assert torch.equal(features, Means().describe(IMAGES))
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".safetensors"


@pytest.mark.parametrize("spoil", [lambda file: os.truncate(file, file.stat().st_size - 3), os.unlink])
def test_rows_after_a_damaged_file_are_computed_again(spoil, small_blocks, tmp_path):
    interrupt(tmp_path)
    (unfinished,) = tmp_path.iterdir()
    spoil(sorted(unfinished.iterdir())[2])
    rest = Means()
    assert torch.equal(read_or_describe(IMAGES, rest, tmp_path), Means().describe(IMAGES))
    assert rest.described == 32


def test_rows_of_another_computation_are_not_used(small_blocks, tmp_path):
    interrupt(tmp_path)
    (unfinished,) = tmp_path.iterdir()
    first, second = sorted(unfinished.iterdir())[:2]
    second.write_bytes(first.read_bytes())
    assert UnfinishedRows(unfinished, "another key").rows == 0
    assert torch.equal(read_or_describe(IMAGES, Means(), tmp_path), Means().describe(IMAGES))


def test_quick_computations_write_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK_IMAGES", 4)
    with pytest.raises(KeyboardInterrupt):
        read_or_describe(IMAGES, Means(stops_at=22), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_rows_that_cannot_be_written_are_computed(small_blocks, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert torch.equal(read_or_describe(IMAGES, Means(), tmp_path / "file"), Means().describe(IMAGES))


SLOW = """
import sys, time
import numpy as np
from PIL import Image
from pathlib import Path
from deephash.data import cache, file_features, unfinished_rows
from deephash.data.descriptors.pixels import Pixels

unfinished_rows.SAVE_SECONDS = 0
file_features.BLOCK_IMAGES = 2

class Slow(Pixels):
    costly = True
    def describe(self, images):
        time.sleep(0.2)
        print(len(images), flush=True)
        return super().describe(images)

files = sorted(Path(sys.argv[1]).iterdir())
found = file_features.read_or_describe_files(files, Slow(4), sys.argv[2])
np.savez(sys.argv[3], **{name: tensor.numpy() for name, tensor in found.items()})
"""


def test_a_killed_computation_of_files_continues(tmp_path):
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    for number, pixels in enumerate(IMAGES[:12]):
        Image.fromarray(pixels).save(images / f"{number:02d}.png")
    program = [sys.executable, "-c", textwrap.dedent(SLOW), str(images), str(tmp_path / "cache")]
    killed = subprocess.Popen([*program, str(tmp_path / "killed.npz")], stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        assert killed.stdout.readline() == "2\n"
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cache").glob("*/*.safetensors"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not list((tmp_path / "cache").glob("*.safetensors"))
    written = 2 * len(list((tmp_path / "cache").glob("*/*.safetensors")))
    assert 6 <= written < 12
    again = subprocess.run([*program, str(tmp_path / "again.npz")], capture_output=True, text=True, check=True)
    assert again.stdout.split() == ["2"] * ((12 - written) // 2)
    whole = subprocess.run(
        [*program[:-1], str(tmp_path / "other"), str(tmp_path / "whole.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert whole.stdout.split() == ["2"] * 6
    with np.load(tmp_path / "again.npz") as found, np.load(tmp_path / "whole.npz") as expected:
        assert set(found) == {"features", "thumbnails"}
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
