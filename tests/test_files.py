"""Files whole or not at all."""

import json

import pytest

from deephash.files import read_json, write_json, write_whole
from deephash.validation import InvalidInputError


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"mAP": 0.25, "k": [1, 2]})
    assert read_json(tmp_path / "a.json", "a row") == {"mAP": 0.25, "k": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)

    def fail(partial):
        partial.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(path, fail)
    assert json.loads(path.read_text()) == 1


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(InvalidInputError, match=r"none.json does not exist; expected a row there"):
        read_json(tmp_path / "none.json", "a row")
    (tmp_path / "half.json").write_text('{"mAP": 0.')
    with pytest.raises(InvalidInputError, match=r"half.json is not readable as a row"):
        read_json(tmp_path / "half.json", "a row")
