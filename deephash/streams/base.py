"""Base class of streams: shares of classes, drift of features, and positions of changes."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from deephash.conversion import PlainArguments
from deephash.data.descriptors.base import Descriptor
from deephash.data.items import Items
from deephash.registry import get_word
from deephash.streams.arrivals import Arrivals
from deephash.validation import InvalidInputError, check_count


class Stream(PlainArguments, ABC):
    """A seeded order in which items arrive, stationary or not.

    Args:
        length: number of items in the stream. Items repeat once all items of a class have arrived.

    Raises:
        InvalidInputError: the length is below 1.
    """

    by_class: ClassVar[bool] = True
    """Whether items must have one class each."""

    def __init__(self, length: int = 10_000) -> None:
        check_count(length, "stream.length")
        self.length = length

    @abstractmethod
    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Return the shares of the classes among the items that arrive at some positions.

        Args:
            positions: int64 (m,), from 0.
            classes: number of classes c of the data.

        Returns:
            float64 (m, c) with rows of sum 1.
        """

    @abstractmethod
    def changes(self, classes: int) -> list[int]:
        """Return the positions of abrupt changes, ascending."""

    def features(self, items: Items, rows: Tensor, position: int, descriptor: Descriptor | None, seed: int) -> Tensor:
        """Return the features of items at a position of the stream.

        Args:
            items: the data set.
            rows: int64 (m,), rows of the items.
            position: position in the stream.
            descriptor: descriptor of images, if the data have one.
            seed: seed of random changes. The same row at the same position always gives the same features.

        Returns:
            floating (m, d).
        """
        features: Tensor = items.features[rows]
        return features

    def check(self, items: Items, descriptor: Descriptor | None) -> None:
        """Raise an error if the stream cannot use the data.

        Raises:
            InvalidInputError: the stream depends on classes and items do not have one class each.
        """
        if self.by_class and (items.labels is None or items.labels.ndim > 1):
            labels = "no labels" if items.labels is None else "several labels per item"
            word = get_word(type(self))
            raise InvalidInputError(
                f"stream={word} needs classes, and the data have {labels}; choose stream=stationary, or data with one "
                "class per item."
            )

    def arrivals(self, labels: Tensor | None, pool: Tensor, classes: int, seed: int) -> Arrivals:
        """Return the order of arrival, drawn as it is consumed.

        Each position draws a class by its shares. The items of a class arrive in random order, reshuffled whenever all
        have arrived.

        Args:
            labels: int64 (n,) of the data set; None or bool (n, c) ignores classes.
            pool: int64 (p,), rows that may arrive.
            classes: number of classes c.
            seed: seed of the draws.

        Raises:
            InvalidInputError: the pool lacks a class that the stream needs.
        """
        if labels is None or labels.ndim > 1:
            return Arrivals(lambda positions: torch.ones(len(positions), 1), [pool], self.length, seed)
        rows = [pool[labels[pool] == label] for label in range(classes)]
        return Arrivals(lambda positions: self.shares(positions, classes), rows, self.length, seed)
