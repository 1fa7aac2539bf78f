"""A callback that keeps the best hasher of a training by its validation score."""

import logging
import math
from pathlib import Path
from typing import Any, cast

import lightning

from deephash.io.files import reading
from deephash.io.sealed_files import read_sealed_json, write_sealed_json
from deephash.metrics.user_metric import find_maximised_figures
from deephash.report.tables import replace_nonfinite
from deephash.training.joint_module import JointModule
from deephash.validation import check_choice

log = logging.getLogger(__name__)


class KeepBest(lightning.Callback):
    """Callback that records validations, saves the best hasher, and stops training when scores no longer improve.

    The fitted hasher is scored before the first step, so the saved hasher never scores lower than it on validation.

    Args:
        folder: folder of the best hasher.
        history: JSON file of scores, losses and rates by epoch.
        metric: name of the validation metric, such as mAP; larger is better.
        patience: number of validations without a better score after which training stops; None never stops early.
    """

    def __init__(self, folder: Path, history: Path, metric: str = "mAP", patience: int | None = None) -> None:
        self.folder, self.history = folder, history
        self.metric, self.patience = metric, patience
        self.best = -math.inf
        self.best_epoch = 0
        self.validations_since_best = 0
        self.record: list[dict[str, Any]] = []

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Stop at once if the training had already ended when it was interrupted."""
        self._stop_if_stale(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Record a validation, including the one before training."""
        joint = cast(JointModule, module)
        assert joint.evaluation is not None
        results = joint.evaluation.results
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        check_choice(self.metric, find_maximised_figures(results), "train.select_by")
        score = results[self.metric]
        if math.isnan(score):
            score = -math.inf
        entry = {"epoch": epoch, "validation": replace_nonfinite(results)}
        if not trainer.sanity_checking:
            entry["losses"] = joint.average_terms()
            entry["rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.record.append(entry)
        self.validations_since_best += 1
        if score > self.best or not self.record[1:]:
            self.best, self.best_epoch, self.validations_since_best = score, epoch, 0
            if trainer.is_global_zero:
                joint.validated.save(self.folder)
        if trainer.is_global_zero:
            content = {"metric": self.metric, "best_epoch": self.best_epoch, "epochs": self.record}
            write_sealed_json(self.history, content)
        log.info("epoch %d: validation %s %.4f, best %.4f", epoch, self.metric, score, self.best)
        self._stop_if_stale(trainer)

    def _stop_if_stale(self, trainer: lightning.Trainer) -> None:
        if self.patience is not None and self.validations_since_best >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed training needs."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "since": self.validations_since_best,
            "record": self.record,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of an interrupted training."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.validations_since_best, self.record = state_dict["since"], state_dict["record"]


def read_history(path: Path) -> dict[str, Any] | None:
    """Read the history of a joint training; None if there is no file.

    Raises:
        InvalidInputError: the file is damaged.
    """
    return read_sealed_json(path, "a training's history") if path.exists() else None


def summarise_history(history: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the epoch that was kept, the number of epochs, and the validation scores at the start and at that epoch.

    Args:
        history: history written by `KeepBest`.
        path: file of the history, for messages.

    Raises:
        InvalidInputError: the history is damaged.
    """
    with reading(path, "a training's history"):
        metric, epochs = history["metric"], history["epochs"]
        scores = {entry["epoch"]: entry["validation"][metric] for entry in epochs}
        best = history["best_epoch"]
        return {"metric": metric, "start": scores[0], "best": scores[best], "best_epoch": best, "epochs": max(scores)}
