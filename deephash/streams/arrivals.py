"""The order in which rows of a data set arrive in a stream."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deephash.validation import InvalidInputError

# Positions per block of drawn classes.
BLOCK = 4096


class ShuffledRows:
    """Rows in a random order, reshuffled whenever all have been taken.

    Args:
        rows: int64 (n,), n >= 1.
        generator: CPU generator of the orders.
    """

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self.rows = rows
        self.generator = generator
        self.left = rows[:0]

    def take(self, count: int) -> Tensor:
        """Return the next `count` rows, int64."""
        while len(self.left) < count:
            order = torch.randperm(len(self.rows), generator=self.generator)
            self.left = torch.cat([self.left, self.rows[order]])
        taken, self.left = self.left[:count], self.left[count:]
        return taken


class Arrivals:
    """The order in which rows arrive, in memory that does not grow with its length.

    Each position draws a class by its shares and takes the next row of the class.

    Args:
        shares: function from positions int64 (m,) to shares of classes, float64 (m, c).
        rows: rows of each class, int64 (n,). Only classes without shares may be empty.
        length: number of items in the stream.
        seed: seed of all draws.

    Raises:
        InvalidInputError: a class has a share but no row.
    """

    def __init__(self, shares: Callable[[Tensor], Tensor], rows: Sequence[Tensor], length: int, seed: int) -> None:
        self.shares = shares
        self.length = length
        self.generator = torch.Generator().manual_seed(seed)
        self.classes = [ShuffledRows(members, self.generator) for members in rows]
        for positions in torch.split(torch.arange(length), BLOCK):
            for label in torch.nonzero((shares(positions) > 0).any(0)).flatten().tolist():
                if not len(rows[label]):
                    raise InvalidInputError(
                        f"the stream needs items of class {label}, which has none; choose other data."
                    )
        self.drawn = 0
        self.due = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        """Return the next rows, or all that remain. The order does not depend on the size of the calls.

        Args:
            count: number of rows.

        Returns:
            int64 (m,), where m is `count`, or less at the end of the stream.
        """
        while len(self.due) < count and self.drawn < self.length:
            self.due = torch.cat([self.due, self._draw_block()])
        taken, self.due = self.due[:count], self.due[count:]
        return taken

    def skip(self, count: int) -> None:
        """Skip rows that have arrived before."""
        for start in range(0, count, BLOCK):
            self.take(min(BLOCK, count - start))

    def _draw_block(self) -> Tensor:
        positions = torch.arange(self.drawn, min(self.drawn + BLOCK, self.length))
        self.drawn += len(positions)
        edges = self.shares(positions).cumsum(1)
        edges /= edges[:, -1:].clone()
        chance = torch.rand(len(positions), 1, generator=self.generator, dtype=torch.float64)
        classes = (chance >= edges).sum(1)
        rows = torch.empty(len(positions), dtype=torch.int64)
        for label in torch.unique(classes).tolist():
            members = classes == label
            rows[members] = self.classes[label].take(int(members.sum()))
        return rows
