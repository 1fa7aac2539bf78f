"""SIFT1M: a million 128-D SIFT vectors of the TEXMEX corpus, and other sets in the same files."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from deephash.data.base import HashingDataModule
from deephash.data.download import download_for_block, extract
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.data.vectors import read_vectors
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, check_choice


@dataclass(frozen=True)
class Archive:
    """Addresses and published checksum of a data set of the corpus."""

    addresses: tuple[str, ...]
    checksum: str


ARCHIVES = {
    "sift": Archive(
        (
            # Oxford's Visual Geometry Group hosts the same archive for its practicals.
            "https://thor.robots.ox.ac.uk/practicals/ann-faiss-2021/data.tar.gz",
            "ftp://ftp.irisa.fr/local/texmex/corpus/sift.tar.gz",
        ),
        "md5:b23d1b3b2ee8469d819b61ca900ef0ed",
    ),
    "siftsmall": Archive(
        ("ftp://ftp.irisa.fr/local/texmex/corpus/siftsmall.tar.gz",), "md5:0b8324a7a82d7f2663d7dcbd57642df7"
    ),
}

FILES = {"database": "base.fvecs", "query": "query.fvecs", "train": "learn.fvecs"}
"""The publisher's file of each part, in the order in which items are numbered: database, query, train."""


@final
class SIFT1M(HashingDataModule):
    """SIFT vectors with the publisher's parts: 1,000,000 database, 10,000 query and 100,000 training vectors.

    H. Jégou, M. Douze and C. Schmid, "Product quantization for nearest neighbor search", PAMI 33(1), 2011. There are
    no labels: true neighbours are the nearest by distance. The database comes first, so that the ids of the published
    neighbours are valid.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        prefix: prefix of the file names: "sift", or "siftsmall" with 10,000 database, 100 query and 25,000
            training vectors.
        path: a local folder of PREFIX_base.fvecs, PREFIX_query.fvecs and PREFIX_learn.fvecs; None downloads the
            published archive, 161 MB for "sift" and 5 MB for "siftsmall".
        cache: folder of downloads.

    Raises:
        InvalidInputError: an unknown prefix without a path.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        prefix: str = "sift",
        path: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split)
        self.prefix = prefix
        self.cache = Path(cache).expanduser()
        self.downloads = path is None
        if self.downloads:
            check_choice(prefix, ARCHIVES, "prefix")
        self.path = self.cache / prefix if path is None else Path(path).expanduser()

    def prepare_data(self) -> None:
        """Download and unpack the archive once, if no path is given.

        Raises:
            DownloadError: the archive cannot be fetched.
        """
        if not self.downloads or self.path.is_dir():
            return
        published = ARCHIVES[self.prefix]
        place = self.cache / f"{self.prefix}.tar.gz"
        with download_for_block(published.addresses, place, published.checksum) as archive:
            extract(archive, self.path, self.prefix)

    def load(self) -> Items:
        """Read the three files of vectors.

        Raises:
            InvalidInputError: a missing or damaged file, or a file of the wrong dimension.
        """
        parts = {part: read_vectors(self._get_file(name)) for part, name in FILES.items()}
        dimension = parts["database"].shape[1]
        for part, vectors in parts.items():
            if vectors.shape[1] != dimension:
                raise InvalidInputError(
                    f"{self._get_file(FILES[part])} has vectors of dimension {vectors.shape[1]} and "
                    f"{self._get_file(FILES['database'])} of {dimension}; give files of one data set."
                )
        return Items(
            features=torch.from_numpy(np.concatenate(list(parts.values()))),
            official=np.repeat(list(parts), [len(vectors) for vectors in parts.values()]),
        )

    def read_published_neighbours(self) -> np.ndarray:
        """Read the published exact nearest neighbours of each query, nearest first: int32 (q, 100), database ids.

        Ties may be in an order that differs from ours.

        Raises:
            InvalidInputError: a missing or damaged file.
        """
        return np.array(read_vectors(self._get_file("groundtruth.ivecs")))

    def _get_file(self, name: str) -> Path:
        return self.path / f"{self.prefix}_{name}"
