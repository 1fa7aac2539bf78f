import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deephash.data.vectors import read_vectors, write_vectors
from deephash.validation import InvalidInputError

TYPES = {".fvecs": np.float32, ".bvecs": np.uint8, ".ivecs": np.int32}


def packed(vectors, ending):
    """The format by hand, with struct."""
    code = {".fvecs": "f", ".bvecs": "B", ".ivecs": "i"}[ending]
    return b"".join(struct.pack(f"<i{len(v)}{code}", len(v), *v) for v in vectors.tolist())


@pytest.mark.parametrize("ending", TYPES)
def test_bytes_are_those_of_the_format(tmp_path, ending):
    vectors = np.random.default_rng(0).integers(0, 256, (7, 5)).astype(TYPES[ending])
    path = tmp_path / f"x{ending}"
    write_vectors(path, vectors)
    assert path.read_bytes() == packed(vectors, ending)
    found = read_vectors(path)
    assert found.dtype == TYPES[ending]
    assert np.array_equal(found, vectors)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("ending", TYPES)
def test_what_is_written_is_read(ending, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")

    @given(st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(TYPES[ending], shape)))
    def check(vectors):
        write_vectors(folder / f"x{ending}", vectors)
        assert np.array_equal(read_vectors(folder / f"x{ending}"), vectors, equal_nan=ending == ".fvecs")

    check()


def test_vectors_are_mapped_and_not_to_be_changed(tmp_path):
    write_vectors(tmp_path / "x.fvecs", np.ones((3, 4)))
    vectors = read_vectors(tmp_path / "x.fvecs")
    assert isinstance(vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 2


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty; expected at least one vector"),
        (b"\x02\x00", "is truncated; expected at least one vector"),
        (packed(np.ones((3, 4)), ".fvecs")[:-1], "has 59 bytes, not a multiple of the 20 .* dimension 4"),
        (packed(np.ones((3, 4)), ".fvecs")[:-7], "it is truncated or damaged: download it again"),
        (struct.pack("<i1f", 0, 1.0), "starts with the dimension 0, so it is not in the .fvecs format"),
        (b"\x93NUMPY\x01\x00", "starts with the dimension 1297436307"),
        (
            packed(np.ones((3, 4)), ".fvecs") + struct.pack("<i4f", 3, 1, 1, 1, 1),
            "has dimension 3 at vector 3 but 4 at the first",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, contents, message):
    (tmp_path / "x.fvecs").write_bytes(contents)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_vectors(tmp_path / "x.fvecs")
    assert "\n" not in str(caught.value)


def test_missing_files_and_unknown_endings_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"absent.fvecs does not exist; give a file of vectors"):
        read_vectors(tmp_path / "absent.fvecs")
    with pytest.raises(InvalidInputError, match=r"ends in '.txt'; expected one of: .fvecs, .bvecs, .ivecs"):
        read_vectors(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("name", "vectors", "message"),
    [
        ("x.bvecs", [[1, 256]], "contain values that uint8 cannot represent; choose another format than .bvecs"),
        ("x.ivecs", [[0.5, 1.0]], "contain values that int32 cannot"),
        ("x.fvecs", [[1e300]], "contain values that float32 cannot represent"),
        ("x.fvecs", np.ones((0, 3)), r"vectors have shape \(0, 3\)"),
        ("x.fvecs", np.ones(3), r"vectors have shape \(3,\); expected \(n, d\)"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, name, vectors, message):
    with pytest.raises(InvalidInputError, match=message):
        write_vectors(tmp_path / name, vectors)
    assert not list(tmp_path.iterdir())
