"""Names of items: integers and strings, stored exactly or rejected with the reason."""

import numpy as np
import pytest
import torch

import deephash
from deephash.affinity.pairs import Pairs
from deephash.code_files.code_file import CodePaths, describe_codes, read_codes
from deephash.code_files.code_shards import open_shards
from deephash.code_files.write_sharded import write_sharded
from deephash.data.protocols.base import Split
from deephash.io.files import write_json
from deephash.io.item_names import as_names
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError, as_labels

MOST = 2**63 - 1
TOO_LARGE = f"hold {MOST + 1}; whole numbers are from {-MOST - 1} to {MOST}"
# NumPy 2's own strings; objects in NumPy 1.
STRINGS = getattr(np.dtypes, "StringDType", lambda: object)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.array([MOST, 0], np.uint64), [MOST, 0]),
        ([MOST, -MOST - 1], [MOST, -MOST - 1]),
        (np.array([200, 0], np.uint8), [200, 0]),
        (["007", "x"], ["007", "x"]),
        (np.array(["007", "x"], object), ["007", "x"]),
        (np.array(["007", "x"], STRINGS()), ["007", "x"]),
        ([np.uint64(7), 8], [7, 8]),
    ],
)
def test_names_are_kept_exactly(given, kept):
    found = as_names(given, "names")
    assert found.tolist() == kept
    assert found.dtype.kind in "iU"
    assert found.dtype.kind == "U" or found.dtype == np.int64


@pytest.mark.parametrize("given", [np.array([MOST + 1, 0], np.uint64), [-1, MOST + 1], [MOST + 1]])
def test_a_number_beyond_int64_is_refused_for_that(given):
    with pytest.raises(InvalidInputError, match=TOO_LARGE):
        as_names(given, "names")


@pytest.mark.parametrize("given", [[1, "x"], [1.0], [None], [True], [[1]], [2**70, None]])
def test_other_names_are_refused(given):
    with pytest.raises(InvalidInputError, match="expected a whole number or a word for each item, not a mix"):
        as_names(given, "names")


def test_an_index_never_wraps_names():
    codes = torch.arange(3, dtype=torch.uint8)[:, None]
    with pytest.raises(InvalidInputError, match=f"names {TOO_LARGE}"):
        deephash.index(codes, "flat", names=np.array([1, 2, MOST + 1], np.uint64))
    index = deephash.index(codes, "flat", names=np.array([1, 2, MOST], np.uint64))
    assert index.named(index.search(codes[2:], 1)[1]).tolist() == [[MOST]]


def test_pairs_never_wrap(tmp_path):
    np.save(tmp_path / "pairs.npy", np.array([[0, MOST + 1]], np.uint64))
    with pytest.raises(InvalidInputError, match=TOO_LARGE):
        Pairs(str(tmp_path / "pairs.npy"))


def test_ids_beside_codes_never_wrap(tmp_path):
    paths = CodePaths(tmp_path / "codes.npy")
    np.save(paths.codes, np.arange(2, dtype=np.uint8)[:, None])
    np.save(paths.ids, np.array([5, MOST + 1], np.uint64))
    write_json(paths.description, describe_codes(paths, 2, 0, "a", Hamming(8), 8, "", {}))
    with pytest.raises(InvalidInputError, match=f"ids of .*codes.npy {TOO_LARGE}"):
        read_codes(paths.codes)
    with pytest.raises(InvalidInputError, match=f"ids of .*codes.ids.npy {TOO_LARGE}"):
        write_sharded(paths.codes, tmp_path / "index", 1, "flat", {})
    np.save(paths.ids, np.array([5, MOST], np.uint64))
    assert read_codes(paths.codes).ids.tolist() == [5, MOST]
    assert open_shards([paths.codes]).read_ids(range(1, 2)).tolist() == [MOST]


def test_labels_and_rows_of_a_split_never_wrap():
    with pytest.raises(InvalidInputError, match=f"labels contain {MOST + 6}, beyond int64"):
        as_labels(np.array([1, MOST + 6], np.uint64), 2)
    with pytest.raises(InvalidInputError, match=f"split part query {TOO_LARGE}"):
        Split(np.array([0]), np.array([MOST + 1], np.uint64), np.array([1]))
