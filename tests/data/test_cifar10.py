import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from deephash.data import cifar10
from deephash.data.cifar10 import CIFAR10, read_binary_archive
from deephash.data.descriptors.gist import Gist
from deephash.data.descriptors.pixels import Pixels
from deephash.data.protocols.official import Official
from deephash.validation import InvalidInputError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 10


def write_archive(path, images=IMAGES, labels=LABELS, leave_out=None, cut=0):
    """Six batches in the layout of the binary edition: a label, then all red, all green, all blue bytes."""
    with tarfile.open(path, "w:gz") as file:

        def add(name, contents):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(contents)
            file.addfile(info, io.BytesIO(contents))

        for i, batch in enumerate(cifar10.BATCHES):
            rows = range(10 * i, 10 * i + 10)
            records = [bytes([labels[r]]) + b"".join(images[r, :, :, c].tobytes() for c in range(3)) for r in rows]
            if batch != leave_out:
                add(f"{batch}.bin", b"".join(records)[: 30730 - (cut if batch == "data_batch_3" else 0)])
        add("batches.meta.txt", "\n".join([*CLASSES, ""]).encode())
    return path


def write_npz(path, **changes):
    arrays = {"images": IMAGES, "labels": LABELS, "is_test": np.arange(60) >= 50, "classes": np.array(CLASSES)}
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return str(path)


def module(path, **parameters):
    return CIFAR10(Official(), 0, descriptor=Pixels(), path=str(path), **parameters)


def test_the_binary_edition_is_read_from_its_archive(tmp_path):
    found = read_binary_archive(write_archive(tmp_path / "a.tar.gz"))
    assert np.array_equal(found["images"], IMAGES)
    assert np.array_equal(found["labels"], LABELS)
    assert np.array_equal(found["is_test"], np.arange(60) >= 50)
    assert found["classes"].tolist() == CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leave_out": "data_batch_4"}, "has no data_batch_4.bin; it is not CIFAR-10's binary edition"),
        ({"cut": 1}, "data_batch_3.bin of .* has 30729 bytes, not a multiple of 3073; it is damaged"),
    ],
)
def test_other_archives_are_refused(tmp_path, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        read_binary_archive(write_archive(tmp_path / "a.tar.gz", **changes))


def test_truncated_archives_are_refused(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InvalidInputError, match=r"cannot be read .*; delete it to download it again"):
        read_binary_archive(path)


def test_items_are_images_with_their_parts(tmp_path):
    data = module(write_npz(tmp_path / "c.npz"))
    data.prepare_data()
    data.setup()
    items = data.items
    assert data.feature_dim == 3072
    assert torch.equal(items.features, torch.from_numpy(IMAGES.reshape(60, -1)) / 255)
    assert torch.equal(items.labels, torch.arange(60) % 10)
    assert items.class_names == tuple(CLASSES)
    assert items.official.tolist() == ["train"] * 50 + ["query"] * 10
    assert np.array_equal(items.images, IMAGES)
    assert data.part("query").ids.tolist() == list(range(50, 60))


def test_a_download_is_kept_as_arrays_and_gist_is_computed_once(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "published.tar.gz")
    monkeypatch.setattr(cifar10, "CHECKSUM", "md5:" + hashlib.md5(archive.read_bytes()).hexdigest())
    fetched = []

    def download(addresses, path, checksum):
        assert checksum == cifar10.CHECKSUM
        fetched.append(addresses)
        path.write_bytes(archive.read_bytes())
        return path

    monkeypatch.setattr("deephash.data.download.download", download)
    cache = tmp_path / "cache"
    cache.mkdir()
    for _ in range(2):
        data = CIFAR10(Official(), 0, descriptor=Gist(), cache=str(cache))
        data.prepare_data()
        data.setup()
    assert len(fetched) == 1
    assert sorted(file.name[:8] for file in cache.iterdir()) == [
        "cifar10.",
        "gist-" + next(cache.glob("gist-*")).name[5:8],
    ]
    torch.testing.assert_close(data.items.features, Gist().describe(IMAGES), atol=0, rtol=0)
    assert np.array_equal(data.items.images, IMAGES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_test": None}, r"has no is_test; it contains images, labels, classes\. Expected images uint8"),
        ({"images": IMAGES[:, :, :30]}, r"images of dtype uint8 and shape \(60, 32, 30, 3\) beside 60 labels"),
        ({"images": IMAGES.astype(np.float32)}, "images of dtype float32"),
        ({"labels": LABELS[:59]}, "beside 59 labels; expected uint8"),
        ({"labels": LABELS + 1}, "contains 60 labels and 10 classes; labels start at 0"),
        ({"is_test": np.arange(50) > 5}, r"is_test of shape \(50,\) beside 60 labels"),
        ({"classes": np.array([["a"], 1], dtype=object)}, "Python objects"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        module(write_npz(tmp_path / "c.npz", **changes)).setup()


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"absent.npz does not exist; give CIFAR-10 as an .npz file, or no path"
    ):
        module(tmp_path / "absent.npz").setup()
    path = tmp_path / "c.npz"
    write_npz(path)
    for spoil in (path.read_bytes()[:5000], b"", b"nothing"):
        path.write_bytes(spoil)
        with pytest.raises(InvalidInputError, match=r"is not readable as .npz"):
            module(path).setup()


@pytest.mark.data
def test_the_real_images_are_read(cifar10_npz):
    items = CIFAR10(Official(), 0, descriptor=Pixels(), path=str(cifar10_npz)).load()
    assert items.features.shape == (60000, 3072)
    assert torch.bincount(items.labels).tolist() == [6000] * 10
    assert (items.official == "query").sum() == 10000


@pytest.mark.data
def test_gist_brings_images_of_a_class_together(cifar10_gist):
    """Nearest neighbours by GIST share their class far more often than the 1 in 10 of chance."""
    features, labels, is_test = cifar10_gist
    assert features.shape == (60000, 512)
    queries, database = is_test.nonzero().flatten()[:200], (~is_test).nonzero().flatten()
    nearest = torch.cdist(features[queries], features[database]).topk(10, largest=False).indices
    agreement = (labels[database][nearest] == labels[queries][:, None]).float().mean()
    assert agreement > 0.45
