"""Files that deephash did not write are kept unless the user asks; an output never replaces its source."""

import errno
import io
import resource
import sys
from contextlib import contextmanager

import numpy as np
import polars
import pytest

from deephash.cluster.run_shards import write_run_shards
from deephash.code_files.code_file import read_codes
from deephash.command_line.main import main
from deephash.command_line.programs.train import train
from deephash.io.ownership import check_not_source, lock_for_writing
from deephash.validation import InvalidInputError


@pytest.fixture
def source(digits, tmp_path):
    """Features of 300 digits."""
    np.save(tmp_path / "x.npy", digits[:300])
    return tmp_path / "x.npy"


def tree(folder):
    """Bytes of every file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["z.npy", "z.ids.npy", "z.json", "z.bad.json"])
def test_encode_replaces_no_file_of_the_users_own(name, deephash, fitted_run, source, tmp_path):
    (tmp_path / name).write_bytes(b"precious")
    ended = deephash("encode", fitted_run, source, tmp_path / "z.npy")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert str(tmp_path / name) in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", name}
    assert (tmp_path / name).read_bytes() == b"precious"
    assert deephash("encode", fitted_run, source, tmp_path / "z.npy", "--overwrite").status == 0
    assert len(read_codes(tmp_path / "z.npy").codes) == 300
    assert not (tmp_path / "z.bad.json").exists()


@pytest.mark.parametrize("name", ["z.npy", "z.ids.npy", "z.json"])
def test_a_folder_in_place_of_codes_is_refused_before_they_are_made(name, deephash, fitted_run, source, tmp_path):
    (tmp_path / name).mkdir()
    for options in ((), ("--overwrite",)):
        ended = deephash("encode", fitted_run, source, tmp_path / "z.npy", *options)
        assert (ended.status, ended.err) == (2, f"error: {tmp_path / name} is a folder; give the name of a file.\n")
        assert {path.name for path in tmp_path.iterdir()} == {"x.npy", name}


def test_a_file_that_came_while_codes_grew_is_kept_too(deephash, fitted_run, source, tmp_path, monkeypatch):
    from deephash.code_files import encode_file

    def meanwhile(*arguments):
        (tmp_path / "z.ids.npy").write_bytes(b"precious")
        return complete(*arguments)

    complete = encode_file.complete
    monkeypatch.setattr(encode_file, "complete", meanwhile)
    for _ in range(2):
        ended = deephash("encode", fitted_run, source, tmp_path / "z.npy")
        assert ended.status == 2
        assert "z.ids.npy exists already and is not a file of these codes" in ended.err
        assert (tmp_path / "z.ids.npy").read_bytes() == b"precious"
    (tmp_path / "z.ids.npy").unlink()
    assert deephash("encode", fitted_run, source, tmp_path / "z.npy").status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "z.ids.npy", "z.json", "z.npy"]


@pytest.mark.parametrize("name", ["notes.txt", "codes.npy"])
def test_encode_works_in_no_folder_of_the_users_own(name, deephash, fitted_run, source, tmp_path):
    working = tmp_path / "w.npy.encoding"
    working.mkdir()
    (working / name).write_bytes(b"precious")
    for arguments in ((), ("--overwrite",)):
        ended = deephash("encode", fitted_run, source, tmp_path / "w.npy", *arguments)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "w.npy.encoding is not an unfinished encoding" in ended.err
    assert tree(working) == {next(iter(tree(working))): b"precious"}
    assert [path.name for path in working.iterdir()] == [name]


def test_a_source_is_never_its_own_output(deephash, fitted_run, source, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "soft.npy").symlink_to(source)
    (tmp_path / "hard.npy").hardlink_to(source)
    (tmp_path / "link").symlink_to(tmp_path)
    np.save(tmp_path / "y.ids.npy", np.load(source))
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path / "sub")
    spelt = ("x.npy", "../x.npy", "soft.npy", "hard.npy", "link/x.npy")
    cases = [(source, name if name.startswith("..") else tmp_path / name) for name in spelt]
    cases += [(tmp_path / "soft.npy", source), ("../x.npy", source), (tmp_path / "y.ids.npy", tmp_path / "y.npy")]
    for read, written in cases:
        ended = deephash("encode", fitted_run, read, written, "--overwrite")
        assert (ended.status, ended.err.count("\n")) == (2, 1), (read, written)
        assert "choose another place for the output" in ended.err or "outside it" in ended.err
    assert tree(tmp_path) == before


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("name", ["b.parquet", "deeper/b.npy"])
def test_a_folder_of_tables_never_contains_its_output(deephash, fitted_run, tmp_path, name):
    tables = tmp_path / "tables"
    tables.mkdir()
    polars.DataFrame({"x": [[0.0] * 784]}).write_parquet(tables / "a.parquet")
    before = tree(tmp_path)
    ended = deephash("encode", fitted_run, tables, tables / name, "--overwrite")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "choose another place for the output" in ended.err or "outside it" in ended.err
    assert tree(tmp_path) == before


def test_places_around_a_source_are_told_apart(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    check_not_source(tmp_path / "a" / "b", tmp_path / "a" / "c", tmp_path / "ab", tmp_path / "a" / "bb")
    check_not_source("s3://bucket/a", tmp_path / "a")
    for source, place in (("a/b/x", "a"), ("a", "a/b/c"), ("a/b", "a/b"), ("a/../a/b/x", "a/b/x")):
        with pytest.raises(InvalidInputError, match="choose"):
            check_not_source(tmp_path / source, tmp_path / place)
    with pytest.raises(InvalidInputError, match="is in the source"):
        check_not_source((tmp_path / "a").as_uri(), tmp_path / "a" / "c")


def test_of_two_encodings_into_one_place_one_is_refused(deephash, fitted_run, source, tmp_path):
    out = tmp_path / "z.npy"
    with lock_for_writing(tmp_path / "z.npy.encoding", "another"):
        ended = deephash("encode", fitted_run, source, out)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert f"{out} is being written by another process" in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy"}
    assert deephash("encode", fitted_run, source, out).status == 0
    (tmp_path / "z.npy.encoding").mkdir()
    (tmp_path / "z.npy.encoding" / ".deephash-lock").touch()  # As a killed process leaves it.
    assert deephash("encode", fitted_run, source, out, "--overwrite").status == 0
    assert not (tmp_path / "z.npy.encoding").exists()


def test_results_replace_nothing_unasked(deephash, fitted_run, source, tmp_path):
    codes = tmp_path / "z.npy"
    assert deephash("encode", fitted_run, source, codes).status == 0
    assert deephash("index", codes, tmp_path / "index", "--kind", "flat").status == 0
    search = ("search", tmp_path / "index", codes, "-k", "3", "--out", tmp_path / "found.npz")
    assert deephash(*search).status == 0
    shards = write_run_shards(fitted_run, tmp_path / "shards", 2) and tmp_path / "shards"
    score = ("score", shards / "queries.npy", shards / "database", "--at", "10", "--out", tmp_path / "scores")
    assert deephash(*score).status == 0
    (tmp_path / "program.pt").write_bytes(b"precious")
    export = ("export", fitted_run, tmp_path / "program.pt")
    before = tree(tmp_path)
    for command in (search, score, export, ("shard", fitted_run, shards, "--shards", "1")):
        ended = deephash(*command)
        assert (ended.status, ended.err.count("\n")) == (2, 1), command
        assert "exists already; choose another name, or replace it with --overwrite" in ended.err
    assert tree(tmp_path) == before
    for command in (search, score, ("shard", fitted_run, shards, "--shards", "1")):
        assert deephash(*command, "--overwrite").status == 0
    assert [path.name for path in sorted((shards / "database").glob("shard-*.npy"))] == [
        "shard-00000.ids.npy",
        "shard-00000.labels.npy",
        "shard-00000.npy",
    ]
    for place in (codes, tmp_path / "index" / "found.npz"):
        ended = deephash(*search[:-1], place.with_suffix(".npz") if place is codes else place)
        assert (ended.status == 2) == (place is not codes)
    ended = deephash(*score[:-1], shards / "database", "--overwrite")
    assert ended.status == 2
    assert "is in the source" in ended.err


def test_an_index_takes_no_folder_of_something_else(deephash, fitted_run, source, tmp_path):
    assert deephash("encode", fitted_run, source, tmp_path / "z.npy").status == 0
    for name, arguments in (("index.json", ()), ("shards.json", ("--shards", "2"))):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        for content in ('{"name": "a site"}', "no JSON"):
            (folder / name).write_text(content)
            ended = deephash("index", tmp_path / "z.npy", folder, "--kind", "flat", *arguments)
            assert (ended.status, ended.err.count("\n")) == (2, 1)
            assert tree(folder) == {next(iter(tree(folder))): content.encode()}
    with lock_for_writing(tmp_path / "taken", "another"):
        ended = deephash("index", tmp_path / "z.npy", tmp_path / "taken", "--kind", "flat")
        assert ended.status == 2
        assert "is being written by another process" in ended.err


@pytest.mark.parametrize("name", ["metrics.json", "hasher", "split.npz"])
def test_a_run_takes_no_file_of_something_else_for_its_own(name, compose_config, tmp_path):
    (tmp_path / name).write_text('{"metrics": {"mAP": 1.0}}')
    with pytest.raises(InvalidInputError, match=f"{name} exists in a folder that holds no run"):
        train(compose_config("method=lsh", "bits=8", "figures=false"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_that_is_scored_again_keeps_its_figures(fitted_run, tmp_path):
    from deephash.io.run_folder import RunFolder

    with pytest.raises(InvalidInputError, match="holds a run, which an evaluation does not change"):
        RunFolder(fitted_run).check_scores_go_here()
    RunFolder(tmp_path / "none").check_scores_go_here()
    (tmp_path / "per_query.parquet").write_text("precious")
    with pytest.raises(InvalidInputError, match=r"per_query\.parquet exists in a folder"):
        RunFolder(tmp_path).check_scores_go_here()


def test_a_refused_job_keeps_a_log_that_was_there(forked, tmp_path):
    (tmp_path / "train.log").write_text("my own\n")
    status, _, err = forked(tmp_path, "train.py", "method=lsh", "bits=0", "hydra.run.dir=.")
    assert status == 2, err
    assert (tmp_path / "train.log").read_text().startswith("my own\n")


@contextmanager
def largest_file(length):
    """Files of this process end at so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_a_full_disk_costs_nothing_that_is_encoded(ending, deephash, fitted_run, digits, tmp_path):
    np.save(tmp_path / "x.npy", digits)
    command = ("encode", fitted_run, tmp_path / "x.npy", tmp_path / f"z{ending}", "--rows", "512")
    for length in (50, 400, 5_000, 12_000, 39_000, 40_200):
        with largest_file(length):
            ended = deephash(*command)
        if ended.status == 0:
            assert length > 40_000
            break
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "cannot be written" in ended.err
        assert not (tmp_path / f"z{ending}").exists()
    assert deephash(*command).status == 0
    assert deephash(*command[:3], tmp_path / f"whole{ending}", *command[4:]).status == 0
    assert (tmp_path / f"z{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()


@pytest.mark.parametrize("kind", ["flat", "faiss_flat", "usearch"])
def test_a_full_disk_leaves_the_index_that_was_there(kind, deephash, fitted_run, source, tmp_path):
    if kind != "flat":
        pytest.importorskip(kind.partition("_")[0])
    assert deephash("encode", fitted_run, source, tmp_path / "z.npy").status == 0
    command = ("index", tmp_path / "z.npy", tmp_path / "index", "--kind", kind)
    assert deephash(*command).status == 0
    before = tree(tmp_path / "index")
    for length in (100, 700):
        with largest_file(length):
            ended = deephash(*command)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "cannot be written" in ended.err
        assert tree(tmp_path / "index") == before


def shown_in_ascii(monkeypatch, *arguments):
    """Status and what a console of ASCII shows."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", ["deephash", *map(str, arguments)])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    for stream in streams:
        stream.flush()
    return status, *(stream.buffer.getvalue().decode("ascii") for stream in streams)


def test_a_console_of_ascii_shows_escapes(fitted_run, tmp_path, monkeypatch):
    status, out, _ = shown_in_ascii(monkeypatch, "info", fitted_run)
    assert status == 0
    assert "itq" in out.lower()
    status, _, err = shown_in_ascii(monkeypatch, "encode", fitted_run, tmp_path / "Übung.npy", tmp_path / "z.npy")
    assert status == 2
    assert "\\xdcbung.npy does not exist" in err
    assert shown_in_ascii(monkeypatch, "search", "--help")[0] == 0


class FullDisk(io.StringIO):
    """Standard output into a file on a full disk."""

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_output_that_the_system_refuses_is_one_line(fitted_run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deephash", "info", str(fitted_run)])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", FullDisk())
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1
