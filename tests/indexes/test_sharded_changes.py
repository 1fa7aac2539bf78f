"""Indexes in shards that change: equal to one index of the same items, filtered, durable, and whole for readers."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars
import pytest

import deephash
from deephash.indexes.sharded_changes import open_sharded
from deephash.indexes.sharded_index import DESCRIPTION, FORMAT, open_release, read_current_release, read_release
from deephash.validation import InvalidInputError

CODES = np.random.default_rng(0).integers(0, 256, (400, 8), dtype=np.uint8)
CODES[1::3] = CODES[::3][: len(CODES[1::3])]  # Ties within shards and between them.
QUERIES = CODES[::40] ^ 1


def write_shards(folder, sizes, kind="flat", names=None):
    """Save an index in shards of the first codes, as `deephash index --shards` does."""
    release, shards, first = f"release-{'0' * 16}", [], 0
    for number, size in enumerate(sizes):
        given = np.arange(first, first + size) if names is None else names[first : first + size]
        own = None if names is None and not first else given
        place = f"{release}/shard-{number:05d}"
        deephash.index(CODES[first : first + size], kind, names=own).save(folder / place)
        shards.append({"folder": place, "start": first, "size": size})
        first += size
    description = {"format": FORMAT, "release": release, "bits": 64, "hasher": "made up", "shards": shards}
    (folder / DESCRIPTION).write_text(json.dumps(description))
    return folder


def assert_same(sharded, whole, filters=(None,)):
    for where in filters:
        for ours, expected in zip(sharded.search(QUERIES, 9, where), whole.search(QUERIES, 9, where), strict=True):
            np.testing.assert_array_equal(ours, expected)
    assert sharded.ids.tolist() == whole.ids.tolist()
    assert (len(sharded), sharded.next_id) == (len(whole), whole.next_id)
    if whole.names is not None:
        assert sharded.names.tolist() == whole.names.tolist()
        ids = whole.search(QUERIES, 9)[1]
        assert sharded.named(ids).tolist() == whole.named(ids).tolist()


@pytest.mark.parametrize("kind", ["flat", "mih", "faiss_flat"])
@pytest.mark.parametrize("has_names", [True, False])
def test_changes_and_filters_equal_those_of_one_index(tmp_path, kind, has_names):
    names = [f"n{row}" for row in range(400)]
    folder = write_shards(tmp_path, (40, 30, 50), kind, names if has_names else None)
    whole = deephash.index(CODES[:120], "flat", names=names[:120] if has_names else None)
    draw = np.random.default_rng(1)
    with open_sharded(folder) as sharded:
        for step in range(12):
            first = 120 + 20 * step
            new = names[first : first + 20] if has_names else None
            gone = draw.choice(whole.names if has_names else whole.ids.numpy(), 15, replace=False)
            for index in (sharded, whole):
                index.add(CODES[first : first + 20], names=new)
                index.remove(gone)
                if has_names:
                    index.update(CODES[step : step + 3], names=new[:3] if new[0] in index.names else whole.names[:3])
            if step == 6:
                sharded.compact()
            few = (whole.names if has_names else whole.ids.numpy())[::7]
            mask = draw.random(len(whole)) < 0.4
            conditions = ["id % 3 = 1", polars.col("id") > 99, few, mask, [], *(["name > 'n2'"] if has_names else [])]
            assert_same(sharded, whole, [None, *conditions])
    opened = open_release(folder)
    found = opened.search(QUERIES, 9)
    np.testing.assert_array_equal(found.distances, whole.search(QUERIES, 9)[0])
    np.testing.assert_array_equal(found.names, whole.named(whole.search(QUERIES, 9)[1]))
    with open_sharded(folder) as sharded:
        assert_same(sharded, whole)


def test_readers_follow_the_log_and_keep_a_release_that_is_replaced(tmp_path):
    folder = write_shards(tmp_path, (40, 60))
    reader, base = open_release(folder), read_release(folder)
    with open_sharded(folder) as index:
        with pytest.raises(InvalidInputError, match="is being written by another process"):
            open_sharded(folder)
        index.add(CODES[100:130])
        index.remove([3, 77])
        assert reader.size == 100
        assert reader.follow(read_current_release(folder))
        assert (reader.size, open_release(folder).size) == (128, 128)
        assert reader.search(QUERIES, 5).rows.tolist() == index.search(QUERIES, 5)[1].tolist()
        assert read_release(folder) == base, "a service serves the last compaction"
        index.compact()
        assert not reader.follow(read_current_release(folder))
        assert reader.search(QUERIES, 5).rows.tolist() == index.search(QUERIES, 5)[1].tolist()
    assert read_release(folder).size == 128
    with pytest.raises(InvalidInputError, match="the index is closed"):
        index.add(CODES[:1])


def test_an_emptied_shard_is_dropped_by_a_compaction(tmp_path):
    with open_sharded(write_shards(tmp_path, (40, 60))) as index:
        index.remove(np.arange(40))
        assert index.search(QUERIES, 60)[1].min() == 40
        index.compact()
        assert len(read_release(tmp_path).shards) == 1
        assert index.add(CODES[:2]).tolist() == [100, 101]
        index.remove(index.ids)
        with pytest.raises(InvalidInputError, match="all items have been removed"):
            index.compact()


def test_what_does_not_fit_changes_nothing(tmp_path):
    names = [f"n{row}" for row in range(100)]
    with open_sharded(write_shards(tmp_path, (40, 60), names=names)) as index:
        for change, message in [
            (lambda: index.add(CODES[:1], names=["n99"]), "the index contains 'n99' already"),
            (lambda: index.add(CODES[:1]), "the index has names"),
            (lambda: index.add(CODES[:1], names=[7]), "the names of the index are words"),
            (lambda: index.add(CODES[:2], names=["a", "a"]), "contain 'a' twice"),
            (lambda: index.add(CODES[:1], names=["a"], columns={"x": [1]}), "the index has no columns"),
            (lambda: index.update(CODES[:1], names=["zz"]), "'zz' that the index does not contain"),
            (lambda: index.update(CODES[:1], names=["n1", "n99"]), "there are 2 names and 1 codes"),
            (lambda: index.remove(["n1", "zz"]), "'zz' that the index does not contain"),
            (lambda: index.search(QUERIES, 3, where=["zz"]), "'zz' that the index does not contain"),
            (lambda: index.search(QUERIES, 3, where=np.ones(5, bool)), r"expected \(100,\)"),
            (lambda: index.search(QUERIES, 101), "k=101 exceeds the 100 items"),
        ]:
            with pytest.raises(InvalidInputError, match=message):
                change()
        assert len(index) == 100


@pytest.mark.parametrize("cut", [1, 30])
def test_a_part_of_a_record_is_ignored_and_other_damage_told(tmp_path, cut):
    folder = write_shards(tmp_path, (40, 60))
    with open_sharded(folder) as index:
        index.add(CODES[100:110])
        index.add(CODES[110:120])
    (path,) = folder.glob("*/changes.log")
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert open_release(folder).size == 110
    with open_sharded(folder) as index:
        assert index.add(CODES[120:121]).tolist() == [110]
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(InvalidInputError, match="is damaged"):
        open_release(folder)


WRITER = """
import sys, numpy as np
from deephash.indexes.sharded_changes import open_sharded
codes = np.load(sys.argv[2])
with open_sharded(sys.argv[1]) as index:
    step = (index.next_id - 100) // 4
    while True:
        index.add(codes[step % 90 : step % 90 + 4])
        print("add", 100 + 4 * step, flush=True)
        index.remove(index.ids[:3])
        print("remove", int(index.ids[0]), flush=True)
        step += 1
        if step % 5 == 0:
            index.compact()
"""


@pytest.mark.ci
@pytest.mark.skipif(os.name != "posix", reason="kills as on POSIX systems")
def test_a_killed_writer_loses_no_acknowledged_change(tmp_path):
    """Each step adds 4 items and removes the 3 oldest ones, in all shards; kills are at any moment."""
    folder, draw = write_shards(tmp_path / "index", (40, 60)), np.random.default_rng(0)
    np.save(tmp_path / "codes.npy", CODES)
    newest, oldest = 99, 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(folder), str(tmp_path / "codes.npy")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            told = [writer.stdout.readline()]
            time.sleep(float(draw.random()) / 3)
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
        for word, value in (line.split() for line in told if line.endswith("\n")):
            newest, oldest = (int(value) + 3, oldest) if word == "add" else (newest, int(value))
        with open_sharded(folder) as index:
            ids = index.ids.numpy()
        assert ids.tolist() == list(range(ids[0], ids[-1] + 1)), "nothing is lost between"
        assert newest <= ids[-1] <= newest + 4
        assert oldest <= ids[0] <= oldest + 3
        added = [CODES[(number - 100) // 4 % 90 + (number - 100) % 4] for number in ids[ids >= 100]]
        found = open_release(folder).search(np.array(added, np.uint8), 1)
        assert (found.distances == 0).all()
        newest, oldest = int(ids[-1]), int(ids[0])
