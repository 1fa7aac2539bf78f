"""Open indexes that compact themselves: the same items, whole generations for readers, and nothing lost by a kill."""

import logging
import os
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from item_list import NAMINGS, ItemList

import deephash
from deephash.indexes import background_compaction, changing_items, index_writing, mih, open_index

OPERATIONS = ["add", "add", "remove", "update", "remove_most", "compact", "reopen", "wait"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(changing_items, "MIN_REMOVED", 6)
    monkeypatch.setattr(mih, "MIN_LATE", 12)
    monkeypatch.setattr(background_compaction, "MIN_LOG_BYTES", 1)
    monkeypatch.setattr(background_compaction, "MAX_SHARE", 0.01)


def wait(index):
    """Wait until the thread of a compaction has ended."""
    if index.journal.compaction is not None:
        index.journal.compaction._thread.join()


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["flat", "mih", "faiss_flat"]),
    operations=st.lists(st.sampled_from(OPERATIONS), max_size=12),
    naming=st.sampled_from(NAMINGS),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_index_that_compacts_itself_is_what_a_list_finds(kind, operations, naming, seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open") / "index"
    items = ItemList(kind, naming, 64, np.random.default_rng(seed), 20)
    items.index.save(folder)
    items.index = opened = deephash.open_index(folder, engine="trust")
    for operation in operations:
        if operation == "reopen":
            opened.close()
            items.index = opened = deephash.open_index(folder, engine="trust")
        elif operation == "wait":
            wait(opened)
        else:
            getattr(items, operation)()
        items.check(any_tie=kind == "faiss_flat")
        items.index = deephash.load_index(folder, engine="trust")
        items.check(any_tie=kind == "faiss_flat")
        items.index = opened
    opened.close()
    items.index = deephash.load_index(folder, engine="trust")
    items.check(any_tie=kind == "faiss_flat")
    assert len(list(folder.glob("generation-*"))) == 1


@pytest.fixture
def folder(tmp_path, clustered_codes):
    names = [f"n{row}" for row in range(30)]
    deephash.index(clustered_codes(30, 64, 0), "mih", names=names).save(tmp_path / "index")
    return tmp_path / "index"


def test_a_long_log_is_compacted_while_changes_go_on(folder, clustered_codes, monkeypatch):
    codes, begun, go_on = clustered_codes(40, 64, 1), threading.Event(), threading.Event()
    write = background_compaction.write_content

    def write_later(*arguments, **more):
        begun.set()
        assert go_on.wait(30)
        return write(*arguments, **more)

    monkeypatch.setattr(background_compaction, "write_content", write_later)
    (first,) = folder.glob("generation-*")
    with deephash.open_index(folder) as index:
        index.add(codes[:10], names=[f"a{row}" for row in range(10)])
        assert begun.wait(30)
        index.remove(["n3", "a2"])
        index.update(codes[10:11], ["n5"])
        early = deephash.load_index(folder)
        assert sorted(early.names.tolist()) == sorted(index.names.tolist())
        go_on.set()
        wait(index)
        assert [first] == [path for path in folder.glob("generation-*") if path.name == index.journal.generation]
        index.remove(["n7"])
        assert index.journal.generation != first.name
        assert not first.exists()
        assert index.journal.end.place < 2000
        loaded = deephash.load_index(folder)
        assert loaded.names.tolist() == index.names.tolist()
        assert loaded.ids.tolist() == index.ids.tolist()
        assert index.search(codes[10:11], 1)[0].tolist() == [[0]]
        assert len(early) == 38
        assert early.search(early.item_codes[:1], 1)[0].tolist() == [[0]]


def test_none_is_begun_if_it_is_not_wanted(folder, clustered_codes):
    with deephash.open_index(folder, compaction=False) as index:
        index.add(clustered_codes(40, 64, 1), names=[f"a{row}" for row in range(40)])
        assert index.journal.compaction is None


@pytest.mark.parametrize("part", ["write_content", "flush", "write_json"])
def test_a_failed_one_changes_nothing(folder, clustered_codes, monkeypatch, caplog, part):
    codes = clustered_codes(10, 64, 1)

    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(background_compaction, part, full)
    with deephash.open_index(folder) as index, caplog.at_level(logging.WARNING):
        generation = index.journal.generation
        index.add(codes[:5], names=list("abcde"))
        wait(index)
        index.remove(["a"])
        assert "compaction in the background failed (" in caplog.text
        assert index.journal.generation == generation
        assert deephash.load_index(folder).names.tolist() == index.names.tolist()
        monkeypatch.undo()
        index.compact()
        index.add(codes[5:6], names=["f"])
    assert len(list(folder.glob("generation-*"))) == 1
    assert deephash.load_index(folder).names.tolist()[-5:] == list("bcdef")


@pytest.mark.parametrize("how", ["by hand", "in the background"])
def test_an_index_is_whole_at_each_step_of_a_compaction(folder, clustered_codes, tmp_path, monkeypatch, how):
    """A copy of the folder at each flush, write and removal is what a kill at that moment leaves."""
    copies, copied = [], threading.Lock()
    codes = clustered_codes(3, 64, 1)

    def copy_before(module, name):
        original = getattr(module, name)

        def copy_and_call(*arguments, **more):
            with copied:
                copies.append(tmp_path / f"copy-{len(copies)}")
                shutil.copytree(folder, copies[-1], ignore=shutil.ignore_patterns(".deephash-lock"))
            return original(*arguments, **more)

        monkeypatch.setattr(module, name, copy_and_call)

    with deephash.open_index(folder, compaction=how != "by hand") as index:
        if how == "by hand":
            index.add(codes, names=list("abc"))
        for module, name in (
            (os, "fsync"),
            (os, "replace"),
            (index_writing, "remove_subfolders"),
            (shutil, "rmtree"),
            (background_compaction, "write_content"),
        ):
            copy_before(module, name)
        if how == "by hand":
            index.compact()
        else:
            index.add(codes, names=list("abc"))
            wait(index)
    expected = sorted([f"n{row}" for row in range(30)] + list("abc"))
    monkeypatch.undo()
    assert len(copies) > 6
    for copy in copies:
        assert sorted(deephash.load_index(copy).names.tolist()) == expected
        with deephash.open_index(copy, compaction=False) as index:
            index.remove(["a"])
            index.compact()
        assert len(deephash.load_index(copy)) == 32
        assert len(list(copy.glob("generation-*"))) == 1
    assert open_index.is_current(folder, next(folder.glob("generation-*")).name)
