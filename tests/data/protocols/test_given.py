"""Splits from a file: round trips, and an error for every damaged or edited file."""

import json

import numpy as np
import pytest

from deephash.data.protocols.base import ROLES, Split
from deephash.data.protocols.five_way import FiveWay
from deephash.data.protocols.given import Given
from deephash.validation import InvalidInputError

ROWS = {"train": [5, 1, 3], "query": [0, 7], "database": [1, 2, 3, 4, 5]}


@pytest.fixture
def saved(tmp_path):
    split = FiveWay(20, 20, 40, 50).split(300, None, None, 0)
    split.save(tmp_path / "split.npz")
    return split, tmp_path / "split.npz"


def test_round_trip(saved):
    split, path = saved
    for loaded in (Split.load(path), Given(path).split(300, None, None, 99)):
        assert loaded.hash == split.hash
        assert all(np.array_equal(getattr(loaded, role), getattr(split, role)) for role in ROLES)
    assert [file.name for file in path.parent.iterdir()] == ["split.npz"]


def test_truncated_file_is_refused(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match=r"split\.npz is not readable as a split .*restore it"):
            Split.load(path)


def test_flipped_bytes_never_give_another_split(saved):
    split, path = saved
    whole = path.read_bytes()
    messages = []
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        path.write_bytes(bytes(damaged))
        try:
            assert Split.load(path).hash == split.hash  # a byte that carries nothing, as a date
        except InvalidInputError as error:
            messages.append(str(error))
    assert len(messages) > len(whole) // 7 // 2
    assert not any("\n" in message for message in messages)


def test_one_edited_row_is_refused(saved):
    _, path = saved
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    unused = next(row for row in range(400) if all(row not in arrays[role] for role in ROLES))
    arrays["database"][-1] = unused
    np.savez(path, **arrays)
    with pytest.raises(InvalidInputError, match="does not match its hash; it was changed or damaged"):
        Split.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(InvalidInputError, match=r"none\.npz does not exist; expected a split there"):
        Given(tmp_path / "none.npz").split(10, None, None, 0)
    with pytest.raises(InvalidInputError, match=r"none\.json does not exist"):
        Given(tmp_path / "none.json").split(10, None, None, 0)


def test_json_rows(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(ROWS))
    split = Given(str(path)).split(8, None, None, 0)
    assert split.train.tolist() == [1, 3, 5]
    assert split.query.tolist() == [0, 7]
    assert split.database.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(InvalidInputError, match="no validation_query part"):
        split.role("validation_query")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable as a split in JSON"),
        ("[1, 2]", "contains a list; expected an object"),
        (json.dumps(ROWS | {"test": [6]}), "has the part 'test'; expected one of: train, query"),
        (json.dumps({"train": [1], "query": [2]}), "lacks 'database'"),
        (json.dumps(ROWS | {"query": [0.5]}), "query must be a list of rows, whole numbers from 0"),
        (json.dumps(ROWS | {"query": [True]}), "query must be a list of rows"),
        (json.dumps(ROWS | {"query": [-1]}), "query must be a list of rows"),
        (json.dumps(ROWS | {"query": 3}), "query must be a list of rows"),
        (json.dumps(ROWS | {"query": []}), "split part query is empty"),
        (json.dumps(ROWS | {"query": [0, 0]}), "split part query has a row twice"),
        (json.dumps(ROWS | {"query": [1]}), "split parts query and train share 1 rows, the first 1"),
        (json.dumps(ROWS | {"query": [8]}), "has row 8, but the data have 8 items"),
        (json.dumps(ROWS | {"query": [10**30]}), "query must be a list of rows"),
    ],
)
def test_json_refused(tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        Given(path).split(8, None, None, 0)


def test_path_is_required():
    with pytest.raises(InvalidInputError, match=r"give it, such as protocol\.path=FOLDER/split\.npz"):
        Given()


def test_other_endings_refused():
    with pytest.raises(
        InvalidInputError, match=r"protocol\.path=rows\.pkl; expected the \.npz file of a run or a \.json"
    ):
        Given("rows.pkl")


def test_negative_rows_refused():
    with pytest.raises(InvalidInputError, match="split part train has row -1; rows start at 0"):
        Split(np.array([-1, 2]), np.array([3]), np.array([4]))


@pytest.mark.parametrize("other", ["train", "database", "validation_query", "validation_database"])
def test_queries_are_disjoint_from_all(other):
    rows = {"train": [1], "query": [2], "database": [3], "validation_query": [4], "validation_database": [5]}
    rows[other] = [*rows[other], 2]
    with pytest.raises(InvalidInputError, match=f"query and {other} share 1 rows, the first 2"):
        Split(**{role: np.array(part) for role, part in rows.items()})
