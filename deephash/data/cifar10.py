"""CIFAR-10: 60,000 colour images of 32 × 32 pixels in 10 classes."""

import tarfile
from pathlib import Path
from typing import final

import numpy as np
import torch

from deephash.data.array_file import reading_array
from deephash.data.base import HashingDataModule
from deephash.data.cache import read_or_describe
from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import array_digest
from deephash.data.download import download_for_block
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.io.files import format_missing_path, write_whole
from deephash.io.npz_file import open_npz
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError

# The binary edition has the same images as the pickled one that torchvision downloads, but reading it runs no code.
ADDRESSES = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
)
CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
ARRAYS = ("images", "labels", "is_test", "classes")
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
# Each of the publisher's files has 31 MB.
MAX_MEMBER = 1 << 27


def read_binary_archive(archive: Path) -> dict[str, np.ndarray]:
    """Read the publisher's binary edition from its archive.

    Each image is stored as a byte for its label, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.

    Returns:
        images uint8 (n, 32, 32, 3), labels uint8 (n,), is_test bool (n,) and classes str (c,).

    Raises:
        InvalidInputError: a damaged archive, or one without these files.
    """
    try:
        with tarfile.open(archive) as file:
            files = {Path(member.name).name: member for member in file.getmembers() if member.isfile()}
            contents = {}
            for name in (*(f"{batch}.bin" for batch in BATCHES), "batches.meta.txt"):
                if files[name].size > MAX_MEMBER:
                    raise tarfile.TarError(f"{name} has {files[name].size} bytes")
                stream = file.extractfile(files[name])
                contents[name] = stream.read() if stream else b""
    except KeyError as error:
        raise InvalidInputError(f"{archive} has no {error.args[0]}; it is not CIFAR-10's binary edition.") from error
    except Exception as error:  # tarfile, gzip and zlib raise several classes
        raise InvalidInputError(f"{archive} cannot be read ({error}); delete it to download it again.") from error
    batches = []
    for batch in BATCHES:
        raw = np.frombuffer(contents[f"{batch}.bin"], np.uint8)
        if len(raw) == 0 or len(raw) % RECORD:
            raise InvalidInputError(
                f"{batch}.bin of {archive} has {len(raw)} bytes, not a multiple of {RECORD}; it is damaged: delete the "
                "archive to download it again."
            )
        batches.append(raw.reshape(-1, RECORD))
    records = np.concatenate(batches)
    return {
        "images": np.ascontiguousarray(records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)),
        "labels": records[:, 0].copy(),
        "is_test": np.repeat([batch == "test_batch" for batch in BATCHES], [len(batch) for batch in batches]),
        "classes": np.array(contents["batches.meta.txt"].decode(errors="replace").split()),
    }


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read a file of images, labels, is_test and classes.

    Raises:
        InvalidInputError: a missing or damaged file, or arrays of the wrong name, dtype or shape.
    """
    if not path.exists():
        raise InvalidInputError(
            f"{format_missing_path(path)} does not exist; give CIFAR-10 as an .npz file, or no path to download it."
        )
    with reading_array(path), open_npz(path) as stored:
        if missing := [name for name in ARRAYS if name not in stored]:
            raise InvalidInputError(
                f"{path} has no {' and no '.join(missing)}; it contains {', '.join(stored)}. Expected images uint8 "
                "(n, 32, 32, 3), labels (n,), is_test (n,) and classes (c,)."
            )
        arrays = {name: stored[name] for name in ARRAYS}
    for name in ("labels", "classes"):
        if arrays[name].ndim != 1:
            raise InvalidInputError(
                f"{name} of {path} have shape {arrays[name].shape}; expected labels (n,) and classes (c,)."
            )
    if arrays["labels"].dtype.kind not in "iu":
        raise InvalidInputError(f"{path} contains labels of dtype {arrays['labels'].dtype}; expected whole numbers.")
    images, n = arrays["images"], len(arrays["labels"])
    if images.dtype != np.uint8 or images.shape != (n, SIDE, SIDE, 3):
        raise InvalidInputError(
            f"{path} contains images of dtype {images.dtype} and shape {images.shape} beside {n} labels; expected "
            f"uint8 ({n}, {SIDE}, {SIDE}, 3)."
        )
    if arrays["is_test"].shape != (n,):
        raise InvalidInputError(f"{path} contains is_test of shape {arrays['is_test'].shape} beside {n} labels.")
    if n == 0 or int(arrays["labels"].max()) >= len(arrays["classes"]) or int(arrays["labels"].min()) < 0:
        raise InvalidInputError(f"{path} contains {n} labels and {len(arrays['classes'])} classes; labels start at 0.")
    return arrays


@final
class CIFAR10(HashingDataModule):
    """CIFAR-10, described by pixels or GIST.

    A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report, University of Toronto,
    2009. The publisher's training images are the part "train", and the test images are "query".

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        descriptor: computes the features.
        path: a local `.npz` of images uint8 (n, 32, 32, 3), labels (n,), is_test bool (n,) and classes (c,); None
            downloads the publisher's archive, 170 MB.
        cache: folder of downloads and computed features.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        descriptor: Descriptor,
        path: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split)
        self.descriptor = descriptor
        self.cache = Path(cache).expanduser()
        self.path = self.cache / "cifar10.npz" if path is None else Path(path).expanduser()
        self.downloads = path is None

    def prepare_data(self) -> None:
        """Download the images if no path is given, and compute the features, once.

        Raises:
            DownloadError: the archive cannot be fetched.
        """
        if self.is_read:
            return
        if self.downloads and not self.path.exists():
            with download_for_block(ADDRESSES, self.cache / "cifar-10-binary.tar.gz", CHECKSUM) as archive:
                arrays = read_binary_archive(archive)

                def write(partial: Path) -> None:
                    with partial.open("wb") as file:
                        np.savez(file, allow_pickle=False, **arrays)

                write_whole(self.path, write)
        if self.descriptor.costly:
            read_or_describe(read_npz(self.path)["images"], self.descriptor, self.cache)

    def load(self) -> Items:
        """Read the images, and their cached features.

        Raises:
            InvalidInputError: a missing or invalid file of images.
        """
        arrays = read_npz(self.path)
        images = arrays["images"]
        return Items(
            features=read_or_describe(images, self.descriptor, self.cache),
            labels=torch.from_numpy(arrays["labels"].astype(np.int64)),
            class_names=tuple(str(name) for name in arrays["classes"]),
            official=np.where(arrays["is_test"], "query", "train"),
            images=images,
            computed_from={"": array_digest(images)},
        )
