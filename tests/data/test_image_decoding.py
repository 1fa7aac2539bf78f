"""Decoded pixels of files in every mode of Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deephash.code_files.image_rows import ImageRows
from deephash.code_files.store_rows import StoredImageRows
from deephash.data.descriptors.pixels import Pixels
from deephash.data.file_features import describe_files
from deephash.data.image_decoding import read_image
from deephash.validation import InvalidInputError
from deephash.web.demo.decoding import decode_image

SIDE = 16
GREY = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def saved(image, kind, **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    stream.seek(0)
    return stream


def read(image, kind, **settings):
    return read_image(saved(image, kind, **settings), SIDE)


def threefold(grey):
    return np.repeat(grey[..., None], 3, 2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_is_scaled_by_257(kind):
    wide = Image.fromarray(GREY.astype(np.uint16) * 257)
    settings = {"irreversible": False} if kind == "JPEG2000" else {}
    assert np.array_equal(read(wide, kind, **settings), threefold(GREY))


def test_16_bit_grey_is_rounded_to_the_nearest_of_256():
    wide = np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    assert np.array_equal(read(Image.fromarray(wide), "PNG"), threefold(np.rint(wide / 257).astype(np.uint8)))


def tiff(samples, order, bits, photometric):
    """A grey TIFF by hand: its pixels lie after the head, the list of tags after them."""
    content = samples.tobytes()
    values = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: SIDE, 279: len(content)}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(content))
    # Type 4 is a 32-bit number.
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items())
    return io.BytesIO(head + content + struct.pack(f"{order}H", len(values)) + entries + bytes(4))


def test_tiff_of_either_byte_order_of_12_bits_and_with_white_at_0():
    wide = GREY.astype(np.uint16) * 257
    assert np.array_equal(read_image(tiff(wide.astype("<u2"), "<", 16, 1), SIDE), threefold(GREY))
    assert np.array_equal(read_image(tiff(wide.astype(">u2"), ">", 16, 1), SIDE), threefold(GREY))
    assert np.array_equal(read_image(tiff(wide.astype("<u2"), "<", 16, 0), SIDE), threefold(255 - GREY))
    twelve = np.rint(GREY.ravel() / 255 * 4095).astype(np.uint16)
    one, other = twelve[::2], twelve[1::2]  # two samples in three bytes
    packed = np.stack([one >> 4, (one & 15) << 4 | other >> 8, other & 255], 1).astype(np.uint8)
    assert np.array_equal(read_image(tiff(packed, "<", 12, 1), SIDE), threefold(GREY))


def test_colours_of_16_bits_are_scaled():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.tobytes() for row in COLOURS.astype(">u2") * 257)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(read_image(io.BytesIO(png), SIDE), COLOURS)


def test_floating_point_from_0_to_1_is_scaled_and_other_ranges_are_refused():
    assert np.array_equal(read(Image.fromarray(GREY / np.float32(255)), "TIFF"), threefold(GREY))
    for values in (GREY.astype(np.float32), GREY / np.float32(255) - 1, np.full((SIDE, SIDE), np.nan, np.float32)):
        with pytest.raises(
            InvalidInputError, match=r"floating-point values \(mode F\) from .* expected 0 \(black\) to 1 \(white\)"
        ):
            read(Image.fromarray(values), "TIFF")


def test_integers_without_a_white_are_refused_by_name():
    with pytest.raises(InvalidInputError, match=r"signed or 32-bit integers \(mode I\), which have no fixed white"):
        read(Image.fromarray(GREY.astype(np.int32)), "TIFF")
    with pytest.raises(InvalidInputError, match=r"CIELAB \(mode LAB\), which are not converted; save it as RGB"):
        read(Image.new("LAB", (SIDE, SIDE)), "TIFF")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_laid_over_white(kind):
    """A logo, as they are saved: black everywhere, and visible by its alpha alone."""
    logo = np.zeros((SIDE, SIDE, 4), np.uint8)
    logo[..., 3] = GREY
    settings = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(read(Image.fromarray(logo), kind, **settings), threefold(255 - GREY))


def test_every_mode_with_alpha_is_laid_over_white():
    grey = Image.merge("LA", [Image.fromarray(np.zeros_like(GREY)), Image.fromarray(GREY)])
    assert np.array_equal(read(grey, "PNG"), threefold(255 - GREY))
    palette = Image.fromarray(np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1)), "P")
    palette.putpalette([0, 0, 0] * 256)
    for kind in ("PNG", "GIF"):
        shown = read(palette, kind, transparency=3)
        assert (shown[:, 3] == 255).all()
        assert not np.delete(shown, 3, 1).any()
    for mode, clear in (("L", 0), ("RGB", (0, 0, 0))):
        shown = read(Image.new(mode, (SIDE, SIDE)), "PNG", transparency=clear)
        assert (shown == 255).all()
    shown = read(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG", transparency=514)
    expected = GREY.copy()
    expected[0, 2] = 255
    assert np.array_equal(shown, threefold(expected))


def test_ordinary_images_keep_their_values():
    assert np.array_equal(read(Image.fromarray(COLOURS), "PNG"), COLOURS)
    assert np.array_equal(read(Image.fromarray(GREY), "BMP"), threefold(GREY))
    opaque = np.dstack([COLOURS, np.full((SIDE, SIDE), 255, np.uint8)])
    assert np.array_equal(read(Image.fromarray(opaque), "PNG"), COLOURS)
    assert np.array_equal(read(Image.fromarray(GREY > 99), "PNG"), threefold(np.where(GREY > 99, 255, 0)))
    for mode, kind in (("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("P", "PNG")):
        image = Image.fromarray(COLOURS).convert(mode)
        assert np.array_equal(read(image, kind), np.array(image.convert("RGB")))


def test_the_first_of_several_frames_is_taken_and_16_bits_are_turned_upright():
    frames = [Image.fromarray(COLOURS), Image.new("RGB", (SIDE, SIDE), "red")]
    for kind, settings in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        shown = read(frames[0], kind, save_all=True, append_images=frames[1:], **settings)
        assert np.array_equal(shown, COLOURS)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90° clockwise
    wide = Image.fromarray(np.rot90(GREY).astype(np.uint16) * 257)
    assert np.array_equal(read(wide, "PNG", exif=turned), threefold(GREY))


@pytest.mark.needs("pyarrow")
def test_every_reader_decodes_the_same(tmp_path):
    """A data set's, encoding's, an object store's and the demo's."""
    logo = np.zeros((SIDE, SIDE, 4), np.uint8)
    logo[..., 3] = GREY
    Image.fromarray(logo).save(tmp_path / "a.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "b.png")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    expected = Pixels().describe(np.stack([threefold(255 - GREY), threefold(GREY)])).numpy()
    assert np.array_equal(describe_files(files, Pixels(), SIDE)["features"].numpy(), expected)
    for rows in (ImageRows(tmp_path, Pixels(), SIDE), StoredImageRows(tmp_path.as_uri(), Pixels(), SIDE)):
        (block,) = rows.blocks(0, 2)
        assert np.array_equal(block.features.numpy(), expected)
    shown = np.stack([decode_image(file.read_bytes(), SIDE) for file in files])
    assert np.array_equal(Pixels().describe(shown).numpy(), expected)


def test_what_is_refused_is_named_with_its_reason(tmp_path):
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "a.tiff")
    Image.fromarray(GREY).save(tmp_path / "b.png")
    with pytest.raises(InvalidInputError, match=r"1 of 2 images cannot be read, the first .*a\.tiff \(.*mode F"):
        describe_files([tmp_path / "a.tiff", tmp_path / "b.png"], Pixels(), SIDE)
    (block,) = ImageRows(tmp_path, Pixels(), SIDE).blocks(0, 2)
    assert [(bad.id, "mode F" in bad.reason) for bad in block.bad] == [("a.tiff", True)]
