"""A loader that prepares the next batches in a thread while the current one is used."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from deephash.data.items import Part
from deephash.data.streamed_images import PixelRows
from deephash.io.prefetch import WaitingTime, prefetch


class PrefetchLoader(DataLoader[dict[str, Any]]):
    """Loader of batches of images, which are decoded while the device computes.

    The decoding threads of the images share each batch, so that no process has to be started and no batch is copied
    between processes.

    Args:
        args: arguments of `DataLoader`.
        kwargs: arguments of `DataLoader`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.waiting = WaitingTime()
        super().__init__(*args, **kwargs)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Iterate over the batches."""
        return prefetch(super().__iter__(), waiting=self.waiting)


def build_loader(part: Part, dataset: Dataset[dict[str, Any]], **settings: Any) -> "DataLoader[dict[str, Any]]":
    """Return a loader of whole batches: with prefetching for images in files, and otherwise without workers.

    Args:
        part: items of the dataset.
        dataset: dataset whose entries are batches.
        settings: further arguments of `DataLoader`.
    """
    if isinstance(part.features, PixelRows):
        pinned = torch.cuda.is_available()
        return PrefetchLoader(dataset, batch_size=None, num_workers=0, pin_memory=pinned, **settings)
    return DataLoader(dataset, batch_size=None, num_workers=0, **settings)


def read_batch(features: Any, key: Any) -> Any:
    """Read the features of a batch; images in files stay 8-bit pixels, which the device converts."""
    return features.read_bytes(key) if isinstance(features, PixelRows) else features[key]
