"""Files cut short at any byte or with bytes changed: each reader reads them or raises a one-line error."""

import json
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from deephash.data.array_file import read_array
from deephash.data.arrays import convert_features
from deephash.data.cifar10 import read_npz
from deephash.data.coco_captions import COCOCaptions
from deephash.data.descriptors.pixels import Pixels
from deephash.data.download import extract
from deephash.data.file_features import describe_files
from deephash.data.image_manifest import list_manifest
from deephash.data.labels import parse_labels
from deephash.data.mirflickr25k import MIRFlickr25k
from deephash.data.nuswide import CONCEPTS, NUSWIDE, TAGS, WORDS
from deephash.data.protocols.base import Split
from deephash.data.protocols.given import read_json_split
from deephash.data.protocols.official import Official
from deephash.data.protocols.query_database import QueryDatabase
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.data.vectors import write_vectors
from deephash.data.wiki import Wiki
from deephash.data.wiki_files import CLASSES, read_categories, read_list, read_matrices
from deephash.evaluation.learnt_codes import LearntCodes, load_learnt
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.io.files import read_json
from deephash.io.run_folder import RunFolder
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.report.sweep_runs import collect
from deephash.training.checkpoint import SafetensorsCheckpoint
from deephash.validation import InvalidInputError

RNG = np.random.default_rng(0)
FEATURES = RNG.random((30, 4)).astype(np.float32)


@dataclass(frozen=True)
class Damage:
    """A cut, bytes that changed, or both, at places that are fractions of the file."""

    kept: float
    flips: tuple[tuple[float, int], ...]

    def of(self, content: bytes) -> bytes:
        changed = bytearray(content[: int(self.kept * len(content))])
        for place, mask in self.flips:
            if changed:
                changed[int(place * len(changed))] ^= mask
        return bytes(changed)


def changes(most: float):
    """One to four changed bytes, in the first `most` of a file."""
    places = st.floats(0, most, exclude_max=True)
    return st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=4).map(tuple)


CUTS = st.builds(Damage, st.floats(0, 1, exclude_max=True), st.just(()))
# The first bytes are headers, where damage leads furthest.
DAMAGES = st.one_of(CUTS, st.builds(Damage, st.just(1.0), changes(1)), st.builds(Damage, st.just(1.0), changes(0.1)))


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Whole:
    """A whole file, what reads it, and the folder that lies with it.

    Args:
        path: the file.
        read: reads it; may read other files beside it.
        named: what the message names where it is not the file's name: the folder whose file this is.
    """

    path: Path
    read: Callable[[], object]
    named: str | None = None


def arrays(folder):
    """Features and codes in each format of an array."""
    np.save(folder / "x.npy", FEATURES)
    np.savez(folder / "x.npz", x=FEATURES)
    np.savez_compressed(folder / "c.npz", x=FEATURES, y=np.arange(30))
    columns = {f"f{i}": column for i, column in enumerate(FEATURES.T)} | {"label": np.arange(30) % 3}
    polars.DataFrame(columns).write_parquet(folder / "x.parquet")
    polars.DataFrame({"v": FEATURES.tolist(), "w": ["a", "bb", "c"] * 10}).write_parquet(folder / "l.parquet")
    write_vectors(folder / "x.fvecs", FEATURES)
    write_vectors(folder / "x.bvecs", (255 * FEATURES).astype(np.uint8))
    write_vectors(folder / "x.ivecs", (255 * FEATURES).astype(np.int32))
    for name, key in (
        ("x.npy", None),
        ("x.npz", None),
        ("c.npz", "x"),
        ("x.parquet", None),
        ("l.parquet", "v"),
        ("l.parquet", "w"),
        ("x.fvecs", None),
        ("x.bvecs", None),
        ("x.ivecs", None),
    ):
        path = folder / name
        yield Whole(path, lambda path=path, key=key: np.array(read_array(path, key)))
    np.savez(
        folder / "cifar.npz",
        images=RNG.integers(0, 256, (6, 32, 32, 3), np.uint8),
        labels=np.arange(6) % 3,
        is_test=np.arange(6) > 3,
        classes=np.array(["a", "b", "c"]),
    )
    yield Whole(folder / "cifar.npz", lambda: read_npz(folder / "cifar.npz"))


def run_folder(folder):
    """What a run leaves and reads again."""
    run = RunFolder(folder)
    (folder / "config.yaml").write_text("bits: 8\nseed: 0\ndata:\n  _target_: deephash.data.mnist5k.MNIST5k\n")
    row = '{"method": "itq", "bits": 8, "seed": 0, "metrics": {"mAP": 0.25, "P@10": null}, "warnings": ["a"]}'
    job = folder / "sweep" / "0"
    job.mkdir(parents=True)
    (job / "metrics.json").write_text(row)
    (folder / "history.json").write_text('{"metric": "mAP", "best_epoch": 0, "epochs": []}')
    Split(np.arange(10), np.arange(10, 14), np.arange(20, 30)).save(run.split)
    (folder / "given.json").write_text('{"train": [0, 1, 2], "query": [3, 4], "database": [5, 6]}')
    hasher = Hasher(ITQ(4, 3, iterations=2), SBQ(3)).fit(torch.from_numpy(FEATURES))
    hasher.save(run.hasher)
    LearntCodes(torch.from_numpy(RNG.integers(0, 256, (30, 1), np.uint8)), torch.arange(30)).save(run.hasher)
    checkpoint = {"epoch": 3, "state_dict": {"w": torch.rand(4, 3)}, "loops": {"a": (1, [2.5, None])}}
    SafetensorsCheckpoint().save_checkpoint(checkpoint, run.checkpoint)
    yield Whole(run.config, run.read_config)
    yield Whole(job / "metrics.json", lambda: sweep_row(folder / "sweep"))
    yield Whole(run.history, lambda: read_json(run.history, "a history"))
    yield Whole(run.split, lambda: Split.load(run.split))
    yield Whole(folder / "given.json", lambda: read_json_split(folder / "given.json"))
    # An own identity, over all that matters, protects the two files of a hasher.
    for name in ("hasher.json", "weights.safetensors"):
        yield Whole(run.hasher / name, lambda: load(folder), named=str(run.hasher))
    yield Whole(run.hasher / "learnt_codes.npz", lambda: load_learnt(run.hasher))
    yield Whole(run.checkpoint, lambda: SafetensorsCheckpoint().load_checkpoint(run.checkpoint))


def sweep_row(sweep):
    """The row of a sweep's only job; a damaged one is told of in the sweep's table."""
    (row,) = collect(sweep).to_dicts()
    if row["status"] == "damaged":
        raise InvalidInputError(row["error"])
    return row


def images(folder):
    """An image of each common format, and the manifest that names one."""
    picture = Image.fromarray(RNG.integers(0, 256, (24, 32, 3), np.uint8))
    for name in ("a.png", "a.jpg", "a.gif", "a.bmp", "a.webp", "a.tif"):
        picture.save(folder / name)
        yield Whole(folder / name, lambda path=folder / name: describe_files([path], None, 16))
    (folder / "list.csv").write_text("path,label\na.png,one\na.jpg,two\n")
    yield Whole(folder / "list.csv", lambda: list_manifest(folder / "list.csv"))


def wiki(folder):
    """The Wikipedia articles as published."""
    labels = {"train": np.arange(20) % 10, "test": np.arange(10)}
    names = {"I_tr": (20, 6), "I_te": (10, 6), "T_tr": (20, 3), "T_te": (10, 3)}
    savemat(folder / "raw_features.mat", {name: RNG.random(shape) for name, shape in names.items()})
    (folder / "categories.list").write_text("\n".join(CLASSES) + "\n")
    for part, values in labels.items():
        lines = [f"{part}{i}-text\t{part}{i}-image\t{label + 1}" for i, label in enumerate(values)]
        (folder / f"{part}set_txt_img_cat.list").write_text("\n".join(lines) + "\n")
    yield Whole(folder / "raw_features.mat", lambda: read_matrices(folder))
    for name in ("categories.list", "trainset_txt_img_cat.list"):
        yield Whole(folder / name, lambda: read_list(folder, "train", len(read_categories(folder))), named=str(folder))
    kinds = {"image": 6, "text": 3}
    arrays = {
        f"{kind}_{part}": RNG.random((len(rows), d)) for kind, d in kinds.items() for part, rows in labels.items()
    }
    arrays |= {f"label_{part}": rows for part, rows in labels.items()}
    np.savez(folder / "wiki.npz", class_names=np.array(CLASSES), **arrays)
    yield Whole(
        folder / "wiki.npz", lambda: Wiki(Official(), 0, path=str(folder / "wiki.npz")).load(), named=str(folder)
    )


def nuswide(folder, cache):
    """NUS-WIDE as published, of 12 items."""
    labels = folder / "Groundtruth" / "AllLabels"
    for path in (labels, folder / "NUS_WID_Tags", folder / "Low_Level_Features", folder / "ImageList"):
        path.mkdir(parents=True)
    for concept in range(CONCEPTS):
        (labels / f"Labels_c{concept:02}.txt").write_text("1\n0\n" * 6)
    (folder / "NUS_WID_Tags" / "AllTags1k.txt").write_text((" ".join("01" * (TAGS // 2)) + "\n") * 12)
    (folder / "Low_Level_Features" / "BoW_int.dat").write_text((" ".join("27" * (WORDS // 2)) + "\n") * 12)
    names = [f"a\\{i:04}.jpg" for i in range(12)]
    for part, own in (("Image", names), ("TrainImage", names[:8]), ("TestImage", names[8:])):
        (folder / "ImageList" / f"{part}list.txt").write_text("\n".join(own) + "\n")

    def read():
        for path in cache.glob("*"):
            path.unlink()
        return NUSWIDE(Official(), 0, path=str(folder), cache=str(cache)).load()

    for name in (
        "Groundtruth/AllLabels/Labels_c00.txt",
        "NUS_WID_Tags/AllTags1k.txt",
        "Low_Level_Features/BoW_int.dat",
        "ImageList/Imagelist.txt",
    ):
        yield Whole(folder / name, read, named=str(folder))


def mirflickr(folder, cache):
    """MIRFlickr as published, of 6 images."""
    tags, annotations = folder / "mirflickr" / "meta" / "tags", folder / "mirflickr25k_annotations_v080"
    for path in (tags, annotations, folder / "mirflickr" / "doc"):
        path.mkdir(parents=True)
    (folder / "mirflickr" / "doc" / "common_tags.txt").write_text("sky 845\nred 500\n")
    for i in range(6):
        (tags / f"tags{i + 1}.txt").write_text("sky\r\nrare\r\nred\r\n")
    for label in range(24):
        (annotations / f"label{label:02}.txt").write_text("1\n2\n5\n")
    np.save(folder / "x.npy", FEATURES[:6])
    settings = {"path": str(folder), "image_features": str(folder / "x.npy"), "cache": str(cache)}

    def read():
        return MIRFlickr25k(QueryDatabase(queries=1, train=2), 0, **settings).load()

    for name in (
        "mirflickr/doc/common_tags.txt",
        "mirflickr25k_annotations_v080/label00.txt",
    ):
        yield Whole(folder / name, read, named=str(folder))


def coco(folder, cache):
    """COCO as published, of 4 images without pictures: its annotations alone are read here."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    ids = [11, 12, 13, 14]
    for i in ids:
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "train2017" / f"{i}.jpg")
    found = [{"id": i, "file_name": f"{i}.jpg"} for i in ids]
    captions = [{"id": 100 + i, "image_id": i, "caption": "A red disc."} for i in ids]
    content = {"images": found, "annotations": captions}
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    shown = [{"image_id": i, "category_id": 3} for i in ids]
    content = {"categories": [{"id": 3, "name": "disc"}], "annotations": shown}
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    settings = {
        "path": str(folder),
        "image_descriptor": Pixels(2),
        "text_descriptor": HashedWords(8),
        "cache": str(cache),
    }

    for name in ("captions_train2017.json", "instances_train2017.json"):
        yield Whole(
            folder / "annotations" / name,
            lambda: COCOCaptions(QueryDatabase(queries=1, train=2), 0, **settings).load(),
            named=str(folder),
        )


def archives(folder):
    """Archives as they are downloaded."""
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_bytes(RNG.bytes(400))
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "in" / "a.txt", "in/a.txt")
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as archive:
            archive.add(folder / "in", "in")

    def read(path):
        try:
            extract(path, folder / "out" / "unpacked", "in")
        finally:
            shutil.rmtree(folder / "out", ignore_errors=True)

    for name in ("a.zip", "a.tar", "a.tar.gz"):
        yield Whole(folder / name, lambda path=folder / name: read(path))


KINDS = {
    "arrays": arrays,
    "run": run_folder,
    "images": images,
    "wiki": wiki,
    "nuswide": nuswide,
    "mirflickr": mirflickr,
    "coco": coco,
    "archives": archives,
}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_read(kind, tmp_path):
    folder, cache = tmp_path / "files", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    needs_cache = kind in ("nuswide", "mirflickr", "coco")
    wholes = list(KINDS[kind](folder, cache) if needs_cache else KINDS[kind](folder))
    for whole in wholes:
        whole.read()
        check_damages(whole, folder)


def check_damages(whole: Whole, folder: Path) -> None:
    content = whole.path.read_bytes()
    before = files_in(folder)
    refused = []

    # These are decoded in a process of their own first, which takes half a second to start.
    @settings(max_examples=4 if whole.path.suffix in (".parquet", ".mat") else 30, database=None, derandomize=True)
    @given(DAMAGES)
    def damage_one(damage):
        whole.path.write_bytes(damage.of(content))
        with warnings.catch_warnings():
            # Pillow, NumPy and SciPy say of some damage that they make do with what is left.
            warnings.simplefilter("ignore")
            try:
                whole.read()
            except InvalidInputError as refusal:
                refused.append(str(refusal))

    try:
        damage_one()
    finally:
        whole.path.write_bytes(content)
    assert files_in(folder) == before, "a reader changed files"
    assert refused, f"no damage to {whole.path.name} was ever noticed"
    for message in refused:
        assert whole.path.name in message or (whole.named and whole.named in message), message
        assert len(message) < 1500
        assert "\n" not in message


@settings(max_examples=60, derandomize=True)
@given(
    st.sampled_from(["f4", "f8", "i2", "u8", "c8", "?", "S3", "U2", "M8[s]", "V4", "f2", "O"]),
    st.lists(st.integers(0, 3), max_size=4),
)
def test_labels_and_features_of_any_dtype_and_shape(dtype, shape):
    array = np.zeros(shape, dtype)
    rows = len(array) if array.ndim else 0
    for read, name in (
        (lambda name: convert_features(array, name), "features of x.npy"),
        (lambda name: parse_labels(array, rows, name), "labels of x.npy"),
    ):
        message = None
        try:
            read(name)
        except InvalidInputError as refusal:
            message = str(refusal)
        assert message is None or name in message
