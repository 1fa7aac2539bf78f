import numpy as np
import pytest
import torch

from deephash.data.labels import parse_labels
from deephash.validation import InvalidInputError


@pytest.mark.parametrize(
    ("given", "indices", "names"),
    [
        ([3, 7, 3], [0, 1, 0], ("3", "7")),
        (np.array([2, 0, 1], np.uint8), [2, 0, 1], ("0", "1", "2")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (["cat", "ape", "cat"], [1, 0, 1], ("ape", "cat")),
        ([[5], [4], [5]], [1, 0, 1], ("4", "5")),
        ([["b"], ["a"], ["b"]], [1, 0, 1], ("a", "b")),
    ],
)
def test_single_labels_become_class_indices(given, indices, names):
    labels, class_names = parse_labels(np.array(given), 3)
    assert labels.dtype == torch.int64
    assert labels.tolist() == indices
    assert class_names == names


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float32])
def test_a_table_of_0_and_1_becomes_an_indicator(dtype):
    table = np.array([[1, 0, 1], [0, 0, 0]], dtype)
    labels, class_names = parse_labels(table, 2)
    assert labels.dtype == torch.bool
    assert labels.tolist() == [[True, False, True], [False, False, False]]
    assert class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([1, 2]), "labels have 2 rows; expected 3, one for each row of features"),
        (np.array(5), "labels have no rows; expected 3"),
        (
            np.array([0.0, 1.0, 2.0]),
            r"labels have dtype float64; expected whole numbers or strings: use .astype\(int\)",
        ),
        (np.array([0, -1, 2]), "labels contain -1 in row 1; classes are whole numbers from 0: remove rows without"),
        (
            np.array([[1, 0], [0, 2], [0, 0]]),
            "labels contain 2 in row 1, column 1; labels in several columns must be 0 or 1",
        ),
        (np.array([[1, 0], [0, np.nan], [0, 0]]), "labels contain nan in row 1, column 1"),
        (np.array([["a", "b"]] * 3), r"labels have dtype <U1 and shape \(3, 2\); expected \(n, c\) of 0 and 1"),
        (np.zeros((3, 2, 2)), r"labels have shape \(3, 2, 2\); expected \(3,\), or \(3, c\) of 0 and 1"),
        (np.zeros((3, 0)), r"labels have shape \(3, 0\)"),
    ],
)
def test_what_is_no_label_is_refused(given, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        parse_labels(given, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "separator"),
    [
        (["2 10", "10", ""], "space"),
        (["2,10", " 10 ", ""], "comma"),
        (["2;10;", "10", ";"], "semicolon"),
        (["2|10", "10", ""], "bar"),
        (["2\t10", "10", ""], "tab"),
        (["2/10", "10", ""], "/"),
    ],
)
def test_a_separator_gives_several_labels_an_item(given, separator):
    labels, class_names = parse_labels(np.array(given), 3, separator=separator)
    assert labels.dtype == torch.bool
    assert labels.tolist() == [[True, True], [False, True], [False, False]]
    assert class_names == ("2", "10")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["0 1", "5", "7"], "space"),
        (["0,1", "5", "7"], "comma"),
        (["cat;dog", "x", "y"], "semicolon"),
        (["cat|dog", "x", "y"], "bar"),
        (["cat dog", "dog", "x"], "space"),
        (["cat dog", "dog man", "x"], "space"),
        (["3/4", "5", "7"], "/"),
        (["3-4", "5", "7"], "-"),
        (["3:4", "5", "7"], ":"),
        (["3_4", "5", "7"], "_"),
        (["3、4", "5", "7"], "、"),
        (["猫；犬", "x", "y"], "；"),
    ],
)
def test_what_may_be_one_label_or_several_is_asked(given, word):
    asked = rf"labels contain {given[0]!r} in row 0, which may be one label or 2; set data.label_separator={word} for"
    with pytest.raises(InvalidInputError, match=asked.replace("|", r"\|")):
        parse_labels(np.array(given), 3)
    labels, class_names = parse_labels(np.array(given), 3, separator="none")
    assert labels.ndim == 1
    assert given[0] in class_names


def test_names_of_several_words_are_single_labels():
    given = np.array(
        ["polar bear", "brown bear", "T-shirt", "shirt", "cat_1", "cat", "tench, Tinca tinca", "n02-1", "1.0"]
    )
    labels, class_names = parse_labels(given, 9)
    assert labels.tolist() == np.unique(given, return_inverse=True)[1].tolist()
    assert len(class_names) == 9


def test_two_forms_of_a_letter_with_a_mark_are_one_label():
    for separator in (None, "none", "semicolon"):
        labels, class_names = parse_labels(np.array(["u\u0308", "\u00fc", "v"]), 3, separator=separator)
        assert class_names == ("v", "\u00fc")
        assert labels[0].tolist() == labels[1].tolist() != labels[2].tolist()


@pytest.mark.parametrize(
    ("given", "separator", "message"),
    [
        (["a", "b"], "x", "data.label_separator='x'; expected one of: space, comma, semicolon, bar, tab, none, or a"),
        (["", " "], "space", "labels are all empty; give at least one item a label"),
        ([1, 2], "space", "labels have dtype int64, which data.label_separator=space cannot split; omit it"),
        (
            ["[0, 1]", "[2]"],
            None,
            r"labels contain '\[0, 1\]' in row 0, a list as text; write several labels as 'a;b'",
        ),
    ],
)
def test_separators_that_split_nothing_are_refused(given, separator, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_labels(np.array(given), 2, separator=separator)
