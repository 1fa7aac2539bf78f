"""Files are written completely or not at all."""

import json
import tokenize
import zlib
from pathlib import Path

import pytest

from deephash.io.files import read_json, reading, write_json, write_whole
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


class Panic(BaseException):
    """What a parser in Rust raises, as polars' PanicException."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (zlib.error("Error -3 while decompressing"), "Error -3 while decompressing"),
        (tokenize.TokenError("EOF in multi-line statement", (2, 0)), "EOF in multi-line statement"),
        (KeyError("hasher"), "it lacks 'hasher'"),
        (TypeError("'NoneType' object\nis not iterable"), "'NoneType' object is not iterable"),
        (RecursionError(), "RecursionError"),
        (MemoryError(), "MemoryError"),
        (Panic("index out of bounds"), "index out of bounds"),
    ],
)
def test_every_error_of_a_parser_becomes_one_line(error, reason):
    with pytest.raises(InvalidInputError) as caught, reading("x.bin", "a row", "fetch it again"):
        raise error
    assert reason in str(caught.value)
    assert str(caught.value).startswith("x.bin is not readable as a row (")
    assert str(caught.value).endswith("); fetch it again.")
    assert "\n" not in str(caught.value)


def test_what_ends_a_program_and_what_is_told_already_passes():
    for error in (KeyboardInterrupt(), SystemExit(3), InvalidInputError("told")):
        with pytest.raises(type(error)) as caught, reading("x.bin", "a row"):
            raise error
        assert caught.value is error
    with (
        pytest.raises(InvalidInputError, match=r"x\.bin does not exist; expected a row there"),
        reading("x.bin", "a row"),
    ):
        Path("no such file").read_bytes()


def test_halves_of_characters_are_refused_and_whole_ones_read(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "a.json", "a row") == {"name": "😀"}
    (tmp_path / "a.json").write_text('{"name": "\\ud83d"}')
    with pytest.raises(InvalidInputError, match=r"a\.json is not readable as a row .*surrogates"):
        read_json(tmp_path / "a.json", "a row")
