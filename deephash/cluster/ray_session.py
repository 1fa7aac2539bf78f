"""A session of Ray: on an existing cluster, or on this machine for as long as it is needed."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from deephash.io.files import describe_error
from deephash.validation import InvalidInputError

SHARED_MEMORY = Path("/dev/shm")


def import_ray() -> Any:
    """Import Ray."""
    try:
        import ray
    except ImportError as error:
        raise InvalidInputError(f"engine=ray needs Ray ({error}); pip install 'deephash[ray-cluster]'.") from error
    return ray


@contextmanager
def ray_session(workers: int, address: str | None = None) -> Iterator[Any]:
    """Connect to Ray, and yield its module.

    Args:
        workers: processors of a session that is started on this machine.
        address: address of a running cluster, such as auto or ray://HOST:10001; None starts and ends one here.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address is None and SHARED_MEMORY.is_dir() and not is_writable(SHARED_MEMORY):
        raise InvalidInputError(
            f"{SHARED_MEMORY} cannot be written to, and Ray's workers share their data there; make it writable, or "
            "give the --address of a running cluster."
        )
    settings: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**settings, configure_logging=True, logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError as error:
        raise InvalidInputError(f"no Ray cluster is at {address} ({error}); start one: ray start --head.") from error
    except Exception as error:  # Ray has no exception class for a failed start.
        raise InvalidInputError(
            f"Ray does not start here ({describe_error(error)}); its logs are in "
            f"{Path(tempfile.gettempdir()) / 'ray'}: run without Ray, or give the --address of a running cluster."
        ) from error
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        # Raise the InvalidInputError of a worker as if this process had raised it; nested tasks wrap it several times.
        cause: BaseException | None = error
        while isinstance(cause, ray.exceptions.RayTaskError):
            cause = cause.cause
        if not isinstance(cause, InvalidInputError):
            raise
        raise cause from None
    finally:
        ray.shutdown()


@contextmanager
def ray_workers(workers: int | None, address: str | None, device: str) -> Iterator[tuple[Any, dict[str, int], int]]:
    """Connect to Ray; yield its module, the resources of a task, and the number of available workers.

    Args:
        workers: number of workers; None uses one per processor, or one per GPU if `device` is cuda.
        address: address of a running cluster; None starts one here.
        device: device of a task.
    """
    # Ray reports lost workers on standard output, which belongs to the command.
    with redirect_stdout(sys.stderr), ray_session(workers or os.cpu_count() or 1, address) as ray:
        resources = {"num_cpus": 1, "num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
        offered = int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))
        yield ray, resources, min(offered, workers or offered)


def is_writable(folder: Path) -> bool:
    """Return whether files can be created in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
