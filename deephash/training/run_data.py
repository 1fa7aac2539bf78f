"""The data of a saved run, checked against the digests that the run recorded."""

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
    """Read the data of a run, with its split.

    Args:
        run: folder of the run.
        config: config of the run.
        before: function that is called with the data module before it reads, for example to pass items in memory.

    Raises:
        InvalidInputError: the data cannot be read, or differ from the data of the run.
    """
    run.check_built_on()
    check_sections(config, run.config, ("data", "protocol", "seed"))
    data = build_data(make_paths_absolute(config), Split.load(run.split))
    if before is not None:
        before(data)
    data.prepare_data()
    data.setup()
    return data
