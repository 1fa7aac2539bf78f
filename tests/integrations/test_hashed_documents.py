"""The store behind all frameworks: exact searches, fits, changes that survive a kill, damage, and unusual input."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from deephash import ITQ, NPQ, Hasher
from deephash.affinity import EpsilonBall
from deephash.integrations.document_table import Record
from deephash.integrations.hashed_documents import HashedDocuments
from deephash.integrations.metadata_condition import (
    ALWAYS,
    all_of,
    any_of,
    compare,
    contains,
    contains_text,
    equals,
    is_empty,
    is_one_of,
    negate,
)
from deephash.integrations.open_documents import open_documents
from deephash.integrations.vector_format import decode_vectors, encode_vectors, vector_width
from deephash.validation import InvalidInputError, StorageError

D = 32


def random_rows(count, seed=0):
    """Clustered vectors, so that neighbours are near."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, D))
    return (centres[generator.integers(0, 40, count)] + 0.3 * generator.normal(size=(count, D))).astype("float32")


def records(count, first=0):
    return [Record(f"d{row}", f"text {row}", {"row": row}) for row in range(first, first + count)]


def ids_of(hits):
    return [hit.record.id for hit in hits]


def cosine(rows, query):
    return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


@pytest.fixture(scope="module")
def hasher():
    return Hasher(ITQ(D, 32)).fit(random_rows(2_000))


@pytest.mark.parametrize("measure", ["cosine", "inner_product", "euclidean"])
def test_searches_are_exact_before_a_fit(measure):
    rows, queries = random_rows(300), random_rows(5, 1)
    store = HashedDocuments(measure=measure)
    store.add(records(300), rows)
    for query in queries:
        exact = {
            "cosine": cosine(rows, query),
            "inner_product": rows @ query,
            "euclidean": -np.linalg.norm(rows - query, axis=1),
        }[measure]
        hits = store.search(query, 7)
        assert ids_of(hits) == [f"d{row}" for row in np.argsort(-exact, kind="stable")[:7]]
        assert np.allclose([hit.score for hit in hits], np.sort(exact)[::-1][:7], atol=1e-5)


def test_addition_of_fit_at_embeddings_fits_a_hasher(tmp_path, caplog):
    rows = random_rows(600)
    store = HashedDocuments(tmp_path, fit_at=500, bits=24)
    store.add(records(499), rows[:499])
    assert store.hasher is None
    store.add(records(1, 499), rows[499:500])
    assert store.hasher.bits == 24
    store.add(records(100, 500), rows[500:])
    query = random_rows(1, 1)[0]
    expected = [f"d{row}" for row in np.argsort(-cosine(rows, query), kind="stable")[:10]]
    found = ids_of(store.search(query, 10))
    assert len(set(found) & set(expected)) >= 9
    store.close()
    again = HashedDocuments(tmp_path)
    assert again.hasher.identity == store.hasher.identity
    assert ids_of(again.search(query, 10)) == found
    again.close()
    assert caplog.text == ""


def test_candidates_are_the_nearest_codes(hasher):
    """Scores are of the embeddings, candidates of the codes; without embeddings, both are of the codes."""
    rows, query = random_rows(400), random_rows(1, 1)[0]
    codes = hasher.encode(rows)
    near = hasher.search(query[None], codes, 400)[1]
    store = HashedDocuments(hasher=hasher, candidates=20)
    store.add(records(400), rows)
    allowed = set(near[0, :20].tolist())
    expected = [row for row in np.argsort(-cosine(rows, query), kind="stable") if row in allowed][:5]
    assert ids_of(store.search(query, 5)) == [f"d{row}" for row in expected]
    codes_alone = HashedDocuments(hasher=hasher, vectors="none")
    codes_alone.add(records(400), rows)
    margins = (hasher.project(query[None])[0] - hasher.quantizer.thresholds.detach()).numpy()
    signs = np.unpackbits(codes.numpy(), axis=1, bitorder="little")[:, :32] * 2.0 - 1
    estimates = signs @ margins / np.linalg.norm(margins) / 32**0.5
    hits = codes_alone.search(query, 5)
    assert ids_of(hits) == [f"d{row}" for row in np.argsort(-estimates, kind="stable")[:5]]
    assert np.allclose([hit.score for hit in hits], np.sort(estimates)[::-1][:5])
    codes_alone.remove([hits[0].record.id, "d0"])
    assert ids_of(codes_alone.search(query, 4)) == [name for name in ids_of(hits)[1:] if name != "d0"][:4]
    with pytest.raises(InvalidInputError, match="keeps no embeddings"):
        codes_alone.embeddings_of(hits)
    with pytest.raises(InvalidInputError, match="dropped its embeddings"):
        codes_alone.fit()


@pytest.mark.parametrize("kind", ["flat", "mih", "faiss_flat"])
@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.ci
def test_random_changes_equal_a_new_store(hasher, kind, fitted, tmp_path):
    """After additions, replacements and removals, searches with and without filters are those of a new store."""
    generator = np.random.default_rng(5)
    given = {"hasher": hasher} if fitted else {"fit_at": 10_000}
    store = HashedDocuments(tmp_path, kind=kind, candidates=50, **given)
    held: dict[str, np.ndarray] = {}
    for step in range(12):
        added = generator.choice(400, 60, replace=False)
        vectors = random_rows(60, step)
        store.add([Record(f"d{row}", str(step), {"row": int(row)}) for row in added], vectors)
        for row, vector in zip(added, vectors, strict=True):
            held.pop(f"d{row}", None)
            held[f"d{row}"] = vector
        removed = [f"d{row}" for row in generator.choice(500, 40, replace=False)]
        assert store.remove(removed) == sum(name in held for name in removed)
        for name in removed:
            held.pop(name, None)
    assert len(store) == len(held)
    fresh = HashedDocuments(candidates=50, **given)
    fresh.add([Record(name, "", {"row": int(name[1:])}) for name in held], np.stack(list(held.values())))
    store.close()
    for each in (store, HashedDocuments(tmp_path)):
        if not each.is_open:
            continue
        for query in random_rows(5, 77):
            for where in (None, compare(("row",), "<", 100), equals(("row",), int(next(iter(held))[1:]))):
                expected = fresh.search(query, 10, where)
                found = each.search(query, 10, where)
                assert ids_of(found) == ids_of(expected)
                assert [hit.score for hit in found] == [hit.score for hit in expected]
        each.close()


def test_formats_of_vectors():
    rows = np.concatenate([random_rows(50), np.zeros((1, D), np.float32), np.full((1, D), 1e-30, np.float32)])
    for kind, tolerance in (("float32", 0), ("float16", 2e-3), ("int8", 2e-2)):
        stored = encode_vectors(rows, kind)
        assert stored.shape == (52, vector_width(kind, D))
        assert np.abs(decode_vectors(stored, kind) - rows).max() <= tolerance
    with pytest.raises(InvalidInputError, match="float16 stores magnitudes up to 65504"):
        encode_vectors(np.full((1, D), 1e5, np.float32), "float16")
    query = random_rows(1, 3)[0]
    expected = ids_of(store_of(rows[:50]).search(query, 5))
    for kind in ("float16", "int8"):
        store = store_of(rows[:50], vectors=kind)
        assert ids_of(store.search(query, 5)) == expected


def store_of(rows, **settings):
    store = HashedDocuments(**settings)
    store.add(records(len(rows)), rows)
    return store


def test_fit_again_and_from_outside(hasher, tmp_path):
    rows = random_rows(300)
    store = HashedDocuments(tmp_path, bits=16)
    store.add(records(300), rows)
    own = store.fit()
    assert own.bits == 16
    assert (tmp_path / f"hasher-{own.identity[:16]}").is_dir()
    store.fit(hasher)
    assert [path.name for path in tmp_path.glob("hasher-*")] == [f"hasher-{hasher.identity[:16]}"]
    store.close()
    again = HashedDocuments(tmp_path, hasher=hasher)
    assert ids_of(again.search(rows[3], 1)) == ["d3"]
    again.close()
    with pytest.raises(InvalidInputError, match=r"call fit\(hasher\)"):
        HashedDocuments(tmp_path, hasher=own)
    with pytest.raises(InvalidInputError, match="has bits=16, and bits=8 is given"):
        HashedDocuments(tmp_path, bits=8)
    none = HashedDocuments(vectors="none", fit_at=200, bits=16)
    none.add(records(300), rows)
    assert not none.keeps_vectors
    assert none.table.connection.execute("SELECT count(*) FROM vectors").fetchone() == (0,)


def test_embeddings_that_fit_no_hasher_remain_searched(caplog):
    """ITQ of 32 bits needs 32 directions; these vectors have one."""
    line = np.linspace(1, 2, 80)[:, None] * random_rows(1)
    store = HashedDocuments(fit_at=50)
    store.add(records(80), line)
    assert store.hasher is None
    assert "searched exactly" in caplog.text
    assert len(store.search(line[3], 5)) == 5
    with pytest.raises(InvalidInputError, match="directions"):
        store.fit()
    with pytest.raises(InvalidInputError, match="no embeddings to fit"):
        HashedDocuments().fit()


def test_several_records_of_one_id():
    store = HashedDocuments()
    rows = random_rows(3)
    store.add([Record("a", "first"), Record("b", "b"), Record("a", "last")], rows)
    assert len(store) == 2
    assert [hit.record.text for hit in store.search(rows[2], 1)] == ["last"]
    store.add([Record("a", "replaced")], random_rows(1, 8))
    assert [record.text for record in store.get(["a", "b", "c"])] == ["replaced", "b"]
    assert store.remove(["a", "a", "unknown"]) == 1
    assert store.remove([]) == 0
    assert ids_of(store.search(rows[0], 10)) == ["b"]
    store.remove(["b"])
    assert store.search(rows[0], 10) == []
    store.add([Record("c")], rows[:1])
    assert ids_of(store.search(rows[0], 10)) == ["c"]


def test_texts_and_metadata_come_back(tmp_path):
    metadata = {
        "nested": {"list": [1, "zwei", None, {"deep": [True, 2.5]}]},
        "none": None,
        "große Zahl": 2**70,
        "emoji 🦜": "日本語\n\t\"quoted\" \\ 'single'",
        "": "empty key",
        "numpy": np.float32(0.5),
    }
    text = "Ünï­cödé 🦜 \0 end"
    with HashedDocuments(tmp_path) as store:
        store.add([Record("ключ'\";--", text, metadata, {"more": 1}, "parent")], random_rows(1))
    with HashedDocuments(tmp_path) as store:
        (record,) = store.get(["ключ'\";--"])
        assert record == Record("ключ'\";--", text, metadata | {"numpy": 0.5}, {"more": 1}, "parent")
        for condition in (
            equals(("nested", "list"), None),
            contains(("nested", "list"), "zwei"),
            contains(("nested", "list"), 1),
            contains_text(("emoji 🦜",), "日本"),
            compare(("große Zahl",), ">", 2**69),
            negate(equals(("missing",), 1)),
            is_empty(("none",)),
        ):
            expected = condition.parameters != equals(("nested", "list"), None).parameters
            assert len(store.search(random_rows(1)[0], 5, condition)) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((records(2), random_rows(3)), "2 documents and 3 embeddings"),
        ((records(1), [[1.0, 2.0]]), "2 dimensions; expected 32"),
        ((records(1), np.full((1, D), np.nan)), "NaN"),
        ((records(1), np.full((1, D), 1e300)), "beyond float32"),
        ((records(1), [["a"] * D]), "embeddings are"),
        (([Record("")], random_rows(1)), "text of 1 to 4096"),
        (([Record("a\0b")], random_rows(1)), "without NUL"),
        (([Record(7)], random_rows(1)), "id '7'"),
        (([Record("a", "\ud800")], random_rows(1)), "surrogate"),
        (([Record("a", "", {"day": object()})], random_rows(1)), "metadata of 'a' are not JSON-serialisable"),
        (([Record("a", "", {"x": float("nan")})], random_rows(1)), "metadata of 'a'"),
        (([Record("a", "", {1: 2})], random_rows(1)), "texts as keys"),
    ],
)
def test_wrong_documents_change_nothing(given, message, tmp_path):
    rows = random_rows(5)
    with HashedDocuments(tmp_path) as store:
        store.add(records(5, 100), rows)
        with pytest.raises(InvalidInputError, match=message):
            store.add(*given)
        assert len(store) == 5
        assert ids_of(store.search(rows[2], 1)) == ["d102"]
        store.add(records(1), rows[:1])
    with HashedDocuments(tmp_path) as store:
        assert len(store) == 6


def test_wrong_searches():
    store = HashedDocuments()
    assert store.search(random_rows(1)[0], 5) == []
    assert store.search([0.5], 5, ALWAYS) == []
    rows = random_rows(3)
    store.add(records(3), rows.astype("float64"))
    assert len(store.search(rows[0].astype("float64"), 100)) == 3
    assert len(store.search(torch.from_numpy(rows[0]), 2)) == 2
    assert len(store.search(rows[0].tolist(), 2)) == 2
    for query, message in (
        (rows[0][:4], "4 dimensions; expected 32"),
        (np.full(D, np.nan), "NaN"),
        (rows[:1], r"shape \(1, 32\)"),
        ("text", "query"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            store.search(query)
    # A vector of zeros has the cosine 0 with all.
    assert [hit.score for hit in store.search(np.zeros(D), 3)] == [0, 0, 0]
    assert ids_of(store.search(rows[0], 5, is_one_of(("row",), [0, 2]))) != []
    deep = equals(("row",), 1)
    for _ in range(400):
        deep = negate(deep)
    with pytest.raises(InvalidInputError, match="filter cannot be evaluated"):
        store.search(rows[0], 5, deep)
    many = any_of([equals(("row",), row) for row in range(2_000)])
    assert len(store.search(rows[0], 5, all_of([many, ALWAYS]))) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 0}, "bits=0"),
        ({"fit_at": 1}, "fit_at=1"),
        ({"vectors": "int4"}, "vectors='int4'"),
        ({"measure": "dot"}, "measure='dot'"),
        ({"candidates": 0}, "candidates=0"),
        ({"kind": "duckdb"}, "takes no changes"),
        ({"kind": "tree"}, "kind='tree'"),
        ({"vectors": "none", "measure": "euclidean"}, "needs stored embeddings"),
        ({"hasher": "itq"}, "hasher is a str"),
        ({"hasher": Hasher(ITQ(4, 4))}, "not fitted"),
    ],
)
def test_wrong_settings_create_nothing(settings, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        HashedDocuments(tmp_path / "store", **settings)
    assert not (tmp_path / "store").exists()


def test_multi_bit_hashers_are_refused():
    rows = torch.from_numpy(random_rows(100))
    quantizer = NPQ(8)
    other = Hasher(ITQ(D, quantizer.projection_dim), quantizer).fit(rows, affinity=EpsilonBall().fit(rows, None))
    with pytest.raises(InvalidInputError, match="ranked by"):
        HashedDocuments(hasher=other)


def test_one_process_at_a_time_and_one_store_per_process(tmp_path):
    store = open_documents(tmp_path, bits=8)
    store.add(records(20), random_rows(20))
    assert open_documents(tmp_path) is store
    with pytest.raises(InvalidInputError, match="bits=8, and bits=16"):
        open_documents(tmp_path, bits=16)
    program = f"from deephash.integrations.hashed_documents import HashedDocuments; HashedDocuments({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "written by another process" in done.stderr
    del store  # Not closed: it is when it is forgotten.
    other = open_documents(tmp_path)
    assert len(other) == 20
    other.close()


KILLED = """
import sys
import numpy as np
from deephash.integrations.document_table import Record
from deephash.integrations.hashed_documents import HashedDocuments
store = HashedDocuments(sys.argv[1], fit_at=120, bits=16)
rows = np.random.default_rng(0).normal(size=(10_000, 16)).astype("float32")
for step in range(1000):
    batch = range(10 * step, 10 * step + 10)
    store.add([Record(str(row), "x" * 3000, {"row": row}) for row in batch], rows[list(batch)])
    if step % 3 == 2:
        store.remove([str(10 * step)])
    print(step, flush=True)
"""


@pytest.mark.ci
def test_a_kill_loses_no_acknowledged_change(tmp_path):
    rows = np.random.default_rng(0).normal(size=(10_000, 16)).astype("float32")
    for number, delay in enumerate((5, 11, 13, 40)):
        folder = tmp_path / str(number)
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        ) as process:
            numbers = (int(line) for line in process.stdout if line.strip().isdigit())
            done = next(number for number in numbers if number == delay)
            os.kill(process.pid, signal.SIGKILL)
            done = max([done, *numbers])
        with HashedDocuments(folder) as store:
            steps = {record.metadata["row"] // 10 for record, _ in store.find()}
            # What was acknowledged is there, and at most one more change.
            assert set(range(done + 1)) <= steps <= set(range(done + 2))
            assert len(store) in {10 * len(steps) - removed for removed in (done // 3, done // 3 + 1, done // 3 + 2)}
            assert (store.hasher is not None) or done < 13
            assert ids_of(store.search(rows[11], 1)) == ["11"]
            store.add([Record("new")], rows[5000:5001])
            assert ids_of(store.search(rows[5000], 1)) == ["new"]


def test_leftovers_of_an_interrupted_fit_are_removed(tmp_path, hasher):
    with HashedDocuments(tmp_path) as store:
        store.add(records(5), random_rows(5))
    hasher.save(tmp_path / "hasher-0123456789abcdef")
    with HashedDocuments(tmp_path) as store:
        assert store.hasher is None
    assert not list(tmp_path.glob("hasher-*"))


def damage(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END", "not a database of documents"),
        ("CREATE VIEW v AS SELECT 1", "not a database of documents"),
        ("DROP TABLE vectors", "not a database of documents"),
        ("UPDATE settings SET value = '2' WHERE name = 'version'", "version 2"),
        ("UPDATE settings SET value = '{' WHERE name = 'bits'", "damaged settings"),
        ("UPDATE settings SET value = '\"../x\"' WHERE name = 'hasher'", "names the hasher"),
        ("UPDATE settings SET value = '-3' WHERE name = 'candidates'", "candidates=-3"),
        ("UPDATE codes SET code = x'00'", "1 bytes where 4 are expected"),
        ("UPDATE settings SET value = '7' WHERE name = 'dimension'", "7 dimensions and a hasher of 32"),
    ],
)
def test_damaged_folders_are_one_clear_error(statement, message, tmp_path, hasher):
    with HashedDocuments(tmp_path, hasher=hasher) as store:
        store.add(records(5), random_rows(5))
    damage(tmp_path / "documents.sqlite", statement)
    with pytest.raises(InvalidInputError, match=message):
        HashedDocuments(tmp_path)


def test_damaged_files(tmp_path, hasher):
    with HashedDocuments(tmp_path, hasher=hasher) as store:
        store.add(records(50), random_rows(50))
        store.add([Record("x", "", {})], random_rows(1))
    damage(tmp_path / "documents.sqlite", "UPDATE documents SET metadata = '{' WHERE id = 'x'")
    with HashedDocuments(tmp_path) as store, pytest.raises(InvalidInputError, match="damaged metadata of 'x'"):
        store.get(["x"])
    damage(tmp_path / "documents.sqlite", "DELETE FROM documents WHERE id = 'd3'")
    with HashedDocuments(tmp_path) as store, pytest.raises(InvalidInputError, match="lacks a document"):
        store.search(random_rows(50)[3], 1)
    content = (tmp_path / "documents.sqlite").read_bytes()
    for damaged in (b"no database" * 100, content[:5000], b""):
        (tmp_path / "documents.sqlite").write_bytes(damaged)
        if damaged:
            with pytest.raises(InvalidInputError, match="sqlite"):
                HashedDocuments(tmp_path)
    (tmp_path / "documents.sqlite").write_bytes(content)
    description = next(tmp_path.glob("hasher-*/hasher.json"))
    description.write_text(json.dumps(json.loads(description.read_text()) | {"identity": "0"}))
    with pytest.raises(InvalidInputError, match="identity"):
        HashedDocuments(tmp_path)


def test_a_disk_that_refuses_changes_nothing(tmp_path):
    store = HashedDocuments(tmp_path)
    store.add(records(5), random_rows(5))
    store.table.connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageError, match="nothing is changed"):
        store.add([Record("big", "x" * 10**6)], random_rows(1))
    assert len(store) == 5
    assert len(store.search(random_rows(1)[0], 10)) == 5
    store.add([Record("small")], random_rows(1))
    assert len(store.search(random_rows(1)[0], 10)) == 6
    store.close()


def test_save_replaces_a_store(tmp_path, hasher):
    rows = random_rows(30)
    memory = HashedDocuments(hasher=hasher)
    memory.add(records(30), rows)
    memory.save(tmp_path / "a")
    memory.fit(Hasher(ITQ(D, 8)).fit(rows))
    memory.remove(["d0"])
    memory.save(tmp_path / "a")
    with HashedDocuments(tmp_path / "a") as store:
        assert (len(store), store.hasher.bits) == (29, 8)
        store.save(tmp_path / "a")
        store.save(tmp_path / "b")
        with pytest.raises(InvalidInputError, match="written by another process"):
            memory.save(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("hasher-*"))) == 1
    with HashedDocuments(tmp_path / "b") as store:
        assert ids_of(store.search(rows[4], 1)) == ["d4"]


def test_documents_without_embeddings(tmp_path, hasher):
    rows = random_rows(2)
    for settings in ({}, {"hasher": hasher}):
        store = HashedDocuments(**settings)
        store.add([Record("none")], [None])
        assert store.search(rows[0], 5) == []
        store.add([Record("a"), Record("b"), Record("c")], [rows[0], None, rows[1]])
        assert sorted(ids_of(store.search(rows[0], 5))) == ["a", "c"]
        assert [(record.id, vector is None) for record, vector in store.find()] == [
            ("none", True),
            ("a", False),
            ("b", True),
            ("c", False),
        ]
        store.change([Record("a", "new", {"page": 1})])
        assert [hit.record.text for hit in store.search(rows[0], 1)] == ["new"]
        with pytest.raises(InvalidInputError, match="no document has the id 'z'"):
            store.change([Record("z")])


def test_threads_share_a_store(tmp_path):
    rows = random_rows(400)
    store = HashedDocuments(tmp_path, fit_at=200, bits=16)
    errors = []

    def work(part):
        try:
            for row in range(part * 100, part * 100 + 100, 10):
                store.add(records(10, row), rows[row : row + 10])
                assert ids_of(store.search(rows[row], 1)) == [f"d{row}"]
                store.remove([f"d{row + 9}"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store) == 360
    store.close()
