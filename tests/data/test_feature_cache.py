import os

import numpy as np
import pytest
import torch

from deephash.data.cache import read_or_describe
from deephash.data.descriptors.base import Descriptor

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)


class Counted(Descriptor):
    """The mean of each image, which counts how often it is computed."""

    def __init__(self, scale=1.0):
        self.image_size = None
        self.scale = scale
        self.times = 0

    def parameters(self):
        return {"scale": self.scale}

    def describe(self, images):
        self.times += 1
        return torch.from_numpy(images.reshape(len(images), -1).mean(1, keepdims=True).astype(np.float32)) * self.scale


def stored(folder):
    return list(folder.iterdir())


def test_features_are_computed_once(tmp_path):
    descriptor = Counted()
    first = read_or_describe(IMAGES, descriptor, tmp_path / "new" / "folder")
    second = read_or_describe(IMAGES.copy(), Counted(), tmp_path / "new" / "folder")
    assert descriptor.times == 1
    assert torch.equal(first, second)
    (file,) = stored(tmp_path / "new" / "folder")
    assert file.name.startswith("counted-")
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_key_covers_pixels_shape_parameters_and_version(tmp_path, monkeypatch):
    changed = IMAGES.copy()
    changed[4, 3, 3, 2] ^= 1
    for images, descriptor in (
        (IMAGES, Counted()),
        (changed, Counted()),
        (IMAGES[:4], Counted()),
        (IMAGES.reshape(5, 8, 2, 3), Counted()),
        (IMAGES, Counted(2.0)),
    ):
        read_or_describe(images, descriptor, tmp_path)
        assert descriptor.times == 1
    monkeypatch.setattr(Counted, "version", 2)
    newer = Counted()
    read_or_describe(IMAGES, newer, tmp_path)
    assert newer.times == 1
    assert len(stored(tmp_path)) == 6


def flip_last_byte(file):
    contents = bytearray(file.read_bytes())
    contents[-1] ^= 1
    file.write_bytes(contents)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: os.truncate(file, file.stat().st_size - 1), ""),
        (lambda file: os.truncate(file, 0), ""),
        (lambda file: file.write_bytes(b"not a cache"), ""),
        (flip_last_byte, "its contents do not match their checksum"),
    ],
)
def test_a_damaged_file_is_computed_again_with_a_warning(tmp_path, spoil, reason):
    right = read_or_describe(IMAGES, Counted(), tmp_path)
    (file,) = stored(tmp_path)
    spoil(file)
    with pytest.warns(UserWarning, match=f"{file.name} cannot be used .*{reason}.*; computing it again"):
        assert torch.equal(read_or_describe(IMAGES, Counted(), tmp_path), right)
    untouched = Counted()
    assert torch.equal(read_or_describe(IMAGES, untouched, tmp_path), right)
    assert untouched.times == 0


def test_another_key_under_the_same_name_is_not_taken(tmp_path):
    read_or_describe(IMAGES, Counted(), tmp_path)
    (file,) = stored(tmp_path)
    read_or_describe(IMAGES, Counted(2.0), tmp_path)
    (other,) = set(stored(tmp_path)) - {file}
    other.replace(file)
    with pytest.warns(UserWarning, match="it was computed from other input"):
        features = read_or_describe(IMAGES, Counted(), tmp_path)
    assert torch.equal(features, Counted().describe(IMAGES))


def test_a_folder_that_cannot_be_written_costs_no_features(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"cannot be written .* The next run will compute it again"):
        features = read_or_describe(IMAGES, Counted(), tmp_path / "file")
    assert torch.equal(features, Counted().describe(IMAGES))


def test_a_failed_computation_leaves_no_file(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Counted, "describe", fail)
    with pytest.raises(KeyboardInterrupt):
        read_or_describe(IMAGES, Counted(), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    read_or_describe(IMAGES, Counted(), "~/features")
    assert len(stored(tmp_path / "features")) == 1
