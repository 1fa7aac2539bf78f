"""NumPy and Parquet files of codes as one database: ids that occur once, or a one-line error."""

import numpy as np
import polars
import pytest
import torch

from deephash.cluster.shard_encoding import ShardEncoder, ShardTask
from deephash.cluster.shard_manifest import MANIFEST, read_progress
from deephash.cluster.shard_scoring import score_shards
from deephash.code_files import repeated_ids
from deephash.code_files.code_file import CodePaths, describe_codes
from deephash.code_files.code_shards import open_shards, read_ids
from deephash.code_files.write_sharded import write_sharded
from deephash.indexes.sharded_index import open_release
from deephash.io import files
from deephash.io.files import write_json
from deephash.io.ownership import lock_for_writing
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError


def write_codes(path, codes, ids):
    """A file of codes of 16 bits as `deephash encode` leaves it."""
    paths = CodePaths(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(paths.codes, codes)
        np.save(paths.ids, np.array(ids))
    else:
        code = polars.Series(codes, dtype=polars.Array(polars.UInt8, codes.shape[1]))
        polars.DataFrame({"id": ids, "code": code}).write_parquet(path, row_group_size=100)
    write_json(paths.description, describe_codes(paths, len(codes), 0, "drawn", Hamming(16), 16, "", "drawn"))


@pytest.fixture
def codes():
    return np.random.default_rng(0).integers(0, 256, (700, 2), np.uint8)


@pytest.mark.parametrize("named", [False, True])
def test_parquet_codes_are_sharded_and_scored_as_those_of_numpy(named, codes, tmp_path):
    ids = [f"i{row}" for row in range(700)] if named else [3 * row for row in range(700)]
    labels = np.random.default_rng(1).integers(0, 5, 700)
    for ending in (".npy", ".parquet"):
        folder = tmp_path / ending[1:]
        for number, (start, stop) in enumerate([(0, 250), (250, 700)]):
            path = folder / f"day{number}{ending}"
            write_codes(path, codes[start:stop], ids[start:stop])
            np.save(CodePaths(path).labels, labels[start:stop])
        write_codes(tmp_path / "queries" / f"q{ending}", codes[:40], ids[:40])
        np.save(tmp_path / "queries" / "q.labels.npy", labels[:40])
        write_sharded(folder, tmp_path / f"index{ending}", 3, "flat", {})
    answers = [
        open_release(tmp_path / f"index{ending}").search(torch.from_numpy(codes[:9]), 20)
        for ending in (".npy", ".parquet")
    ]
    for part in ("distances", "rows", "names"):
        assert np.array_equal(*(getattr(answer, part) for answer in answers))
    assert answers[1].names[0, 0] == ids[0]
    rows = []
    for ending in (".npy", ".parquet"):
        query = tmp_path / "queries" / f"q{ending}"
        write_json(
            CodePaths(query).description, describe_codes(CodePaths(query), 40, 0, "drawn", Hamming(16), 16, "", "")
        )
        rows.append(score_shards(query, [tmp_path / ending[1:]], at=[10]).row["metrics"])
    assert rows[0] == rows[1]


def test_of_two_files_with_one_description_it_is_that_of_the_one_it_names(codes, tmp_path):
    write_codes(tmp_path / "a.npy", codes[:50], list(range(50)))
    write_codes(tmp_path / "a.parquet", codes[:60], list(range(60)))
    assert open_shards([tmp_path]).paths == (tmp_path / "a.parquet",)
    with pytest.raises(InvalidInputError, match="are one file"):
        open_shards([tmp_path, tmp_path / "a.parquet"])


def test_damaged_parquet_codes_are_refused(codes, tmp_path):
    write_codes(tmp_path / "a.parquet", codes, list(range(700)))
    content = (tmp_path / "a.parquet").read_bytes()
    for damaged in (content[:300], b"PAR1" + bytes(200) + content[200:]):
        (tmp_path / "a.parquet").write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"a\.parquet"):
            write_sharded(tmp_path / "a.parquet", tmp_path / "index", 2, "flat", {})
    write_codes(tmp_path / "b.parquet", codes, list(range(700)))
    polars.read_parquet(tmp_path / "b.parquet").head(600).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match="holds 600 codes; its description says 700"):
        write_sharded(tmp_path / "b.parquet", tmp_path / "index", 2, "flat", {})


@pytest.mark.parametrize("at_once", [1 << 25, 90])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_ids_of_files_that_overlap_are_reported_in_one_line(
    ending, named, at_once, codes, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(repeated_ids, "IDS_AT_ONCE", at_once)
    ids = np.random.default_rng(2).permutation(700)
    ids = [f"i{one:03d}" for one in ids] if named else ids.tolist()
    for number, (start, stop) in enumerate([(0, 300), (290, 600), (600, 700)]):
        write_codes(tmp_path / "days" / f"{number}{ending}", codes[start:stop], ids[start:stop])
    database = open_shards([tmp_path / "days"])
    found, least = repeated_ids.repeated_ids(database)
    assert (found, least) == (20, min(ids[290:300], key=str) if named else least)
    assert least in ids[290:300]
    write_sharded(tmp_path / "days", tmp_path / "index", 2, "flat", {})
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"20 of 710 codes have an id that another code has too, such as {least} in ")
    assert f"0{ending} and " in line
    assert f"1{ending}; if files overlap" in line


def test_ids_that_are_there_once_are_not_reported(code_folder, tmp_path, caplog):
    assert repeated_ids.repeated_ids(open_shards([code_folder / "database"])) == (0, None)
    write_sharded(code_folder / "database", tmp_path / "index", 2, "flat", {})
    assert not caplog.records


def test_a_folder_of_shards_is_for_one_process_and_holds_no_source(run_folder, digits_file, tmp_path):
    from deephash.cluster.shard_encoding import encode_shards

    task = ShardTask(str(run_folder), str(digits_file), str(tmp_path / "out"), None, None, None, None, "cpu", 100)
    with lock_for_writing(tmp_path / "out", "another"), pytest.raises(InvalidInputError, match="by another process"):
        encode_shards(task)
    for out in (digits_file.parent, digits_file):
        same = ShardTask(str(run_folder), str(digits_file), str(out), None, None, None, None, "cpu", 100)
        with pytest.raises(InvalidInputError, match="choose another place for the output"):
            encode_shards(same, overwrite=True)


@pytest.fixture
def digits_file(tmp_path):
    from deephash.data.mnist5k import read_mnist_digits

    (tmp_path / "source").mkdir()
    np.save(tmp_path / "source" / "shard-000000.npy", read_mnist_digits()[0][:300].astype(np.float32))
    return tmp_path / "source" / "shard-000000.npy"


def test_overwriting_shards_removes_no_other_file(tmp_path):
    mine = ["shard-a.txt", "shard-000001.notes", "attempt-1", "README"]
    for name in (*mine, "shard-000000.npy", MANIFEST):
        (tmp_path / name).write_text("precious")
    with pytest.raises(InvalidInputError, match="holds other files"):
        read_progress(tmp_path, {"a": 1}, overwrite=False)
    assert read_progress(tmp_path, {"a": 1}, overwrite=True) == {}
    assert {path.name for path in tmp_path.iterdir()} == {*mine, "manifest.jsonl"}


@pytest.mark.needs("pyarrow")
def test_a_worker_hands_back_what_it_refuses_as_one_line(run_folder, tmp_path):
    x = np.random.default_rng(0).random((400, 784), np.float32)
    column = polars.Series(x, dtype=polars.Array(polars.Float32, 784))
    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / "a.parquet"
    polars.DataFrame({"x": column}).write_parquet(path, row_group_size=100, compression="uncompressed")
    task = ShardTask(str(run_folder), str(tmp_path / "x"), str(tmp_path), None, None, None, None, "cpu", 100)
    encoder = ShardEncoder(vars(task))
    content = bytearray(path.read_bytes())
    content[4:300] = bytes(296)
    path.write_bytes(content)
    made = encoder({"shard": 0, "start": 0, "stop": 100})
    assert "a.parquet is not readable as .parquet data" in made["refusal"]
    assert made["refusal"].count("\n") == 0
    path.write_bytes(content[:1000])
    opened = ShardEncoder(vars(task))({"shard": 0, "start": 0, "stop": 100})
    assert "a.parquet is not readable as .parquet data" in opened["refusal"]
    assert not list(tmp_path.glob("attempt-*"))


def test_a_session_of_ray_is_refused_where_its_memory_cannot_be_written(monkeypatch):
    from deephash.cluster import ray_session

    monkeypatch.setattr(ray_session, "is_writable", lambda folder: False)
    monkeypatch.setattr(ray_session, "import_ray", lambda: type("Ray", (), {"is_initialized": staticmethod(bool)}))
    with pytest.raises(InvalidInputError, match="cannot be written to"), ray_session.ray_session(1):
        pass


def test_a_missing_shard_is_named_before_anything_starts(code_folder, tmp_path):
    from deephash.cluster.shard_service import serve_shards

    pytest.importorskip("ray")
    release = write_sharded(code_folder / "database", tmp_path, 2, "flat", {})
    lost = next((tmp_path / release.name / "shard-00001").glob("generation-*")) / "codes.npy"
    lost.unlink()
    with pytest.raises(InvalidInputError, match=r"shard-00001.*codes\.npy does not exist; restore it"):
        serve_shards(tmp_path, "127.0.0.1", 0, lambda *_: None)


def test_a_missing_id_of_parquet_codes_is_said_to_be_missing(codes, tmp_path):
    for ids in ([None, 1, 2], ["a", None, "c"]):
        write_codes(tmp_path / "a.parquet", codes[:3], ids)
        with pytest.raises(InvalidInputError, match=r"column 'id' of .*a.parquet has 1 missing values; encode again"):
            read_ids(tmp_path / "a.parquet", range(3))


def test_a_folder_that_is_not_flushed_has_the_new_release(tmp_path, monkeypatch):
    """An error after `shards.json` is in place must not remove the release that it names."""
    codes = np.random.default_rng(0).integers(0, 256, (40, 2), np.uint8)
    write_codes(tmp_path / "codes" / "a.npy", codes, range(40))
    out = tmp_path / "index"
    write_sharded(tmp_path / "codes", out, 2, "flat", {})
    flush = files.flush

    def refuse(path):
        if path == out and len(list(out.glob("release-*"))) == 2:
            raise OSError(5, "Input/output error")
        flush(path)

    monkeypatch.setattr(files, "flush", refuse)
    with pytest.raises(InvalidInputError, match="may lose it at a power failure"):
        write_sharded(tmp_path / "codes", out, 1, "flat", {})
    assert len(open_release(out).shards) == 1
