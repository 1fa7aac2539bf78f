"""Saved indexes that change: what is acknowledged is on the disk, damage is told, and readers are not disturbed."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from item_list import NAMINGS, ItemList

import deephash
from deephash.indexes import change_log, changing_items, index_writing, mih
from deephash.indexes.change_record import decode_change, encode_change
from deephash.indexes.item_rows import ADD, MAX_NAME, REMOVE, UPDATE, Change
from deephash.validation import InvalidInputError, StorageError

KILLED_CHANGES = Path(__file__).resolve().parents[2] / "benchmarks" / "killed_changes.py"


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(changing_items, "MIN_REMOVED", 6)
    monkeypatch.setattr(mih, "MIN_LATE", 12)


@pytest.fixture
def folder(tmp_path, clustered_codes):
    """An index of five items, a to e, and a log of an addition, an update and a removal."""
    codes = clustered_codes(9, 64, 0)
    columns = {"price": range(5)}
    deephash.index(codes[:5], "flat", names=list("abcde"), columns=columns).save(tmp_path / "index")
    with deephash.open_index(tmp_path / "index") as index:
        index.add(codes[5:7], names=["f", "ß"], columns={"price": [5, 6]})
        index.update(codes[7:8], names=["b"], columns={"price": [7]})
        index.remove(["a", "f"])
    return tmp_path / "index"


def log_of(folder):
    (path,) = folder.glob("*/changes.log")
    return path


def names_in(folder):
    return deephash.load_index(folder).names.tolist()


# The names after each whole record of the log.
STATES = [list("abcde"), [*"abcdef", "ß"], [*"acdef", "ß", "b"], [*"cde", "ß", "b"]]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["flat", "mih", "faiss_flat"]),
    operations=st.lists(
        st.sampled_from(["add", "add", "remove", "update", "remove_most", "compact", "reopen"]), max_size=10
    ),
    naming=st.sampled_from(NAMINGS),
    bits=st.sampled_from([16, 64, 100]),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_open_index_and_its_folder_are_what_a_list_finds(kind, operations, naming, bits, seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open") / "index"
    items = ItemList(kind, naming, bits, np.random.default_rng(seed), 20)
    items.index.save(folder)
    items.index = deephash.open_index(folder, engine="trust")
    any_tie = kind == "faiss_flat"
    for operation in operations:
        if operation == "reopen":
            items.index.close()
            items.index = deephash.open_index(folder, engine="trust")
        else:
            getattr(items, operation)()
        opened = items.index
        items.check(any_tie=any_tie)
        items.index = deephash.load_index(folder, engine="trust")
        items.check(any_tie=any_tie)
        items.index = opened
    items.index.close()


def test_names_and_columns_are_read_from_the_log(folder, clustered_codes):
    index = deephash.load_index(folder)
    assert index.names.tolist() == STATES[-1]
    assert index.ids.tolist() == [2, 3, 4, 6, 7]
    near = index.search(clustered_codes(9, 64, 0)[5:6], 5, where="price > 3")[1]
    assert sorted(index.named(near)[0].tolist()) == ["", "", "b", "e", "ß"]


def test_a_log_cut_anywhere_is_read_to_its_last_whole_record(folder):
    path = log_of(folder)
    whole = path.read_bytes()
    ends = [change_log.HEAD_BYTES]
    with path.open("rb") as file:
        ends += [end.place for _, end in change_log.read_records(file, path.parent.name, 64)]
    assert ends[-1] == len(whole)
    for length in range(change_log.HEAD_BYTES, len(whole)):
        path.write_bytes(whole[:length])
        expected = STATES[sum(end <= length for end in ends) - 1]
        assert names_in(folder) == expected
        if length % 7 == 0:
            path.write_bytes(whole[:length])
            with deephash.open_index(folder) as index:
                index.remove(["c"])
            assert names_in(folder) == [name for name in expected if name != "c"]
    path.write_bytes(whole[: change_log.HEAD_BYTES - 1])
    with pytest.raises(InvalidInputError, match="not the log of its index"):
        deephash.load_index(folder)


@pytest.mark.ci
def test_any_damaged_byte_of_a_log_is_told(folder):
    path = log_of(folder)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for change, read in ((1, deephash.load_index), (128, deephash.open_index)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            with pytest.raises(InvalidInputError, match=r"is not readable as the changes of an index \(") as error:
                read(folder)
            assert "\n" not in str(error.value)
    path.write_bytes(whole)
    assert names_in(folder) == STATES[-1]


def test_records_that_are_moved_doubled_or_left_out_are_told(folder):
    path = log_of(folder)
    whole = path.read_bytes()
    with path.open("rb") as file:
        places = [change_log.HEAD_BYTES] + [end.place for _, end in change_log.read_records(file, path.parent.name, 64)]
    head = whole[: places[0]]
    records = [whole[start:stop] for start, stop in pairwise(places)]
    for order in ([1, 0, 2], [0, 0, 1, 2], [1, 2], [0, 2], [0, 1, 2, 2]):
        path.write_bytes(head + b"".join(records[place] for place in order))
        with pytest.raises(InvalidInputError, match="is damaged"):
            deephash.load_index(folder)


def test_zeros_of_a_power_failure_are_no_record(folder):
    path = log_of(folder)
    with path.open("ab") as file:
        file.write(bytes(5000))
    assert names_in(folder) == STATES[-1]
    with deephash.open_index(folder) as index:
        assert path.stat().st_size < 5000
        index.remove(["c"])
    assert names_in(folder) == STATES[-1][1:]


def test_a_missing_log_is_told(folder):
    log_of(folder).unlink()
    with pytest.raises(InvalidInputError, match=r"changes\.log does not exist"):
        deephash.load_index(folder)


def test_a_log_of_another_generation_is_not_read(folder, tmp_path):
    with deephash.open_index(folder) as index:
        old = log_of(folder).read_bytes()
        index.compact()
    log_of(folder).write_bytes(old)
    with pytest.raises(InvalidInputError, match="not the log of its index"):
        deephash.load_index(folder)


def test_one_writer_at_a_time_and_readers_meanwhile(folder, clustered_codes):
    with deephash.open_index(folder) as index:
        for write in (lambda: deephash.open_index(folder), lambda: deephash.index(index.codes, "flat").save(folder)):
            with pytest.raises(InvalidInputError, match="is being written by another process"):
                write()
        early = deephash.load_index(folder)
        index.add(clustered_codes(1, 64, 5), names=["g"], columns={"price": [1]})
        assert names_in(folder) == [*STATES[-1], "g"]
        assert early.names.tolist() == STATES[-1]
        index.compact()
        index.remove(["g"])
        assert early.names.tolist() == STATES[-1]
        assert early.search(early.codes[2:3], 1)[0].tolist() == [[0]]
        assert names_in(folder) == STATES[-1]
    with pytest.raises(InvalidInputError, match="the index is closed; open it again"):
        index.remove(["c"])
    with pytest.raises(InvalidInputError, match="the index is closed"):
        index.compact()
    assert index.search(index.codes[:1], 1)[0].shape == (1, 1)
    index.close()
    deephash.open_index(folder).close()
    assert sorted(path.name for path in folder.iterdir())[1:] == ["index.json"]


def test_a_full_disk_changes_nothing(folder, clustered_codes, monkeypatch):
    with deephash.open_index(folder) as index:
        size = log_of(folder).stat().st_size
        fsync = os.fsync
        failures = iter([OSError(28, "No space left on device"), None])

        def full(opened):
            failure = next(failures, None)
            if failure is not None:
                raise failure
            fsync(opened)

        monkeypatch.setattr(os, "fdatasync", full)
        with pytest.raises(StorageError, match=r"changes\.log cannot be written \(No space .*nothing is changed"):
            index.remove(["c"])
        assert index.names.tolist() == STATES[-1]
        assert log_of(folder).stat().st_size == size
        index.remove(["d"])
        assert index.names.tolist() == names_in(folder) == [name for name in STATES[-1] if name != "d"]
        for flush in ("fdatasync", "fsync"):
            monkeypatch.setattr(os, flush, lambda opened: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(StorageError, match="Input/output error"):
            index.remove(["c"])
        monkeypatch.undo()
        with pytest.raises(InvalidInputError, match="a change was interrupted; open it again"):
            index.remove(["c"])
    with deephash.open_index(folder) as index:
        assert index.names.tolist()[-1] == "b"


def test_a_failed_compaction_keeps_the_log(folder, monkeypatch):
    with deephash.open_index(folder) as index:

        def full(path):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(index_writing, "flush", full)
        with pytest.raises(StorageError, match="an earlier index is unchanged"):
            index.compact()
        monkeypatch.undo()
        index.remove(["c"])
        assert index.names.tolist() == names_in(folder) == STATES[-1][1:]
        index.compact()
        assert index.names.tolist() == names_in(folder) == STATES[-1][1:]
        assert log_of(folder).stat().st_size == change_log.HEAD_BYTES
        assert len(list(folder.glob("generation-*"))) == 1


def test_ids_are_not_used_again_after_a_compaction(tmp_path, clustered_codes):
    codes = clustered_codes(8, 64, 0)
    deephash.index(codes[:4], "mih").save(tmp_path)
    with deephash.open_index(tmp_path) as index:
        assert index.add(codes[4:6]).tolist() == [4, 5]
        index.remove([5, 0])
        index.compact()
        assert index.add(codes[6:7]).tolist() == [6]
    with deephash.open_index(tmp_path) as index:
        assert index.ids.tolist() == [1, 2, 3, 4, 6]
        assert index.search(codes[6:7], 1)[1].tolist() == [[6]]
        assert index.add(codes[7:]).tolist() == [7]


def test_a_saved_index_without_changes_is_as_before(tmp_path, clustered_codes):
    deephash.index(clustered_codes(4, 64, 0), "flat", names=list("abcd")).save(tmp_path)
    described = json.loads((tmp_path / "index.json").read_text())
    assert described["version"] == 1
    assert set(described["files"]) == {"codes.npy", "names.npy"}
    assert {"next_id", "log"}.isdisjoint(described)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log": 1}, "has log=1"),
        ({"next_id": "5"}, "has next_id='5'"),
        ({"next_id": 99}, "has next_id=99 and no ids"),
        ({"version": 3}, "format version 3; this deephash reads 1 and 2"),
        ({"version": True}, "format version True"),
        ({"size": 4}, r"expected uint8 \(4, 8\)"),
        ({"kind": "duckdb"}, "duckdb|files"),
    ],
)
def test_a_hostile_description_is_refused(folder, changes, message):
    path = folder / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for read in (deephash.load_index, deephash.open_index):
        with pytest.raises(InvalidInputError, match=message):
            read(folder)


def test_other_kinds_and_folders_are_refused(tmp_path, clustered_codes):
    with pytest.raises(InvalidInputError, match="does not exist"):
        deephash.open_index(tmp_path / "nowhere")
    pytest.importorskip("duckdb")
    deephash.index(clustered_codes(4, 64, 0), "duckdb").save(tmp_path / "database")
    with pytest.raises(InvalidInputError, match="is of kind=duckdb, which takes no changes"):
        deephash.open_index(tmp_path / "database")
    assert len(list((tmp_path / "database").iterdir())) == 2, "no lock is left"


CHANGES = [
    Change(ADD, np.arange(16, dtype=np.uint8).reshape(2, 8), np.array(["a", "é\udcff" + "x" * 90])),
    Change(ADD, np.zeros((3, 8), np.uint8)),
    Change(UPDATE, np.ones((1, 8), np.uint8), np.array([-5])),
    Change(REMOVE, names=np.array([2**62, 0])),
    Change(REMOVE, names=np.array([""])),
]


@pytest.mark.parametrize("change", CHANGES)
def test_records_keep_changes(change):
    read = decode_change(encode_change(change), 8)
    assert read.operation == change.operation
    for name in ("codes", "names"):
        given, found = getattr(change, name), getattr(read, name)
        assert (given is None) == (found is None)
        assert given is None or (given.tolist() == found.tolist() and given.dtype.kind == found.dtype.kind)


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_other_bytes_is_refused_or_a_change(change):
    """Whoever writes digests, too, can write any record: it never raises anything but ValueError."""
    content = encode_change(change)
    for place in range(len(content)):
        for value in (0, 1, 255):
            for damaged in (content[:place] + bytes([value]) + content[place + 1 :], content[:place]):
                try:
                    decode_change(damaged, 8)
                except ValueError:
                    continue


def test_long_names_are_refused(tmp_path, clustered_codes):
    codes = clustered_codes(2, 64, 0)
    index = deephash.index(codes[:1], "flat", names=["a" * (MAX_NAME + 5)])
    with pytest.raises(InvalidInputError, match=f"one of {MAX_NAME + 1} characters; shorten it to {MAX_NAME}"):
        index.add(codes[1:], names=["b" * (MAX_NAME + 1)])
    index.add(codes[1:], names=["b" * MAX_NAME])


@pytest.mark.skipif(os.name != "posix", reason="processes are killed as on POSIX systems")
def test_killed_writers_lose_nothing_and_invent_nothing():
    command = [sys.executable, KILLED_CHANGES, "--kills", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    assert re.match(r"5 kills within [1-9][\d,]* changes", done.stdout)


@pytest.mark.parametrize("bits", [64, 100])
def test_mapped_codes_are_not_changed(tmp_path, clustered_codes, bits):
    codes = clustered_codes(30, bits, 0)
    deephash.index(codes, "flat", bits=bits).save(tmp_path)
    (path,) = tmp_path.glob("*/codes.npy")
    before = path.read_bytes()
    index = deephash.load_index(tmp_path)
    index.add(codes[:5])
    index.remove([3, 4])
    index.compact()
    assert path.read_bytes() == before
    assert torch.equal(deephash.load_index(tmp_path).codes, codes)


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_folder_that_is_moved_or_replaced_takes_no_changes(folder, clustered_codes, how):
    codes = clustered_codes(2, 64, 5)
    index = deephash.open_index(folder)
    moved = folder.with_name("moved")
    if how == "removed":
        shutil.rmtree(folder)
    else:
        folder.rename(moved)
    if how == "replaced":
        shutil.copytree(moved, folder)
    for refused in (
        lambda: index.add(codes[:1], names=["g"], columns={"price": [1]}),
        lambda: index.remove(["c"]),
        index.compact,
    ):
        with pytest.raises(InvalidInputError, match="the folder was moved, removed or replaced: open the index again"):
            refused()
    index.close()
    assert folder.exists() == (how == "replaced")
    if how != "removed":
        with deephash.open_index(moved) as index:
            index.add(codes[:1], names=["g"], columns={"price": [1]})
        assert names_in(moved) == [*STATES[-1], "g"]
