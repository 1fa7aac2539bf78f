"""What the command-line programs share: one clear line for what the user got wrong, and sweeps that go on past it."""

import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deephash.command_line.errors import show_every_letter
from deephash.io.files import write_json
from deephash.validation import InvalidInputError, StorageError

log = logging.getLogger(__name__)

# What the operating system says where a disk does not take a file; loggers raise it as it is.
REFUSED_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# What a command that resumes a run may set beside the folder: nothing that bears on what is fitted.
RESUMABLE = ("resume", "trainer", "logger", "figures", "metrics", "user_metric")

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def resume_or(resume: str | None, fresh: str) -> str:
    """The folder of a run: the one to resume, or a fresh one."""
    return str(resume) if resume else fresh


def register_resolvers() -> None:
    """Make `${run_folder:...}` known to OmegaConf; call before Hydra starts."""
    OmegaConf.register_new_resolver("run_folder", resume_or, replace=True)


def output_folder() -> Path:
    """Hydra's output folder of the running job."""
    return Path(HydraConfig.get().runtime.output_dir)


def task_overrides() -> list[str]:
    """What the user set on the command line, less Hydra's own settings."""
    return list(HydraConfig.get().overrides.task)


def run_command(job: Callable[[], Any]) -> Any:
    """Run a job; what the user got wrong ends it with one line and exit status 2, without a traceback.

    In a sweep the line goes to `error.json` in the job's folder, for the sweep's table, and the sweep goes on. What a
    job leaves in a folder in which it fitted nothing is removed.

    Returns:
        What the job returns; None for a failed job of a sweep.
    """
    show_every_letter()
    folder = output_folder()
    own_log = folder / f"{HydraConfig.get().job.name}.log"
    before = set(folder.iterdir()) if folder.is_dir() else set()
    if own_log in before and own_log.stat().st_size == 0:
        before.remove(own_log)  # Hydra has just made it; one with lines in it was there.
    try:
        return job()
    except (InvalidInputError, InstantiationException, OmegaConfBaseException, OSError) as error:
        line = user_line(error)
        if line is None:
            raise
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            log.error(line)
            with suppress(StorageError):  # A full disk takes no table entry either; the other jobs may have room.
                write_json(folder / "error.json", {"overrides": task_overrides(), "error": line})
            if is_optimising():
                raise  # Such a sweeper counts its failed trials, up to the rate that it is set to bear.
            return None
        if not remove_unfitted(folder, before) and is_refused_by_disk(error):
            line += f" All that was saved before is whole; go on with: deephash train resume={folder}"
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if remove_unfitted(folder, before):
            print("interrupted; nothing had been computed.", file=sys.stderr)
        else:
            print(f"interrupted; go on with: deephash train resume={folder}", file=sys.stderr)
        sys.exit(130)


def is_optimising() -> bool:
    """Whether a sweeper that chooses by the score runs this job."""
    hydra = HydraConfig.get()
    return hydra.mode is RunMode.MULTIRUN and hydra.sweeper._target_ != BASIC_SWEEPER


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def is_refused_by_disk(error: BaseException) -> bool:
    """Whether a file could not be written."""
    return any(
        isinstance(seen, StorageError) or (isinstance(seen, OSError) and seen.errno in REFUSED_WRITING)
        for seen in causes(error)
    )


def user_line(error: BaseException) -> str | None:
    """The one line to show for an error of the user's; None where the fault is not the user's."""
    for seen in causes(error):
        if isinstance(seen, InvalidInputError):
            return " ".join(str(seen).split())
        if isinstance(seen, OSError) and seen.errno in REFUSED_WRITING:
            return f"{seen.filename or 'a file of the run'} cannot be written ({seen.strerror}); free space."
    cause = error.__cause__
    if isinstance(error, InstantiationException) and isinstance(cause, TypeError):
        # A setting that the class does not have, or one that it misses.
        return " ".join(f"{cause} (in {str(error).splitlines()[-1].strip()})".split())
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split())
    return None


def remove_unfitted(folder: Path, before: set[Path]) -> bool:
    """Remove what a job left in its folder, where it fitted and scored nothing; whether it did.

    Args:
        folder: the job's output folder.
        before: what lay there when the job began, which is not the job's to remove.
    """
    if any(
        (folder / name).exists()
        for name in ("hasher", "start", "metrics.json", "config.yaml")
        if folder / name in before
    ):
        return False
    if any((folder / name).exists() for name in ("hasher", "start", "metrics.json", "tune.json")):
        return False
    logging.shutdown()  # The job's log file lies in the folder.
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=1)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # The folders that were made for this job alone, up to the one it was started in.
    for parent in (folder, *folder.parents):
        if parent == Path.cwd() or not parent.is_dir() or any(parent.iterdir()):
            break
        with suppress(OSError):  # A disk's own folder cannot be removed.
            parent.rmdir()
    return True


def load_resumed(config: DictConfig, stored: DictConfig) -> DictConfig:
    """The stored config of a run to resume, with how it is carried out, shown and scored as this command says.

    Raises:
        InvalidInputError: the command sets something that the stored run has already decided.
    """
    keys = {override: override.lstrip("+~").split("=")[0].split("@")[0] for override in task_overrides()}
    bound = [override for override, key in keys.items() if key.split(".")[0] not in RESUMABLE]
    if bound:
        raise InvalidInputError(
            f"resume goes on with the run's own settings, so {bound[0]} cannot be set; leave it out, or start a new "
            "run."
        )
    merged = OmegaConf.create(OmegaConf.to_container(stored, resolve=True))
    assert isinstance(merged, DictConfig)
    for key in keys.values():
        group = key.split(".")[0]
        if group in ("metrics", "figures"):  # One setting of these leaves the others as the run had them.
            OmegaConf.update(merged, key, OmegaConf.select(config, key), merge=False)
        elif group != "resume":
            merged[group] = config[group]
    return merged
