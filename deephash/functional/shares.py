"""Dealing consecutive rows out to workers, in shares that differ by one row, or block of rows, at most."""


def get_share(rows: int, worker: int, workers: int, block: int = 1) -> range:
    """The rows of one worker; all workers' together are all rows, each once.

    Args:
        rows: number of rows.
        worker: from 0.
        workers: how many share them.
        block: rows that stay together, the first of them a multiple of it; shares then differ by one block at most.
    """
    blocks = -(-rows // block)
    return range(blocks * worker // workers * block, min(rows, blocks * (worker + 1) // workers * block))
