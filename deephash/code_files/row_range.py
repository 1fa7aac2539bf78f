"""A range of rows of a source, as a source."""

from collections.abc import Iterator
from typing import Any, final

from deephash.code_files.rows import RowBlock, RowSource


@final
class RowRange(RowSource):
    """Rows `start` to `stop` - 1 of a source, in the same blocks and with the same ids.

    Args:
        source: a source of at least `stop` rows.
        start: first row, a multiple of the rows of a block.
        stop: row after the last.
    """

    def __init__(self, source: RowSource, start: int, stop: int) -> None:
        self.source = source
        self.start = start
        self.rows = stop - start
        self.most_rows = source.most_rows
        self.named = source.named

    @property
    def dimension(self) -> int | None:
        """Feature dimension d of the source."""
        return self.source.dimension

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the source, and the range of rows."""
        return {**self.source.fingerprint(), "start": self.start, "rows": self.rows}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Yield the blocks of the range from the row `start` on, counted from its first row."""
        assert self.rows is not None
        first = start
        if first >= self.rows:
            return
        for block in self.source.blocks(self.start + start, rows):
            first = block.stop - self.start
            yield RowBlock(block.features, block.ids, block.bad, first)
            if first >= self.rows:
                return
