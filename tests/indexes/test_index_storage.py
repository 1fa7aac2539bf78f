"""Saved indexes: round trips, no incomplete files, and a one-line error for everything that is not an index."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import deephash
from deephash.hashers.hasher import Hasher
from deephash.indexes import index_folder, index_writing
from deephash.io import files
from deephash.projections.lsh import LSH
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError


@pytest.fixture
def codes(clustered_codes):
    return clustered_codes(300, 20, 0)


@pytest.fixture
def features():
    return torch.randn(200, 12, generator=torch.Generator().manual_seed(3))


def hasher(features, seed):
    return Hasher(LSH(12, 16), SBQ(16)).fit(features, generator=torch.Generator().manual_seed(seed))


def edit(folder, **changes):
    path = folder / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_is_replaced_and_keeps_one_generation(tmp_path, codes):
    deephash.index(codes, "flat", bits=20).save(tmp_path / "index")
    deephash.index(codes[:50], "mih", bits=20, tables=2).save(tmp_path / "index")
    loaded = deephash.load_index(tmp_path / "index")
    assert (loaded.kind, len(loaded), loaded.bits, loaded.settings["tables"]) == ("mih", 50, 20, 2)
    assert len(list((tmp_path / "index").iterdir())) == 2


@pytest.mark.parametrize("names", [np.array([f"item {i}" for i in range(300)]), np.arange(300, dtype=np.uint16) * 7])
def test_names_are_kept_and_replaced_with_the_codes(tmp_path, codes, names):
    built = deephash.index(codes, "flat", bits=20, names=names)
    built.save(tmp_path / "index")
    loaded = deephash.load_index(tmp_path / "index")
    found = torch.tensor([[3, 299], [0, -1]])
    nothing = "" if names.dtype.kind == "U" else -1
    assert loaded.named(found).tolist() == [[names[3], names[299]], [names[0], nothing]]
    assert loaded.names.dtype == built.names.dtype
    deephash.index(codes[:50], "flat", bits=20).save(tmp_path / "index")
    again = deephash.load_index(tmp_path / "index")
    assert again.named(found).tolist() == found.tolist()
    assert loaded.named(found).tolist() == [[names[3], names[299]], [names[0], nothing]]


@pytest.mark.parametrize("names", [np.arange(299), np.ones(300), np.array([None] * 300), np.zeros((300, 1), np.int64)])
def test_other_names_are_refused(codes, names):
    with pytest.raises(InvalidInputError, match="expected a whole number or a word for each of the 300 items"):
        deephash.index(codes, "flat", bits=20, names=names)


def test_damaged_names_are_refused(tmp_path, codes):
    deephash.index(codes, "flat", bits=20, names=np.arange(300) + 1).save(tmp_path)
    (path,) = tmp_path.glob("*/names.npy")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"names\.npy does not match its digest"):
        deephash.load_index(tmp_path)


def test_a_loaded_index_outlives_its_generation(tmp_path, codes):
    index = deephash.index(codes, "flat", bits=20)
    index.save(tmp_path)
    loaded = deephash.load_index(tmp_path)
    index.save(tmp_path)
    assert torch.equal(loaded.search(codes[:9], 5)[1], index.search(codes[:9], 5)[1])


def test_the_hasher_is_kept_and_another_refused(tmp_path, features):
    own, other = hasher(features, 0), hasher(features, 1)
    deephash.index(own.encode(features), "flat", hasher=own).save(tmp_path)
    index = deephash.load_index(tmp_path)
    assert index.hasher == own.identity
    distances, ids = index.search_features(own, features[:6], k=1)
    assert (distances == 0).all()
    assert ids.shape == (6, 1)
    with pytest.raises(InvalidInputError, match=f"of the hasher {own.identity}, and this one is {other.identity}"):
        index.search_features(other, features[:6])
    with pytest.raises(InvalidInputError, match="does not record which hasher"):
        deephash.index(own.encode(features), "flat").check_hasher(own)


def test_a_hasher_ranked_otherwise_or_of_another_length_is_refused(features):
    manhattan = Hasher(LSH(12, 8), MHQ(16)).fit(features)
    with pytest.raises(InvalidInputError, match="ranked by Manhattan distance"):
        deephash.index(manhattan.encode(features), hasher=manhattan)
    own = hasher(features, 0)
    with pytest.raises(InvalidInputError, match="bits=12, but codes of the hasher have 16"):
        deephash.index(own.encode(features), bits=12, hasher=own)


def test_damage_is_told(tmp_path, codes):
    with pytest.raises(InvalidInputError, match="does not exist"):
        deephash.load_index(tmp_path / "nowhere")
    index = deephash.index(codes, "faiss_flat", bits=20)
    index.save(tmp_path)
    (content,) = tmp_path.glob("generation-*")
    for file in content.iterdir():
        whole = file.read_bytes()
        for damaged in (whole[:-5], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
            file.write_bytes(damaged)
            with pytest.raises(InvalidInputError, match=f"{file.name} does not match its digest"):
                deephash.load_index(tmp_path)
        file.write_bytes(whole)
    (content / "codes.npy").unlink()
    with pytest.raises(InvalidInputError, match="is incomplete"):
        deephash.load_index(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "deephash hasher"}, "does not describe an index"),
        ({"version": 99}, "format version 99"),
        ({"kind": "os"}, "kind='os'; expected one of"),
        ({"kind": "../flat"}, "expected one of"),
        ({"generation": "../../secret"}, "not a generation"),
        ({"bits": "64"}, "bits='64'"),
        ({"bits": 64}, r"expected uint8 \(300, 8\)"),
        ({"size": 299}, r"expected uint8 \(299, 3\)"),
        ({"settings": {"engine": "x"}}, "does not have"),
        ({"files": {"../codes.npy": "0"}}, "does not have"),
        ({"files": {"codes.npy": "0", "..": "0"}}, "does not have"),
        ({"hasher": 3}, "hasher=3"),
    ],
)
def test_a_hostile_description_is_refused(tmp_path, codes, changes, message):
    deephash.index(codes, "flat", bits=20).save(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(InvalidInputError, match=message):
        deephash.load_index(tmp_path)


def test_a_pickle_in_place_of_codes_is_not_read(tmp_path, codes):
    deephash.index(codes, "flat", bits=20).save(tmp_path)
    (content,) = tmp_path.glob("generation-*")
    np.save(content / "codes.npy", np.array([{"a": 1}], object), allow_pickle=True)
    edit(tmp_path, files={"codes.npy": index_folder.digest(content / "codes.npy")})
    with pytest.raises(InvalidInputError, match="Python objects"):
        deephash.load_index(tmp_path)


def test_nothing_foreign_is_overwritten(tmp_path, codes):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInputError, match="does not contain an index"):
        deephash.index(codes, "flat", bits=20).save(tmp_path)
    with pytest.raises(InvalidInputError, match="does not contain an index"):
        deephash.index(codes, "flat", bits=20).save(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_save_leaves_the_old_index(tmp_path, codes, monkeypatch):
    deephash.index(codes, "flat", bits=20).save(tmp_path)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_writing, "flush", full)
    with pytest.raises(InvalidInputError, match=r"No space left on device.*unchanged"):
        deephash.index(codes[:7], "flat", bits=20).save(tmp_path)
    monkeypatch.undo()
    assert len(deephash.load_index(tmp_path)) == 300
    assert len(list(tmp_path.glob("generation-*"))) == 1


def test_a_folder_that_is_not_flushed_has_the_new_index(tmp_path, codes, monkeypatch):
    deephash.index(codes, "flat", bits=20).save(tmp_path)
    flush = files.flush

    def refusing(path):
        if path == tmp_path:
            raise OSError(5, "Input/output error")
        flush(path)

    monkeypatch.setattr(files, "flush", refusing)
    with pytest.raises(InvalidInputError, match="may lose it at a power failure"):
        deephash.index(codes[:7], "flat", bits=20).save(tmp_path)
    assert len(deephash.load_index(tmp_path)) == 7


def test_what_a_killed_first_save_left_is_no_hindrance(tmp_path, codes):
    (tmp_path / f"generation-{'0' * 16}").mkdir()
    (tmp_path / "index.json.0123abcd.partial").write_text("{")
    deephash.index(codes, "flat", bits=20).save(tmp_path)
    assert len(deephash.load_index(tmp_path)) == 300


def test_readers_see_a_whole_index_while_one_writes(tmp_path, clustered_codes):
    sizes = {100, 200}
    stored = {size: deephash.index(clustered_codes(size, 20, size), "faiss_flat", bits=20) for size in sizes}
    stored[100].save(tmp_path)
    seen, errors, done = set(), [], threading.Event()

    def read():
        while not done.is_set():
            try:
                index = deephash.load_index(tmp_path, engine="trust")  # A trial takes longer than many saves.
                expected = stored[len(index)].search(index.codes[:3], 4)
                assert torch.equal(index.search(index.codes[:3], 4)[0], expected[0])
                seen.add(len(index))
            except BaseException as error:
                errors.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(40):
        for size in sizes:
            stored[size].save(tmp_path)
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert seen == sizes


WRITER = """
import sys, numpy as np, deephash
codes = np.zeros((200_000, 8), np.uint8)
index = deephash.index(codes, "flat")
print("ready", flush=True)
while True:
    index.save(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="processes are killed otherwise there")
def test_a_killed_writer_leaves_a_whole_index(tmp_path, clustered_codes):
    deephash.index(clustered_codes(9, 20, 0), "flat", bits=20).save(tmp_path)
    for kill_after in (0.0, 0.013, 0.029):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            threading.Event().wait(kill_after)
            writer.kill()
        assert len(deephash.load_index(tmp_path)) in (9, 200_000)
    deephash.index(clustered_codes(9, 20, 0), "flat", bits=20).save(tmp_path)
    # A description that was being written stays for a day, since it could be another writer's; then it goes too.
    for unfinished in tmp_path.glob("index.json.*.partial"):
        os.utime(unfinished, (0, 0))
    deephash.index(clustered_codes(9, 20, 0), "flat", bits=20).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
