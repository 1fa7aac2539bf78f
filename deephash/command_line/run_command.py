"""Run jobs: invalid input ends a job with one line, and a sweep continues after it."""

import errno
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deephash.command_line.errors import show_every_letter
from deephash.io.files import shorten_path, write_json
from deephash.validation import InvalidInputError, StorageError

log = logging.getLogger(__name__)

# Errors of the operating system for a disk that does not accept a file; loggers raise them unchanged.
REFUSED_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Settings that a command may change when it resumes a run; none of them affects the fit.
RESUMABLE = ("resume", "trainer", "logger", "figures", "metrics", "user_metric")

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def choose_run_folder(resume: str | None, fresh: str) -> str:
    """Return the folder of the run to resume, or a new one."""
    return str(resume) if resume else fresh


def register_resolvers() -> None:
    """Register `${run_folder:...}` with OmegaConf; call this before Hydra starts."""
    OmegaConf.register_new_resolver("run_folder", choose_run_folder, replace=True)


def get_output_folder() -> Path:
    """Return Hydra's output folder of the running job."""
    return Path(HydraConfig.get().runtime.output_dir)


def get_overrides() -> list[str]:
    """Return the overrides on the command line, without Hydra's own settings."""
    return list(HydraConfig.get().overrides.task)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """End a job with one line and exit status 2, without a traceback, if its input is invalid.

    In a sweep, the line is written to `error.json` in the job's folder, for the sweep's table, and the sweep continues:
    the context ends without an error. The files of a job that has fitted nothing are removed.
    """
    show_every_letter()
    folder = get_output_folder()
    own_log = folder / f"{HydraConfig.get().job.name}.log"
    before = set(folder.iterdir()) if folder.is_dir() else set()
    if own_log in before and own_log.stat().st_size == 0:
        before.remove(own_log)  # Hydra has just created it; a log with lines is older.
    try:
        yield
    except (InvalidInputError, InstantiationException, OmegaConfBaseException, OSError) as error:
        line = format_user_error(error)
        if line is None:
            raise
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            log.error(line)
            with suppress(StorageError):  # A full disk accepts no entry either; the other jobs may have space.
                write_json(folder / "error.json", {"overrides": get_overrides(), "error": line})
            if is_optimising():
                raise  # An optimising sweeper counts failed trials, up to its permitted rate.
            return
        if not remove_unfitted(folder, before) and is_refused_by_disk(error):
            line += f" All that was saved before is intact; continue with: deephash train resume={shorten_path(folder)}"
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if remove_unfitted(folder, before):
            print("interrupted; nothing had been computed.", file=sys.stderr)
        else:
            print(f"interrupted; continue with: deephash train resume={shorten_path(folder)}", file=sys.stderr)
        sys.exit(130)


def is_optimising() -> bool:
    """Return whether a sweeper that chooses by the score runs this job."""
    hydra = HydraConfig.get()
    return hydra.mode is RunMode.MULTIRUN and hydra.sweeper._target_ != BASIC_SWEEPER


def is_first_process() -> bool:
    """Return whether this process is the first of a distributed run, or the only one."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its chain of causes."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def is_refused_by_disk(error: BaseException) -> bool:
    """Return whether an error means that a file could not be written."""
    return any(
        isinstance(seen, StorageError) or (isinstance(seen, OSError) and seen.errno in REFUSED_WRITING)
        for seen in list_causes(error)
    )


def format_user_error(error: BaseException) -> str | None:
    """Return the line to show for invalid input, or None for any other error."""
    for seen in list_causes(error):
        if isinstance(seen, InvalidInputError):
            return " ".join(str(seen).split())
        if isinstance(seen, OSError) and seen.errno in REFUSED_WRITING:
            return f"{seen.filename or 'a file of the run'} cannot be written ({seen.strerror}); free space."
    cause = error.__cause__
    if isinstance(error, InstantiationException) and isinstance(cause, TypeError):
        # A setting that is unknown to the class, or missing.
        return " ".join(f"{cause} (in {str(error).splitlines()[-1].strip()})".split())
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split())
    return None


def remove_unfitted(folder: Path, before: set[Path]) -> bool:
    """Remove the files of a job that has fitted and scored nothing; return whether this was the case.

    Args:
        folder: the job's output folder.
        before: files that were there before the job, which are kept.
    """
    if any(
        (folder / name).exists()
        for name in ("hasher", "start", "metrics.json", "config.yaml")
        if folder / name in before
    ):
        return False
    if any((folder / name).exists() for name in ("hasher", "start", "metrics.json", "tune.json")):
        return False
    logging.shutdown()  # The job's log file is in the folder.
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=1)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Remove the folders that were created for this job, up to the working folder.
    for parent in (folder, *folder.parents):
        if parent == Path.cwd() or not parent.is_dir() or any(parent.iterdir()):
            break
        with suppress(OSError):  # A mount point cannot be removed.
            parent.rmdir()
    return True


def load_resumed(config: DictConfig, stored: DictConfig) -> DictConfig:
    """Return the stored config of a run to resume, with this command's settings of execution, output and scoring.

    Raises:
        InvalidInputError: the command sets another setting.
    """
    keys = {override: override.lstrip("+~").split("=")[0].split("@")[0] for override in get_overrides()}
    bound = [override for override, key in keys.items() if key.split(".")[0] not in RESUMABLE]
    if bound:
        raise InvalidInputError(
            f"resume continues with the run's own settings, so {bound[0]} cannot be set; leave it out, or start a new "
            "run."
        )
    merged = OmegaConf.create(OmegaConf.to_container(stored, resolve=True))
    assert isinstance(merged, DictConfig)
    for key in keys.values():
        group = key.split(".")[0]
        if group in ("metrics", "figures"):  # Other settings of these groups stay as the run had them.
            OmegaConf.update(merged, key, OmegaConf.select(config, key), merge=False)
        elif group != "resume":
            merged[group] = config[group]
    return merged
