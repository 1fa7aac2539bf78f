"""Base class of runners, which carry out whole runs, and the result of a run."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.utils import get_class
from omegaconf import DictConfig

from deephash.io.run_folder import RunFolder
from deephash.training.dataset_cache import DatasetCache


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Args:
        row: result row, as in `metrics.json`.
        folder: folder of the run.
    """

    row: dict[str, Any]
    folder: Path


class Runner(ABC):
    """Base class of runners, one for each mode: `train=fit`, `train=joint` and `train=stream`."""

    minimises_loss: ClassVar[bool] = False
    """Whether gradients of a loss train the hasher further, which makes the codes of the fit obsolete."""

    scores_parts: ClassVar[bool] = True
    """Whether the result row scores the final hasher on the parts of the split, so that an evaluation can repeat it."""

    @abstractmethod
    def run(self, config: DictConfig, run: RunFolder, cache: DatasetCache) -> dict[str, Any]:
        """Carry out a run, or continue an interrupted one.

        Args:
            config: as `conf/train.yaml` composes it.
            run: opened folder of the run.
            cache: data of earlier runs of this process.

        Returns:
            The result row.

        Raises:
            InvalidInputError: settings, data or files are invalid.
        """


def get_runner_class(config: DictConfig) -> type[Runner]:
    """Return the class of a config's runner."""
    runner: type[Runner] = get_class(config.train._target_)
    return runner
