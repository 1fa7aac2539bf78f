"""Partition of consecutive rows among workers, in shares that differ by at most one row or block of rows."""


def get_share(rows: int, worker: int, workers: int, block: int = 1) -> range:
    """Return the rows of one worker; the shares of all workers cover each row once.

    Args:
        rows: number of rows.
        worker: index of the worker, from 0.
        workers: number of workers.
        block: rows that stay together, starting at a multiple of it; shares then differ by at most one block.
    """
    blocks = -(-rows // block)
    return range(blocks * worker // workers * block, min(rows, blocks * (worker + 1) // workers * block))
