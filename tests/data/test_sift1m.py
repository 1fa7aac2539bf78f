import hashlib
import tarfile

import numpy as np
import pytest
import torch

from deephash.data import sift1m
from deephash.data.protocols.official import Official
from deephash.data.sift1m import SIFT1M
from deephash.data.vectors import write_vectors
from deephash.validation import InvalidInputError


def write_set(folder, prefix="siftsmall", dimension=8, sizes=(50, 5, 20)):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    vectors = [rng.integers(0, 256, (n, dimension)) for n in sizes]
    for name, each in zip(("base", "query", "learn"), vectors, strict=True):
        write_vectors(folder / f"{prefix}_{name}.fvecs", each)
    return vectors


def module(path, prefix="siftsmall"):
    return SIFT1M(Official(), 0, prefix=prefix, path=str(path))


def test_parts_are_the_publishers_and_the_database_comes_first(tmp_path):
    base, query, learn = write_set(tmp_path / "s")
    data = module(tmp_path / "s")
    data.prepare_data()
    data.setup()
    assert data.items.features.dtype == torch.float32
    assert data.items.labels is None
    for role, vectors in (("database", base), ("query", query), ("train", learn)):
        assert np.array_equal(data.part(role).features.numpy(), vectors)
    assert data.part("database").ids.tolist() == list(range(50))


@pytest.mark.data
def test_published_neighbours_of_real_vectors_are_the_nearest(real_data, tmp_path):
    with np.load(real_data / "siftsmall.npz") as stored:
        write_vectors(tmp_path / "siftsmall_base.fvecs", stored["base"])
        write_vectors(tmp_path / "siftsmall_query.fvecs", stored["query"])
        write_vectors(tmp_path / "siftsmall_learn.fvecs", stored["ngt5k"])
        write_vectors(tmp_path / "siftsmall_groundtruth.ivecs", stored["groundtruth"])
    data = module(tmp_path)
    data.setup()
    assert [len(data.part(role)) for role in ("database", "query", "train")] == [10000, 100, 5000]
    squared = torch.cdist(data.part("query").features, data.part("database").features)
    published = data.read_published_neighbours()
    assert published.shape == (100, 100)
    assert published.dtype == np.int32
    # Distances, not ids: equal distances may stand in another order.
    torch.testing.assert_close(
        squared.gather(1, torch.from_numpy(published).long()), squared.topk(100, largest=False).values
    )


def test_the_archive_is_fetched_and_unpacked_once(tmp_path, monkeypatch):
    write_set(tmp_path / "siftsmall")
    with tarfile.open(tmp_path / "published.tar.gz", "w:gz") as file:
        file.add(tmp_path / "siftsmall", "siftsmall")
    contents = (tmp_path / "published.tar.gz").read_bytes()
    fetched = []

    def download(addresses, path, checksum):
        assert checksum == sift1m.ARCHIVES["siftsmall"].checksum
        fetched.append(hashlib.md5(contents).hexdigest())
        path.write_bytes(contents)
        return path

    monkeypatch.setattr("deephash.data.download.download", download)
    (tmp_path / "cache").mkdir()
    for _ in range(2):
        data = SIFT1M(Official(), 0, prefix="siftsmall", cache=str(tmp_path / "cache"))
        data.prepare_data()
        data.setup()
    assert len(fetched) == 1
    assert len(data.items) == 75
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["siftsmall"]


def test_what_is_missing_or_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"siftsmall_base.fvecs does not exist"):
        module(tmp_path).setup()
    write_set(tmp_path)
    with pytest.raises(InvalidInputError, match=r"siftsmall_groundtruth.ivecs does not exist"):
        module(tmp_path).read_published_neighbours()
    write_vectors(tmp_path / "siftsmall_learn.fvecs", np.ones((3, 9)))
    with pytest.raises(InvalidInputError, match=r"siftsmall_learn.fvecs has vectors of dimension 9 and .* of 8; give"):
        module(tmp_path).setup()
    file = tmp_path / "siftsmall_query.fvecs"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InvalidInputError, match=r"siftsmall_query.fvecs has 177 bytes, not a multiple of the 36"):
        module(tmp_path).setup()
    with pytest.raises(InvalidInputError, match="prefix='deep'; expected one of: sift, siftsmall"):
        SIFT1M(Official(), 0, prefix="deep")
