"""Which row of a data set arrives next, drawn as the stream goes on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deephash.validation import InvalidInputError

# Positions whose classes are drawn at a time.
BLOCK = 4096


class Shuffled:
    """Rows in a random order, and in another one when all have been.

    Args:
        rows: int64 (n,), n >= 1.
        generator: CPU generator of the orders.
    """

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self.rows = rows
        self.generator = generator
        self.left = rows[:0]

    def take(self, count: int) -> Tensor:
        """The next `count`, int64."""
        while len(self.left) < count:
            order = torch.randperm(len(self.rows), generator=self.generator)
            self.left = torch.cat([self.left, self.rows[order]])
        taken, self.left = self.left[:count], self.left[count:]
        return taken


class Arrivals:
    """The order in which rows arrive; memory does not grow with its length.

    A class is drawn by the shares of the position, and the class's next row comes.

    Args:
        shares: of positions int64 (m,) the shares of the classes, float64 (m, c).
        rows: of each class, int64 (n,); an empty one only of a class with no share anywhere.
        length: items of the stream.
        seed: of all draws.

    Raises:
        InvalidInputError: a class is due that has no row.
    """

    def __init__(self, shares: Callable[[Tensor], Tensor], rows: Sequence[Tensor], length: int, seed: int) -> None:
        self.shares = shares
        self.length = length
        self.generator = torch.Generator().manual_seed(seed)
        self.classes = [Shuffled(own, self.generator) for own in rows]
        for positions in torch.split(torch.arange(length), BLOCK):
            for label in torch.nonzero((shares(positions) > 0).any(0)).flatten().tolist():
                if not len(rows[label]):
                    raise InvalidInputError(
                        f"class {label} is due in the stream, and no item has it; choose other data."
                    )
        self.drawn = 0
        self.due = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        """The rows that arrive next, the same however the stream is cut; no more than are left.

        Args:
            count: of rows.

        Returns:
            int64 (count,).
        """
        while len(self.due) < count and self.drawn < self.length:
            self.due = torch.cat([self.due, self._block()])
        taken, self.due = self.due[:count], self.due[count:]
        return taken

    def skip(self, count: int) -> None:
        """Leave out what has arrived before."""
        for start in range(0, count, BLOCK):
            self.take(min(BLOCK, count - start))

    def _block(self) -> Tensor:
        positions = torch.arange(self.drawn, min(self.drawn + BLOCK, self.length))
        self.drawn += len(positions)
        edges = self.shares(positions).cumsum(1)
        edges /= edges[:, -1:].clone()
        chance = torch.rand(len(positions), 1, generator=self.generator, dtype=torch.float64)
        order = (chance >= edges).sum(1)
        rows = torch.empty(len(positions), dtype=torch.int64)
        for label in torch.unique(order).tolist():
            due = order == label
            rows[due] = self.classes[label].take(int(due.sum()))
        return rows
