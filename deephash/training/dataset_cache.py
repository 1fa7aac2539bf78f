"""A cache of the data set and the ground truth that runs of one process share."""

import gc
from functools import cache

from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.items import Items
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.io.instantiation import build


class DatasetCache:
    """The items of the last data set and the fitted truth of its last split, for the next run on them.

    The jobs of a sweep run one after another in a few processes, and most differ only in method or code length. Only
    they share a cache, because it does not notice files that change between runs.
    """

    def __init__(self) -> None:
        self._data_key = ""
        self._items: Items | None = None
        self._truth_key = ""
        self._truth: FittedTruth | None = None

    def read(self, config: DictConfig, data: HashingDataModule) -> None:
        """Prepare and set up a data module, without reading if the last run had the same data.

        Args:
            config: config of the run.
            data: data module of the run.
        """
        # Objects of Lightning refer to each other, and keep the parts of the last run until such cycles are collected.
        gc.collect()
        key = OmegaConf.to_yaml(config.data, resolve=True)
        if key != self._data_key:
            self._items = self._truth = None  # Two data sets may not fit into memory together.
        if self._items is not None:
            data.take(self._items)
        data.prepare_data()
        data.setup()
        self._data_key, self._items = key, data.items

    def truth(self, config: DictConfig, data: HashingDataModule) -> FittedTruth:
        """Return the ground truth: that of the last run if data, split, held-out items and definition are the same.

        Args:
            config: config of the run.
            data: data module that `read` has set up.
        """
        # Runs with the same split and different seeds hold out different items.
        parts = (data.split.hash, f"{data.held_out} of seed {data.seed}" if data.held_out else "")
        key = "\n".join((self._data_key, OmegaConf.to_yaml(config.truth, resolve=True), *parts))
        if self._truth is None or key != self._truth_key:
            self._truth_key, self._truth = key, FittedTruth(build(config.truth), data)
        return self._truth


@cache
def get_sweep_cache() -> DatasetCache:
    """Return the cache that the jobs of a sweep in this process share."""
    return DatasetCache()
