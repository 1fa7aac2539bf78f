"""A session of Ray: on a cluster that runs, or on this machine alone for as long as it is needed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deephash.validation import InvalidInputError


def ray_package() -> Any:
    """Ray's module.

    Raises:
        InvalidInputError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InvalidInputError(f"engine=ray needs Ray ({error}); pip install 'deephash[ray-cluster]'.") from error
    return ray


@contextmanager
def ray_session(workers: int, address: str | None = None) -> Iterator[Any]:
    """Ray's module, connected.

    Args:
        workers: processors that a session on this machine alone offers.
        address: of a cluster that runs, as auto or ray://HOST:10001; None starts a session here and ends it after.

    Raises:
        InvalidInputError: Ray is not installed, or no cluster is at the address.
    """
    ray = ray_package()
    if ray.is_initialized():
        yield ray
        return
    settings: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**settings, configure_logging=True, logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError as error:
        raise InvalidInputError(
            f"no Ray cluster answers at {address} ({error}); start one: ray start --head."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
