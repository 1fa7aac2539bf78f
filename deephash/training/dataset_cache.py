"""What jobs of one process have in common, read and computed once: a data set, and the truth between its parts."""

from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.items import Items
from deephash.ranking.relevance import Relevance


class DatasetCache:
    """The items of the last data set, and the relevance between parts of its last split, for the next run on them.

    A sweep's jobs run one after another in few processes; most differ in method or code length alone. Files that
    change in between would not be noticed, so a single run keeps nothing beyond its end.
    """

    def __init__(self) -> None:
        self._data = ""
        self._items: Items | None = None
        self._truth = ""
        self._relevance: dict[tuple[str, str], Relevance] = {}

    def read(self, config: DictConfig, data: HashingDataModule) -> None:
        """Prepare and set up a data module, reading nothing where the last one was of the same data.

        Args:
            config: the run's.
            data: as `build_data` gives it.
        """
        wanted = OmegaConf.to_yaml(config.data, resolve=True)
        if self._items is not None and wanted == self._data:
            data.take(self._items)
        data.prepare_data()
        data.setup()
        self._data, self._items = wanted, data.items

    def relevance(self, config: DictConfig, data: HashingDataModule) -> dict[tuple[str, str], Relevance]:
        """Relevance by roles, known from the last run where data, split and truth are its own.

        Args:
            config: the run's.
            data: set up.
        """
        wanted = self._data + OmegaConf.to_yaml(config.truth, resolve=True) + data.split.hash + str(data.held_out)
        if wanted != self._truth:
            self._truth, self._relevance = wanted, {}
        return self._relevance
