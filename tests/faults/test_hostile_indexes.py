"""Malicious saved indexes: engine files with the right digests, and settings that would fill the memory."""

import json

import numpy as np
import pytest
import torch

import deephash
from deephash.indexes import index_folder
from deephash.indexes.index_folder import digest
from deephash.indexes.sharded_index import DESCRIPTION, FORMAT, read_release
from deephash.validation import InvalidInputError

BITS = 32
CODES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (500, 4), np.uint8))
ENGINES = {
    "faiss_flat": {},
    "faiss_ivf": {"lists": 8, "probes": 8},
    "faiss_hnsw": {"links": 8},
    "faiss_multi_hash": {"hashes": 4},
    "usearch": {},
    "duckdb": {},
}
USEARCH, DUCKDB = pytest.mark.needs("usearch"), pytest.mark.needs("duckdb")
OPTIONAL = [pytest.param("usearch", marks=USEARCH), pytest.param("duckdb", marks=DUCKDB)]


def saved(folder, kind, **settings):
    """A saved index, and the path of its engine's file."""
    built = deephash.index(CODES, kind, bits=BITS, **settings)
    built.save(folder)
    (content,) = folder.glob("generation-*")
    return content / built.engine_file if built.engine_file else content


def describe(folder, **changes):
    """Change what `index.json` says; the digests are made right again."""
    path = folder / "index.json"
    stored = json.loads(path.read_text())
    (content,) = folder.glob("generation-*")
    stored["files"] = {name: digest(content / name) for name in stored["files"]}
    path.write_text(json.dumps({**stored, **changes}))


def faiss_edited(path, edit):
    import faiss

    index = faiss.read_index_binary(str(path))
    edit(index, faiss)
    faiss.write_index_binary(index, str(path))


def ids_beyond(index, faiss):
    lists = index.invlists
    place = next(place for place in range(lists.nlist) if lists.list_size(place))
    faiss.rev_swig_ptr(lists.get_ids(place), lists.list_size(place))[0] = 10**6


def links_beyond(index, faiss):
    links = faiss.vector_to_array(index.hnsw.neighbors)
    links[links >= 0] = 10**6
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)


def entry_beyond(index, faiss):
    index.hnsw.entry_point = 10**6


@pytest.mark.parametrize(
    ("kind", "edit", "reason"),
    [
        ("faiss_ivf", ids_beyond, "it has ids beyond its 500 items"),
        ("faiss_hnsw", links_beyond, "it has ids beyond its 500 items|out of range"),
        ("faiss_hnsw", entry_beyond, "out of range"),
    ],
)
def test_ids_and_links_that_lead_out_are_refused(tmp_path, kind, edit, reason):
    path = saved(tmp_path, kind, **ENGINES[kind])
    faiss_edited(path, edit)
    describe(tmp_path)
    with pytest.raises(InvalidInputError, match=rf"{path} is not readable as an index of faiss \(.*({reason})"):
        deephash.load_index(tmp_path)


def test_ids_of_no_item_are_never_given(tmp_path):
    """Where a file of one's own is trusted, what it gives is still compared with the number of items."""
    path = saved(tmp_path, "faiss_ivf", **ENGINES["faiss_ivf"])
    faiss_edited(path, ids_beyond)
    describe(tmp_path)
    trusted = deephash.load_index(tmp_path, engine="trust")
    with pytest.raises(InvalidInputError, match="names item 1000000 of 500; its own file is damaged"):
        trusted.search(CODES, 5)


@pytest.mark.parametrize("kind", ["faiss_hnsw", *OPTIONAL])
def test_a_file_that_ends_its_reader_or_is_none_is_refused(tmp_path, kind):
    path = saved(tmp_path, kind, **ENGINES[kind])
    content = path.read_bytes()
    for spoilt in (content[: len(content) // 2], content[:64] + bytes(64) + content[128:], b"", b"\xff" * 4096):
        path.write_bytes(spoilt)
        describe(tmp_path)
        try:
            loaded = deephash.load_index(tmp_path)
        except InvalidInputError as refusal:
            assert str(path) in str(refusal)  # noqa: PT017
            assert "\n" not in str(refusal)  # noqa: PT017
        else:
            loaded.search(CODES[:3], 3)
    rebuilt = deephash.load_index(tmp_path, engine="rebuild")
    assert rebuilt.search(CODES[:20], 1)[1][:, 0].tolist() == list(range(20))


@pytest.mark.parametrize("kind", [*(kind for kind in ENGINES if kind.startswith("faiss")), *OPTIONAL])
def test_rebuilt_from_codes_an_engines_file_is_not_read(tmp_path, kind, monkeypatch):
    path = saved(tmp_path, kind, **ENGINES[kind])
    expected = deephash.load_index(tmp_path, engine="trust").search(CODES[:30], 1)[0]
    path.write_bytes(b"hostile")
    describe(tmp_path)
    monkeypatch.setattr(index_folder, "try_engine", None)
    assert torch.equal(deephash.load_index(tmp_path, engine="rebuild").search(CODES[:30], 1)[0], expected)
    with pytest.raises(InvalidInputError, match="engine='always'; expected one of: rebuild, trust, try"):
        deephash.load_index(tmp_path, engine="always")


def test_another_engines_index_is_refused(tmp_path):
    """Even a trusted file must hold the class, the number and the length of the codes."""
    import faiss

    path = saved(tmp_path, "faiss_ivf", **ENGINES["faiss_ivf"])
    for other, held in (
        (faiss.IndexBinaryFlat(32), "contains IndexBinaryFlat of 500 codes of 32 bits"),
        (faiss.IndexBinaryFlat(64), "contains IndexBinaryFlat of 250 codes of 64 bits"),
    ):
        other.add(CODES.numpy().reshape(-1, other.d // 8))
        faiss.write_index_binary(other, str(path))
        describe(tmp_path)
        with pytest.raises(InvalidInputError, match=held):
            deephash.load_index(tmp_path, engine="trust")


@DUCKDB
def test_a_view_in_place_of_a_table_is_not_read(tmp_path):
    """A view of a database could read any file, by the rights of who opens it."""
    import duckdb

    path = saved(tmp_path, "duckdb")
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("id,w0\n" + "\n".join(f"{row},7" for row in range(500)))
    path.unlink()
    with duckdb.connect(str(path)) as database:
        database.execute(f"CREATE VIEW codes AS SELECT id::BIGINT AS id, w0::UBIGINT AS w0 FROM read_csv('{secret}')")
    describe(tmp_path)
    for engine in ("try", "trust"):
        with pytest.raises(InvalidInputError, match="it holds no table of"):
            deephash.load_index(tmp_path, engine=engine)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("mih", {"tables": 10**9}, "use 2 to 32 tables"),
        ("mih", {"tables": 33}, "use 2 to 32 tables"),
        ("faiss_hnsw", {"links": 10**9}, "expected 1 to 1024 neighbours"),
        pytest.param("usearch", {"links": 10**9}, "expected 1 to 1024 neighbours", marks=USEARCH),
        ("faiss_multi_hash", {"hashes": 1, "flips": 20}, "buckets per table; lower it"),
        ("faiss_multi_hash", {"hashes": 10**9}, "exceeds the 32 bits"),
    ],
)
def test_settings_that_would_fill_the_memory_are_refused(tmp_path, kind, settings, reason):
    with pytest.raises(InvalidInputError, match=reason):
        deephash.index(CODES, kind, bits=BITS, **settings)
    saved(tmp_path, kind)
    stored = json.loads((tmp_path / "index.json").read_text())
    describe(tmp_path, settings={**stored["settings"], **settings})
    with pytest.raises(InvalidInputError, match=reason):
        deephash.load_index(tmp_path, engine="trust")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("faiss_hnsw", {"ef_search": 10**9, "ef_construction": 10**9}),
        pytest.param("usearch", {"ef_search": 10**9, "ef_construction": 10**9}, marks=USEARCH),
        ("faiss_ivf", {"lists": 10**9, "probes": 10**9}),
    ],
)
def test_settings_beyond_the_database_search_all_of_it(kind, settings):
    built = deephash.index(CODES, kind, bits=BITS, **settings)
    assert built.search(CODES[:50], 1)[1][:, 0].tolist() == list(range(50))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 10**18}, "expected uint8"),
        ({"bits": 10**18}, "expected uint8"),
        ({"bits": True}, "has bits=True"),
        ({"bits": -1}, "bits=-1"),
        ({"settings": {"tables": "many"}}, "tables='many'|is not readable as an index"),
        ({"settings": {"tables": None, "patience": "x", "threads": None}}, "patience='x'"),
        ({"settings": None}, "has settings=None"),
        ({"files": {"codes.npy": None}}, "does not match its digest"),
        ({"files": {"../../codes.npy": "0"}}, "lists files"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(tmp_path, changes, reason):
    saved(tmp_path, "mih")
    describe(tmp_path, **changes)
    with pytest.raises(InvalidInputError, match=reason):
        deephash.load_index(tmp_path)


@pytest.mark.parametrize("name", ["kind", "settings", "bits", "size", "hasher", "generation", "files"])
def test_descriptions_that_lack_an_entry_are_refused(tmp_path, name):
    saved(tmp_path, "flat")
    path = tmp_path / "index.json"
    stored = json.loads(path.read_text())
    del stored[name]
    path.write_text(json.dumps(stored))
    with pytest.raises(InvalidInputError, match=f"index.json lacks {name}"):
        deephash.load_index(tmp_path)


@pytest.mark.parametrize(
    ("shards", "reason"),
    [
        ([{"folder": "a", "start": 0, "size": "5"}], "a shard has the rows 0 and the size '5'"),
        (
            [{"folder": "a", "start": 0, "size": 5}, {"folder": "b", "start": 9, "size": 5}],
            "rows 9 .* expected row 5",
        ),
        ([{"folder": "../a", "start": 0, "size": 5}], r"\.\./a leads out of its folder"),
        ([{"folder": "/a", "start": 0, "size": 5}], "/a leads out of its folder"),
        ([{"folder": "a"}], "missing 2 required"),
        (None, "not iterable"),
    ],
)
def test_shards_that_do_not_follow_each_other_or_lead_elsewhere_are_refused(tmp_path, shards, reason):
    stored = {"format": FORMAT, "release": f"release-{'0' * 16}", "bits": 8, "hasher": "a", "shards": shards}
    (tmp_path / DESCRIPTION).write_text(json.dumps(stored))
    with pytest.raises(InvalidInputError, match=rf"{DESCRIPTION} is not readable as an index in shards \(.*{reason}"):
        read_release(tmp_path)
