"""Dealing consecutive rows out to workers, in shares that differ by one row at most."""


def share_of(rows: int, worker: int, workers: int) -> range:
    """The rows of one worker; all workers' together are all rows, each once.

    Args:
        rows: number of rows.
        worker: from 0.
        workers: how many share them.
    """
    return range(rows * worker // workers, rows * (worker + 1) // workers)
