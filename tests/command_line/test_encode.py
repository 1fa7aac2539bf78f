"""`deephash encode` on a real run: every kind of source, bad rows, interrupted encodings."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from PIL import Image

from deephash.code_files import code_writer
from deephash.code_files.array_rows import open_npy
from deephash.code_files.code_file import read_codes
from deephash.code_files.encode_file import encode_file
from deephash.code_files.encoder_of import load_view
from deephash.hashers.loading import load

PROGRAM = Path(sys.executable).with_name("deephash")


@pytest.fixture(scope="session")
def expected(fitted_run, digits):
    """Codes of the digits as the hasher itself gives them."""
    return load(fitted_run).encode(torch.from_numpy(digits))


def save_npy(path, x):
    np.save(path.with_suffix(".npy"), x)
    return path.with_suffix(".npy"), np.arange(len(x))


def save_columns_first(path, x):
    np.save(path.with_suffix(".npy"), np.asfortranarray(x.astype(np.float64)))
    return path.with_suffix(".npy"), np.arange(len(x))


def save_npz(path, x):
    np.savez_compressed(path.with_suffix(".npz"), x=x.astype(np.uint8))
    return path.with_suffix(".npz"), np.arange(len(x))


def save_fvecs(path, x):
    from deephash.data.vectors import write_vectors

    write_vectors(path.with_suffix(".fvecs"), x)
    return path.with_suffix(".fvecs"), np.arange(len(x))


def save_parquet_of_lists(path, x):
    table = {"id": np.arange(len(x)) * 3, "vector": polars.Series(x, dtype=polars.Array(polars.Float32, x.shape[1]))}
    polars.DataFrame(table).write_parquet(path.with_suffix(".parquet"), row_group_size=700)
    return path.with_suffix(".parquet"), np.arange(len(x)) * 3


def save_csv(path, x):
    names = [f"Ziffer ü{row}" for row in range(len(x))]
    polars.DataFrame({"id": names, **{f"x{j}": x[:, j] for j in range(x.shape[1])}}).write_csv(path.with_suffix(".csv"))
    return path.with_suffix(".csv"), np.array(names)


@pytest.mark.parametrize("save", [save_npy, save_columns_first, save_npz, save_fvecs, save_parquet_of_lists, save_csv])
@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_every_kind_of_source_gives_the_hashers_codes(save, ending, deephash, fitted_run, digits, expected, tmp_path):
    source, ids = save(tmp_path / "features", digits[:2_000])
    out = tmp_path / f"codes{ending}"
    ended = deephash("encode", fitted_run, source, out, "--rows", "300")
    assert (ended.status, ended.err) == (0, "")
    assert "2,000 codes of 16 bits" in ended.out
    read = read_codes(out)
    assert torch.equal(read.codes, expected[:2_000])
    assert np.array_equal(read.ids, ids)
    assert read.hasher == load(fitted_run).identity
    left = {path.name for path in tmp_path.iterdir()} - {source.name}
    assert left == {out.name, "codes.json"} | ({"codes.ids.npy"} if ending == ".npy" else set())


def test_bad_rows_are_listed_and_refused_then_skipped(deephash, fitted_run, digits, expected, tmp_path):
    x = digits[:1_000].copy()
    x[7, 3], x[998, 0] = np.nan, np.inf
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "codes.npy"
    ended = deephash("encode", fitted_run, tmp_path / "x.npy", out)
    assert ended.status == 1
    assert "2 of 1,000 rows cannot be encoded, the first 7 (value 3 is NaN or missing)" in ended.err
    assert not out.exists()
    report = json.loads((tmp_path / "codes.bad.json").read_text())
    assert [(bad["row"], bad["reason"]) for bad in report] == [
        (7, "value 3 is NaN or missing"),
        (998, "value 0 is infinite or beyond float32"),
    ]
    ended = deephash("encode", fitted_run, tmp_path / "x.npy", out, "--skip-bad")
    assert ended.status == 0
    kept = np.delete(np.arange(1_000), [7, 998])
    read = read_codes(out)
    assert np.array_equal(read.ids, kept)
    assert torch.equal(read.codes, expected[kept])
    assert json.loads((tmp_path / "codes.bad.json").read_text()) == report


def test_cells_of_a_table_that_are_no_numbers_are_bad_rows(deephash, fitted_run, digits, expected, tmp_path):
    source, _ = save_csv(tmp_path / "x", digits[:500])
    lines = source.read_text().splitlines()
    lines[201] = lines[201].rpartition(",")[0] + ",seven"
    lines[402] = lines[402].rpartition(",")[0] + ","
    lines[303] = lines[303].rpartition(",")[0] + ",NaN"
    source.write_text("\n".join(lines) + "\n")
    ended = deephash("encode", fitted_run, source, tmp_path / "codes.npy", "--skip-bad", "--rows", "64")
    assert ended.status == 0, ended.err
    report = json.loads((tmp_path / "codes.bad.json").read_text())
    assert [bad["row"] for bad in report] == [200, 302, 401]
    assert report[0]["id"] == "Ziffer ü200"
    assert torch.equal(read_codes(tmp_path / "codes.npy").codes, expected[np.delete(np.arange(500), [200, 302, 401])])


def test_lists_of_other_lengths_are_bad_rows(deephash, fitted_run, digits, expected, tmp_path):
    rows = [row.tolist() for row in digits[:50]]
    rows[0], rows[20], rows[30] = [], rows[20][:9], None
    polars.DataFrame({"id": [None, *range(1, 50)], "v": rows}).write_parquet(tmp_path / "x.parquet")
    ended = deephash("encode", fitted_run, tmp_path / "x.parquet", tmp_path / "codes.npy", "--skip-bad")
    assert ended.status == 0, ended.err
    report = json.loads((tmp_path / "codes.bad.json").read_text())
    assert [(bad["row"], bad["reason"]) for bad in report] == [
        (0, "no id"),
        (20, "9 values, not 784"),
        (30, "0 values, not 784"),
    ]
    assert torch.equal(read_codes(tmp_path / "codes.npy").codes, expected[np.delete(np.arange(50), [0, 20, 30])])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", b"1", "is not a folder of images and does not end in one of"),
        ("x.npy", b"1", "x.npy is not readable as .npy data"),
        ("x.npz", b"PK", "x.npz is not readable as .npz data"),
        ("x.parquet", b"PAR1", "x.parquet is not readable as .parquet data"),
        ("x.csv", b"", "x.csv is not readable as .csv data"),
        ("x.csv", b"a,b\nx,y\n", "column 'a' of"),
        ("x.fvecs", b"\1\0", "x.fvecs is truncated"),
    ],
)
def test_what_is_no_source_gives_one_line(name, content, words, deephash, fitted_run, tmp_path):
    (tmp_path / name).write_bytes(content)
    ended = deephash("encode", fitted_run, tmp_path / name, tmp_path / "codes.npy")
    assert ended.status == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "codes.npy").exists()


def test_pickled_and_truncated_arrays_are_refused(deephash, fitted_run, digits, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "only unsafe unpickling reads" in deephash("encode", fitted_run, tmp_path / "objects.npy", "c.npy").err
    np.save(tmp_path / "x.npy", digits[:100])
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    assert "truncated: 1 bytes are missing" in deephash("encode", fitted_run, tmp_path / "x.npy", "c.npy").err


def test_other_dimensions_and_other_codes_in_place_are_refused(deephash, fitted_run, digits, tmp_path):
    np.save(tmp_path / "x.npy", digits[:100, :9])
    ended = deephash("encode", fitted_run, tmp_path / "x.npy", tmp_path / "codes.npy")
    assert ended.err == (
        "error: the features have 9 dimensions; the hasher expects 784: give features from the same model or "
        "descriptor.\n"
    )
    np.save(tmp_path / "x.npy", digits[:100])
    np.save(tmp_path / "y.npy", digits[100:200])
    assert deephash("encode", fitted_run, tmp_path / "x.npy", tmp_path / "codes.npy").status == 0
    assert "nothing to do" in deephash("encode", fitted_run, tmp_path / "x.npy", tmp_path / "codes.npy").out
    before = (tmp_path / "codes.npy").read_bytes()
    ended = deephash("encode", fitted_run, tmp_path / "y.npy", tmp_path / "codes.npy")
    assert ended.status == 2
    assert "exists already and is not a file of these codes" in ended.err
    assert (tmp_path / "codes.npy").read_bytes() == before
    assert deephash("encode", fitted_run, tmp_path / "y.npy", tmp_path / "codes.npy", "--overwrite").status == 0
    assert (tmp_path / "codes.npy").read_bytes() != before


def test_images_of_a_run_of_images(deephash, compose_config, tmp_path):
    """Images at any depth become features as the run's own did; those that cannot be decoded are listed."""
    from deephash.command_line.programs.train import train

    draw = np.random.default_rng(0)
    for kind in ("bright", "dark"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 128, (24, 30, 3), dtype=np.uint8) + (127 if kind == "bright" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / kind / f"{number:02d}.png")
    settings = (
        "method=pcah", "bits=8", "figures=false", "data=image_folder", "data.descriptor.image_size=32",
        f"data.path={tmp_path / 'images'}", f"data.cache={tmp_path / 'cache'}", "protocol.queries=4",
        "metrics.at=[1]",
    )  # fmt: skip
    train(compose_config(*settings), tmp_path / "run")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "codes.parquet"
    assert deephash("encode", tmp_path / "run", tmp_path / "images", out).status == 1
    assert deephash("encode", tmp_path / "run", tmp_path / "images", out, "--skip-bad").status == 0
    (bad,) = json.loads((tmp_path / "codes.bad.json").read_text())
    assert bad["id"] == "broken.png"
    read = read_codes(out)
    assert read.ids.tolist() == [f"{kind}/{number:02d}.png" for kind in ("bright", "dark") for number in range(20)]
    from deephash.training.building import build_data

    (tmp_path / "images" / "broken.png").unlink()
    data = build_data(compose_config(*settings))
    data.prepare_data()
    data.setup()
    assert torch.equal(read.codes, load(tmp_path / "run").encode(data.items.features))


def test_images_for_a_run_of_features_are_refused(deephash, fitted_run, tmp_path):
    ended = deephash("encode", fitted_run, tmp_path, tmp_path / "codes.npy")
    assert ended.status == 2
    assert "give such features instead of images" in ended.err


def contents(folder, stem):
    """What lies there, but for the unfinished files of a killed writer, which a later write removes a day on."""
    files = (path for path in folder.glob(f"{stem}*") if path.is_file() and path.suffix != ".partial")
    return {path.name.removeprefix(stem): path.read_bytes() for path in files}


def test_killed_encoding_goes_on_and_gives_the_same_bytes(fitted_run, digits, tmp_path):
    """SIGKILL at a random moment; the same command again makes the files that one never killed makes."""
    command = [str(PROGRAM), "encode", str(fitted_run), "x.npy", "killed.npy", "--rows", "2"]
    noted = tmp_path / "killed.npy.encoding" / "progress.json"
    # On a busy machine it may end before this process has its turn; then it gets more to do.
    for times in (2, 4, 8, 16):
        np.save(tmp_path / "x.npy", np.concatenate([digits] * times))
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        while not noted.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if noted.exists():
            break
        for path in tmp_path.glob("killed*"):
            path.unlink()
    assert not (tmp_path / "killed.npy").exists()
    assert 0 < json.loads(noted.read_text())["progress"]["row"] < 5000 * times

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (tmp_path / "whole").mkdir()
    hasher, _, _ = load_view(fitted_run)
    encode_file(hasher, open_npy(tmp_path / "x.npy"), tmp_path / "whole" / "killed.npy", rows=2)
    assert contents(tmp_path, "killed") == contents(tmp_path / "whole", "killed")


@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_broken_off_at_every_step_of_the_end_it_goes_on(ending, fitted_run, digits, expected, tmp_path, monkeypatch):
    """Whatever file operation of the last steps is the last to happen, the next call ends well."""
    x = digits[:100].copy()
    x[5, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    hasher, _, _ = load_view(fitted_run)
    operations = ("replace", "unlink", "rmdir")
    originals = {name: getattr(Path, name) for name in operations}
    monkeypatch.setattr(os, "fsync", lambda file: None)  # Forty endings need not reach the disk.
    broken = 0
    for last in range(40):
        count = 0

        def limited(name, last=last):
            def operation(path, *arguments, **options):
                nonlocal count
                count += 1
                if count > last:
                    raise KeyboardInterrupt
                return originals[name](path, *arguments, **options)

            return operation

        folder = tmp_path / str(last)
        folder.mkdir()
        for name in operations:
            monkeypatch.setattr(Path, name, limited(name))
        ended = False
        try:
            encode_file(hasher, open_npy(tmp_path / "x.npy"), folder / f"c{ending}", skip_bad=True)
            ended = True
        except KeyboardInterrupt:
            broken += 1
        for name in operations:
            monkeypatch.setattr(Path, name, originals[name])
        done = encode_file(hasher, open_npy(tmp_path / "x.npy"), folder / f"c{ending}", skip_bad=True)
        assert (done.rows, done.bad) == (99, 1)
        assert torch.equal(read_codes(folder / f"c{ending}").codes, expected[np.delete(np.arange(100), 5)])
        assert not (folder / f"c{ending}.encoding").exists()
        assert contents(folder, "c") == contents(tmp_path / "0", "c")
        if ended:  # All operations were let happen.
            break
    assert 5 < broken < 40


def test_parquet_of_several_parts_is_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(code_writer, "PARQUET_ROWS", 7)
    codes = np.random.default_rng(0).integers(0, 256, (20, 3), dtype=np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "ids.npy", np.array([f"i{row}" for row in range(20)]))
    code_writer.write_parquet(tmp_path / "codes.npy", tmp_path / "ids.npy", tmp_path / "out.parquet")
    table = polars.read_parquet(tmp_path / "out.parquet")
    assert np.array_equal(table["code"].to_numpy(), codes)
    assert table["id"].to_list() == [f"i{row}" for row in range(20)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npy", "ids.npy", "out.parquet"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"task": null, "progress": {}}',
        '{"task": {"hasher": "a"}, "progress": {"row": "x"}}',
        b"\xff\xfe",
    ],
)
def test_damaged_progress_is_refused_in_one_line(tmp_path, content):
    from deephash.code_files.code_file import CodePaths
    from deephash.code_files.encode_file import PROGRESS, read_progress
    from deephash.validation import InvalidInputError

    paths = CodePaths(tmp_path / "z.npy")
    paths.unfinished.mkdir()
    noted = paths.unfinished / PROGRESS
    noted.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInputError, match=f"{PROGRESS} is not readable as the progress of an encoding"):
        read_progress(paths, {"hasher": "a"}, overwrite=False)


def test_a_csv_file_without_a_heading_is_asked_about_and_read(deephash, fitted_run, digits, expected, tmp_path):
    np.savetxt(tmp_path / "x.csv", digits[:50], fmt="%g", delimiter=",")
    ended = deephash("encode", fitted_run, tmp_path / "x.csv", tmp_path / "codes.npy")
    assert ended.status == 2
    assert "the first line of" in ended.err
    assert "--no-header" in ended.err
    assert ended.err.count("\n") == 1
    ended = deephash("encode", fitted_run, tmp_path / "x.csv", tmp_path / "codes.npy", "--no-header")
    assert "50 codes" in ended.out
    assert torch.equal(read_codes(tmp_path / "codes.npy").codes, expected[:50])
    assert np.array_equal(read_codes(tmp_path / "codes.npy").ids, np.arange(50))
    ended = deephash("encode", fitted_run, tmp_path / "codes.npy", tmp_path / "other.npy", "--no-header")
    assert "codes.npy is not a .csv file; leave --no-header out" in ended.err


def test_ids_of_a_csv_file_stay_as_they_are(deephash, fitted_run, digits, tmp_path):
    ids = [f"{row:05d}" for row in range(120)] + ["last"]
    columns = {f"x{place}": digits[:121, place] for place in range(digits.shape[1])}
    polars.DataFrame({"id": ids, **columns}).write_csv(tmp_path / "x.csv")
    ended = deephash("encode", fitted_run, tmp_path / "x.csv", tmp_path / "codes.parquet", "--skip-bad")
    assert "121 codes of 16 bits" in ended.out
    assert "left out" not in ended.out
    assert read_codes(tmp_path / "codes.parquet").ids.tolist() == ids
    assert deephash("index", tmp_path / "codes.parquet", tmp_path / "index").status == 0
    found = deephash("search", tmp_path / "index", tmp_path / "x.csv", "-k", 1, "--run", fitted_run, "--json").json
    assert [row["query"] for row in found] == ids
    assert found[12]["distances"] == [0]


def test_the_index_of_pandas_is_left_out_of_features_and_queries(
    deephash, fitted_run, digits, expected, tmp_path, caplog
):
    pandas = pytest.importorskip("pandas")
    order = np.random.default_rng(0).permutation(30)
    frame = pandas.DataFrame(digits[:30], columns=[f"x{place}" for place in range(digits.shape[1])])
    frame.iloc[order].to_parquet(tmp_path / "x.parquet")
    ended = deephash("encode", fitted_run, tmp_path / "x.parquet", tmp_path / "codes.npy")
    assert ended.status == 0, ended.err
    assert caplog.messages == [
        f"{tmp_path / 'x.parquet'}: '__index_level_0__' left out (the index that pandas stored); to include "
        "it, use --features or --ids."
    ]
    assert torch.equal(read_codes(tmp_path / "codes.npy").codes, expected[order])
    assert deephash("index", tmp_path / "codes.npy", tmp_path / "index").status == 0
    asked = ("search", tmp_path / "index", tmp_path / "x.parquet", "-k", 1, "--run", fitted_run, "--json")
    assert [row["query"] for row in deephash(*asked).json] == list(range(30))
    assert [row["query"] for row in deephash(*asked, "--ids", "__index_level_0__").json] == order.tolist()


def test_a_description_of_another_file_is_told_on_one_line(tmp_path):
    import json

    from deephash.code_files.code_file import FORMAT, VERSION, read_description
    from deephash.validation import InvalidInputError

    (tmp_path / "z.npy").write_bytes(b"")
    for name in ("a\nb", "x" * 5000, None, [1]):
        (tmp_path / "z.json").write_text(json.dumps({"format": FORMAT, "version": VERSION, "file": name}))
        with pytest.raises(InvalidInputError, match=r"z\.json describes") as caught:
            read_description(tmp_path / "z.npy")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
