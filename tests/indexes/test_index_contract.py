"""What every kind of index in conf/index promises, against the engine itself."""

import inspect

import numpy as np
import pytest
import torch

import deephash
from deephash.indexes.build_index import index_class, index_kinds
from deephash.validation import InvalidInputError

# Each kind by its defaults, and by the other of its two ways where it has two.
CHOICES = [
    pytest.param(kind, {} if way is None else {"approximate": way}, id=kind if way is None else f"{kind}-{way}")
    for kind in index_kinds()
    for way in ((True, False) if "approximate" in inspect.signature(index_class(kind)).parameters else (None,))
]
# Of the 10 nearest of a query among clusters; ties count as found.
MIN_RECALL = 0.95

every_kind = pytest.mark.parametrize(("kind", "settings"), CHOICES)


def distances_of(queries, codes):
    """Hamming distances (q, N) by NumPy, bit by bit."""
    apart = queries.numpy()[:, None] ^ codes.numpy()[None]
    return np.unpackbits(apart, axis=2).sum(2).astype(np.int64)


def is_exact(kind, settings):
    return not settings.get("approximate", not index_class(kind).exact)


@every_kind
@pytest.mark.parametrize("bits", [64, 12, 100])
def test_neighbours_are_those_of_a_scan(kind, settings, bits, build, clustered_codes):
    codes, queries = clustered_codes(2000, bits, 1), clustered_codes(30, bits, 2)
    index = build(kind, codes, bits, **settings)
    assert index.exact == is_exact(kind, settings)
    distances, ids = index.search(queries, 10)
    assert distances.dtype == ids.dtype == torch.int64
    assert distances.shape == ids.shape == (30, 10)
    true = distances_of(queries, codes)
    found = ids >= 0
    own = np.take_along_axis(true, ids.clamp_min(0).numpy(), 1)
    assert (own == distances.numpy())[found.numpy()].all(), "the distance of an id is its own"
    assert (distances[~found] == bits + 1).all()
    keys = distances * (len(codes) + 1) + torch.where(found, ids, len(codes))
    assert (keys.diff(dim=1) >= 0).all(), "by distance, then by id"
    assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() for row in ids), "none twice"
    nearest = np.sort(true, 1)[:, :10]
    if index.exact:
        np.testing.assert_array_equal(distances, nearest)
    else:
        recall = (distances.numpy() <= nearest[:, -1:]).mean()
        assert recall >= MIN_RECALL


@every_kind
def test_all_can_be_asked_for_and_one_and_none(kind, settings, build, clustered_codes):
    codes = clustered_codes(60, 24, 3)
    index = build(kind, codes, 24, **settings)
    assert len(index) == 60
    everything = index.search(codes[:2], 60)[1]
    if index.exact:
        assert everything.sort(1).values.tolist() == [list(range(60))] * 2
    for queries in (codes[:1], codes[:0]):
        distances, ids = index.search(queries, 3)
        assert distances.shape == ids.shape == (len(queries), 3)
    assert int(index.search(codes[:1], 1)[0]) == 0


@every_kind
def test_within_a_radius_is_all_or_refused(kind, settings, build, clustered_codes):
    codes, queries = clustered_codes(500, 30, 4), clustered_codes(12, 30, 5)
    index = build(kind, codes, 30, **settings)
    refused = type(index)._within is deephash.indexes.base.Index._within or (not index.exact and kind != "prefix")
    if refused:
        with pytest.raises(InvalidInputError, match="only finds the k nearest"):
            index.within(queries, 5)
        return
    true = distances_of(queries, codes)
    for radius in (0, 4, 30):
        found = index.within(queries, radius)
        for query in range(len(queries)):
            own = slice(found.offsets[query], found.offsets[query + 1])
            near = np.flatnonzero(true[query] <= radius)
            near = near[np.argsort(true[query][near], kind="stable")]
            assert found.ids[own].tolist() == near.tolist()
            assert found.distances[own].tolist() == true[query][near].tolist()
    assert index.within(queries[:0], 3).offsets.tolist() == [0]


@every_kind
def test_a_saved_index_finds_the_same(kind, settings, build, clustered_codes, tmp_path):
    codes, queries = clustered_codes(800, 100, 6), clustered_codes(8, 100, 7)
    index = build(kind, codes, 100, **settings)
    expected = index.search(queries, 5)
    index.save(tmp_path / "an index's")
    loaded = deephash.load_index(tmp_path / "an index's")
    beside = deephash.load_index(tmp_path / "an index's")
    assert (loaded.kind, loaded.size, loaded.bits, loaded.exact) == (kind, 800, 100, index.exact)
    assert loaded.settings == index.settings
    for found, wanted in zip(loaded.search(queries, 5), expected, strict=True):
        assert torch.equal(found, wanted)
    assert torch.equal(beside.search(queries, 5)[1], expected[1])
    # Again into the same folder, from what was loaded; and the loaded index goes on.
    loaded.save(tmp_path / "an index's")
    assert torch.equal(loaded.search(queries, 5)[0], expected[0])
    assert torch.equal(deephash.load_index(tmp_path / "an index's").search(queries, 5)[0], expected[0])


@every_kind
def test_refusals(kind, settings, build, clustered_codes):
    codes = clustered_codes(45, 64, 0)
    index = build(kind, codes, 64, **settings)
    with pytest.raises(InvalidInputError, match="k=46 exceeds the 45 items"):
        index.search(codes, 46)
    with pytest.raises(InvalidInputError, match="k=0"):
        index.search(codes, 0)
    with pytest.raises(InvalidInputError, match="query codes have shape"):
        index.search(codes[:, :4], 1)
    with pytest.raises(InvalidInputError, match="query codes have dtype float64"):
        index.search(codes.numpy().astype(float), 1)
    with pytest.raises(InvalidInputError, match="radius=65"):
        index.within(codes, 65)
    with pytest.raises(InvalidInputError, match="codes have 0 rows"):
        build(kind, codes[:0], 64, **settings)
    with pytest.raises(InvalidInputError, match="ones beyond bit 60"):
        build(kind, torch.full((3, 8), 255, dtype=torch.uint8), 60, **settings)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("faiss_ivf", "lists"),
        ("faiss_ivf", "probes"),
        ("faiss_hnsw", "links"),
        ("faiss_hnsw", "ef_search"),
        ("faiss_multi_hash", "hashes"),
        ("usearch", "links"),
        ("lancedb", "probes"),
        ("pgvector", "ef_search"),
    ],
)
def test_settings_that_are_no_count_are_refused(kind, setting, build, clustered_codes):
    with pytest.raises(InvalidInputError, match=f"{setting}=0"):
        build(kind, clustered_codes(45, 64, 0), 64, **{setting: 0})
    with pytest.raises(InvalidInputError, match="has no setting colour"):
        build(kind, clustered_codes(45, 64, 0), 64, colour="red")


def test_flips_and_hashes_of_a_multi_hash_are_checked(clustered_codes):
    with pytest.raises(InvalidInputError, match="flips=-1"):
        deephash.index(clustered_codes(45, 64, 0), "faiss_multi_hash", flips=-1)
    with pytest.raises(InvalidInputError, match="hashes=65 exceeds the 64 bits"):
        deephash.index(clustered_codes(45, 64, 0), "faiss_multi_hash", hashes=65)


def test_a_package_that_is_missing_is_named(monkeypatch, clustered_codes):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(InvalidInputError, match=r"needs the package duckdb .*pip install 'deephash\[duckdb\]'"):
        deephash.index(clustered_codes(5, 64, 0), "duckdb")
