"""The data of a run that is read, checked against those that the run was made on."""

from collections.abc import Callable

from omegaconf import DictConfig

from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Split
from deephash.io.path_settings import make_paths_absolute
from deephash.io.run_folder import RunFolder
from deephash.io.run_sections import check_sections
from deephash.training.building import build_data


def read_run_data(
    run: RunFolder, config: DictConfig, before: Callable[[HashingDataModule], None] | None = None
) -> HashingDataModule:
    """The data of a run with its own split, set up.

    Args:
        run: the folder.
        config: as read from it.
        before: what is done to the data module before it reads, as handing it items that are in memory.

    Raises:
        InvalidInputError: data that cannot be read, or other data than the run was made on.
    """
    run.check_built_on()
    check_sections(config, run.config, ("data", "protocol", "seed"))
    data = build_data(make_paths_absolute(config), Split.load(run.split))
    if before is not None:
        before(data)
    data.prepare_data()
    data.setup()
    return data
