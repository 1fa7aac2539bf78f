"""Malicious files: pickles, archives that write outside their folder, small files that claim to be huge."""

import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from deephash.data import download
from deephash.data.array_file import read_array
from deephash.data.download import extract
from deephash.data.file_features import describe_files
from deephash.data.image_listing import find_images
from deephash.data.protocols.base import Split
from deephash.evaluation.learnt_codes import load_learnt
from deephash.hashers.loading import load
from deephash.validation import InvalidInputError


class Payload:
    """What makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_pickles_are_never_unpacked(tmp_path):
    sign = tmp_path / "executed"
    payload = np.array([Payload(sign)], dtype=object)
    np.save(tmp_path / "x.npy", payload, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=payload)
    for name in ("split.npz", "learnt_codes.npz"):
        np.savez(tmp_path / name, codes=payload, ids=payload, train=payload, hash=payload)
    for read in (
        lambda: read_array(tmp_path / "x.npy"),
        lambda: read_array(tmp_path / "x.npz"),
        lambda: Split.load(tmp_path / "split.npz"),
        lambda: load_learnt(tmp_path),
    ):
        with pytest.raises(InvalidInputError, match=r"Python objects|pickle"):
            read()
    assert not sign.exists()
    # The same files do make it where they are unpickled.
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert sign.exists()


def npy_header(shape):
    """The beginning of a float32 array file that claims this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def huge_npy(folder):
    (folder / "x.npy").write_bytes(npy_header((10**12, 8)) + bytes(64))
    return folder / "x.npy"


def endless_npy(folder):
    (folder / "x.npy").write_bytes(npy_header((10**30, 10**30)) + bytes(64))
    return folder / "x.npy"


def lying_npz(folder):
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy_header((10**12, 8)) + bytes(64))
    return folder / "x.npz"


def npz_bomb(folder):
    """168 MB of zeros in 160 kB."""
    packed = zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("x.npy", "w", force_zip64=True) as member:
        member.write(npy_header((10 << 22,)))
        for _ in range(10):
            member.write(bytes(1 << 24))
    return folder / "x.npz"


def wide_fvecs(folder):
    (folder / "x.fvecs").write_bytes(struct.pack("<i", 2**31 - 1) + bytes(64))
    return folder / "x.fvecs"


def long_safetensors(folder):
    (folder / "hasher.json").write_text("{}")
    (folder / "weights.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    return folder / "weights.safetensors"


def png_bomb(folder):
    """An image of 50,000 × 50,000 pixels, 7.5 GB unpacked."""
    side = 50_000

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(3 * side + 1)) for _ in range(200)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return folder / "x.png"


READ = """
import resource, sys
from pathlib import Path
import numpy, deephash, deephash.hashers.loading, deephash.data.image_folder, deephash.data.array_file
import deephash.io.npz_file
import PIL.Image, safetensors.torch
from deephash.validation import InvalidInputError
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 27), taken + (1 << 27)))
deephash.io.npz_file.LARGE = 1 << 26
for path in map(Path, sys.argv[1:]):
    try:
        if path.suffix == ".png":
            deephash.data.file_features.describe_files([path], None, 16)
        elif path.suffix == ".safetensors":
            deephash.load(path.parent)
        else:
            numpy.array(deephash.data.array_file.read_array(path))
    except InvalidInputError as refusal:
        print(refusal)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is limited as on Linux")
def test_files_that_claim_to_be_huge_are_refused_in_little_memory(tmp_path):
    """Each is read in a process that may take 128 MB more than it has."""
    makers = (huge_npy, endless_npy, lying_npz, npz_bomb, wide_fvecs, long_safetensors, png_bomb)
    paths = []
    for maker in makers:
        (tmp_path / maker.__name__).mkdir()
        paths.append(maker(tmp_path / maker.__name__))
    assert max(path.stat().st_size for path in paths) < 1 << 23
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    messages = done.stdout.splitlines()
    assert len(messages) == len(paths), messages
    for path, message in zip(paths, messages, strict=True):
        assert str(path) in message, message
        assert "Unable to allocate" not in message, "it was noticed only when the memory was full"


def test_bombs_among_archives_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGE", 1 << 20)
    zeros = bytes(1 << 24)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/zeros", zeros)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("in/zeros")
        member.size = len(zeros)
        archive.addfile(member, io.BytesIO(zeros))
    for name in ("x.zip", "x.tar.gz"):
        with pytest.raises(
            InvalidInputError, match=rf"{name} cannot be unpacked \(it would unpack from \d+ to more than"
        ):
            extract(tmp_path / name, tmp_path / "out", "in")
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", "x.tar.gz"}


def tar_with(path, member, content=b""):
    with tarfile.open(path, "w") as archive:
        inside = tarfile.TarInfo("in/a")
        archive.addfile(inside, io.BytesIO())
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def link(name, target, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../escaped"),
        tarfile.TarInfo("in/../../escaped"),
        link("in/l", "../../secret", tarfile.SYMTYPE),
        link("in/l", "../secret", tarfile.LNKTYPE),
        link("in/l", "/etc/passwd", tarfile.SYMTYPE),
        link("in/d", "", tarfile.CHRTYPE),
    ],
    ids=["parent", "through", "symlink", "hardlink", "absolute link", "device"],
)
def test_archives_that_lead_out_are_refused(tmp_path, member):
    (tmp_path / "secret").write_text("kept")
    tar_with(tmp_path / "x.tar", member)
    with pytest.raises(InvalidInputError, match=r"x\.tar cannot be unpacked"):
        extract(tmp_path / "x.tar", tmp_path / "out", "in")
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar", "secret"}
    assert (tmp_path / "secret").read_text() == "kept"


@pytest.mark.parametrize("name", ["../escaped", "in/../../escaped", "/escaped-deephash"])
def test_zip_archives_that_lead_out_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a", "whole")
        archive.writestr(name, "hostile")
    with pytest.raises(InvalidInputError, match=r"x\.zip cannot be unpacked \(.* leads out of its folder\)"):
        extract(tmp_path / "x.zip", tmp_path / "out", "in")
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip"}


def test_postscript_is_no_image(tmp_path):
    """Pillow hands it to another program, Ghostscript, which carries it out."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.eps").read_bytes())
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.png"]
    with pytest.raises(InvalidInputError, match=r"1 of 2 images cannot be read, the first .*a\.png"):
        describe_files(find_images(tmp_path), None, 8)


def test_a_header_of_2_to_the_60_is_refused(tmp_path):
    path = long_safetensors(tmp_path)
    with pytest.raises(InvalidInputError, match=str(path)):
        load(tmp_path)
