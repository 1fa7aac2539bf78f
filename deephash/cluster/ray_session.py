"""A session of Ray: on a cluster that runs, or on this machine alone for as long as it is needed."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deephash.io.files import reason_of
from deephash.validation import InvalidInputError

SHARED_MEMORY = Path("/dev/shm")


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
        InvalidInputError: Ray is not installed or does not start, no cluster is at the address, or a worker refuses
            what the user gave.
    """
    ray = ray_package()
    if ray.is_initialized():
        yield ray
        return
    if address is None and SHARED_MEMORY.is_dir() and not is_writable(SHARED_MEMORY):
        raise InvalidInputError(
            f"{SHARED_MEMORY} cannot be written to, and Ray's workers share their data there; make it writable, or "
            "give the --address of a cluster that runs."
        )
    settings: dict[str, Any] = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**settings, configure_logging=True, logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError as error:
        raise InvalidInputError(
            f"no Ray cluster answers at {address} ({error}); start one: ray start --head."
        ) from error
    except Exception as error:  # Ray has no class of its own for what keeps it from starting.
        raise InvalidInputError(
            f"Ray does not start here ({reason_of(error)}); its logs are in {Path(tempfile.gettempdir()) / 'ray'}: do "
            "without it, or give the --address of a cluster that runs."
        ) from error
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        # What a worker refuses is told as this process would; its cause lies behind that of each task between.
        refusal: BaseException | None = error
        while isinstance(refusal, ray.exceptions.RayTaskError):
            refusal = refusal.cause
        if not isinstance(refusal, InvalidInputError):
            raise
        raise refusal from None
    finally:
        ray.shutdown()


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
