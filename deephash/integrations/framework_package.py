"""The error for a framework that is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needing(package: str, extra: str) -> Iterator[None]:
    """Name the extra of deephash in the error for a missing package.

    Args:
        package: name of the package that the block imports.
        extra: the extra of deephash that installs it.

    Raises:
        ImportError: a module is missing; the message names the extra.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{package} cannot be imported ({error}); pip install 'deephash[{extra}]'.") from error
