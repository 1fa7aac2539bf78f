"""The contract of a stream: the classes that arrive at each moment, how far features have drifted, where it changes."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from deephash.conversion import PlainArguments
from deephash.data.descriptors.base import Descriptor
from deephash.data.items import Items
from deephash.streams.arrivals import Arrivals
from deephash.validation import InvalidInputError, check_count


class Stream(PlainArguments, ABC):
    """A seeded order in which real items arrive, stationary or not.

    Args:
        length: items of the stream; beyond the items that there are of a class, they come round again.

    Raises:
        InvalidInputError: a length below 1.
    """

    by_class: ClassVar[bool] = True
    """Whether items must have one class each."""

    def __init__(self, length: int = 10_000) -> None:
        check_count(length, "stream.length")
        self.length = length

    @abstractmethod
    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Shares of the classes among the items that arrive at some positions.

        Args:
            positions: int64 (m,), from 0.
            classes: number of classes c of the data.

        Returns:
            float64 (m, c), rows of sum 1.
        """

    @abstractmethod
    def changes(self, classes: int) -> list[int]:
        """The positions, rising, from which on the stream is another; none where it never is, or never at once."""

    def features(self, items: Items, rows: Tensor, position: int, descriptor: Descriptor | None, seed: int) -> Tensor:
        """What items look like at a position of the stream.

        Args:
            items: the data set.
            rows: int64 (m,), rows of it.
            position: in the stream.
            descriptor: what turns images into features, where the data have one.
            seed: of random changes; the same row at the same position always looks the same.

        Returns:
            floating (m, d).
        """
        features: Tensor = items.features[rows]
        return features

    def check(self, items: Items, descriptor: Descriptor | None) -> None:
        """Raise an error for data that the stream cannot be made of.

        Raises:
            InvalidInputError: items without one class each, where classes matter.
        """
        if self.by_class and (items.labels is None or items.labels.ndim > 1):
            has = "no labels" if items.labels is None else "several labels an item"
            raise InvalidInputError(
                f"stream={_word(self)} is made of classes, and the data have {has}; choose stream=stationary, or data "
                "of one class an item."
            )

    def arrivals(self, labels: Tensor | None, pool: Tensor, classes: int, seed: int) -> Arrivals:
        """Which row of the data set arrives when.

        A class is drawn by the shares of the position; its items come in a random order, and in another one when all
        have been.

        Args:
            labels: int64 (n,) of the data set; None, or bool (n, c), for any order of all items.
            pool: int64 (p,), rows that may arrive.
            classes: number of classes c.
            seed: of the draws.

        Returns:
            The rows in their order, drawn as they are asked for.

        Raises:
            InvalidInputError: a class is due that no item of the pool has.
        """
        if labels is None or labels.ndim > 1:
            return Arrivals(lambda positions: torch.ones(len(positions), 1), [pool], self.length, seed)
        own = [pool[labels[pool] == label] for label in range(classes)]
        return Arrivals(lambda positions: self.shares(positions, classes), own, self.length, seed)


def _word(stream: Stream) -> str:
    """The stream's word on the command line."""
    return type(stream).__module__.rpartition(".")[2]
