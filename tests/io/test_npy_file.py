"""The reader of NumPy's format: reads what NumPy writes, as NumPy does, and rejects everything else."""

import io
import threading

import numpy as np
import pytest

from deephash.io.npy_file import map_npy, parse_header, read_header, read_values
from deephash.io.npz_file import open_npz

TYPES = ("f4", ">f8", "i2", "u8", "c8", "?", "S3", "U2", "M8[s]", "M8", "m8[25us]", "V4", "f2", "S0", "U0", "c16", "S1")


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, shape, order):
    for kind in TYPES:
        values = (
            np.arange(np.prod(shape, dtype=int)).reshape(shape).astype("i4").astype(kind if kind[0] != "V" else "i4")
        )
        array = np.asarray(values.view("V4") if kind[0] == "V" else values, order=order)
        np.save(tmp_path / "x.npy", array)
        expected = np.load(tmp_path / "x.npy")
        with (tmp_path / "x.npy").open("rb") as stream:
            streamed = read_values(stream, read_header(stream))
        for found in (map_npy(tmp_path / "x.npy"), map_npy(tmp_path / "x.npy", "c"), streamed):
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            assert found.flags.f_contiguous == expected.flags.f_contiguous
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(6).reshape(2, 3), version)
    stream.seek(0)
    assert read_values(stream, read_header(stream)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_other_writers_headers_are_read():
    python_2 = parse_header("{'descr': '<f4', 'fortran_order': False, 'shape': (30L, 4L), }")
    assert (python_2.shape, python_2.fortran, python_2.dtype) == ((30, 4), False, np.dtype("<f4"))
    reordered = parse_header('{"shape":(3,),"fortran_order":True,"descr":"|u1"}')
    assert (reordered.shape, reordered.fortran, reordered.dtype) == ((3,), True, np.dtype("u1"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "Python objects"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", "records of several fields"),
        ("{'descr': '<f4,<f4', 'fortran_order': False, 'shape': (3,), }", "values of type '<f4,<f4'"),
        ("{'descr': '(9,9)<f4', 'fortran_order': False, 'shape': (3,), }", "damaged|values of type"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (3,), }", "values of type '<f3'"),
        ("{'descr': '<U999999999', 'fortran_order': False, 'shape': (3,), }", "values of"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", "damaged"),
        ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': True}", "damaged"),
        ("{'descr': '<f4', 'descr': '<f4', 'shape': (3,)}", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 40 + "), }", "claims the shape"),
        ("{'descr': '<f4', 'fortran_order': __import__('os'), 'shape': (3,), }", "damaged"),
        ("", "damaged"),
    ],
)
def test_other_headers_are_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_header(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an array of NumPy's format"),
        (b"\x93NUMPY\x09\x00\x10\x00", r"version \(9, 0\)"),
        (b"\x93NUMPY\x01\x00\x10\x00{", "ends within its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "claims 4294967295 bytes"),
    ],
)
def test_other_files_are_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        read_header(io.BytesIO(content))


def test_what_a_header_claims_is_compared_with_what_follows(tmp_path):
    for shape in ((10**18, 4), (10**30, 10**30), (5, 5)):
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        (tmp_path / "x.npy").write_bytes(stream.getvalue() + bytes(80))
        with pytest.raises(ValueError, match=r"claims \d+ bytes of values, and 80 follow"):
            map_npy(tmp_path / "x.npy")


def test_bytes_beyond_an_archives_array_are_refused(tmp_path):
    import zipfile

    stream = io.BytesIO()
    np.save(stream, np.arange(4))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue() + b"more")
    with pytest.raises(ValueError, match=r"x\.npy claims 32 bytes and has 36"), open_npz(tmp_path / "x.npz"):
        pass


def test_no_header_is_compiled(tmp_path, monkeypatch):
    """Python's own parser fails at random in threads of Python 3.11."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("compiled")

    np.save(tmp_path / "x.npy", np.arange(6))
    np.savez(tmp_path / "x.npz", x=np.arange(6))
    monkeypatch.setattr("ast.parse", refuse)
    monkeypatch.setattr("ast.literal_eval", refuse)
    found = []

    def read():
        with open_npz(tmp_path / "x.npz") as stored:
            found.append(int(map_npy(tmp_path / "x.npy").sum() + stored["x"].sum()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [30] * 4
    with pytest.raises(AssertionError, match="compiled"):
        np.load(tmp_path / "x.npy")
