"""Some consecutive rows of a source as a source of their own."""

from collections.abc import Iterator
from typing import Any, final

from deephash.code_files.rows import RowBlock, RowSource


@final
class RowRange(RowSource):
    """Rows start to stop of a source, in blocks that begin where the source's own do; ids and places are its own.

    Args:
        source: of at least `stop` rows.
        start: the first row, a multiple of the rows of a block.
        stop: the row after the last.
    """

    def __init__(self, source: RowSource, start: int, stop: int) -> None:
        self.source = source
        self.start = start
        self.rows = stop - start
        self.most_rows = source.most_rows
        self.named = source.named

    @property
    def dimension(self) -> int | None:
        """The source's."""
        return self.source.dimension

    def fingerprint(self) -> dict[str, Any]:
        """The source's, and which rows of it."""
        return {**self.source.fingerprint(), "start": self.start, "rows": self.rows}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """The source's blocks from `start` on, counted from the range's first row, up to its end."""
        assert self.rows is not None
        first = start
        if first >= self.rows:
            return
        for block in self.source.blocks(self.start + start, rows):
            first = block.stop - self.start
            yield RowBlock(block.features, block.ids, block.bad, first)
            if first >= self.rows:
                return
