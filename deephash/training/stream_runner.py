"""Runs of `train=stream`: the hasher learns from a stream of items while it is searched."""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from omegaconf import DictConfig

from deephash.affinity.label import Label
from deephash.data.base import HashingDataModule
from deephash.evaluation.view_scores import select_roles
from deephash.hashers.hasher import Hasher
from deephash.io.files import write_json
from deephash.io.instantiation import build
from deephash.io.run_folder import FIT_SECONDS, RunFolder
from deephash.io.sealed_files import write_sealed_json
from deephash.report.drawing import save_figure
from deephash.report.stream_figure import draw_stream
from deephash.report.summary import format_title
from deephash.report.tables import replace_nonfinite
from deephash.training.base import Runner
from deephash.training.building import build_hasher, build_supervision
from deephash.training.dataset_cache import DatasetCache
from deephash.training.environment import describe_environment
from deephash.training.run_steps import read_data, result_row, save_split
from deephash.training.stream_metrics import summarise_stream
from deephash.training.stream_training import StreamSettings, StreamTraining
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class StreamRunner(StreamSettings, Runner):
    """Runner that learns from a stream and, at checkpoints, scores a database with codes of old and new functions."""

    scores_parts: ClassVar[bool] = False

    def run(self, config: DictConfig, run: RunFolder, cache: DatasetCache) -> dict[str, Any]:
        """Carry out a run, or continue an interrupted one; see `Runner.run`."""
        data = read_data(config, run, cache)
        training = self.build_training(config, data)
        save_split(run, data)

        training.run(run.checkpoint, report_checkpoint)

        progress, changes = training.progress, training.stream.changes(training.classes)
        row = result_row(
            config,
            data,
            metrics=summarise_stream(progress.history, changes, training.present_classes()),
            sizes={"stream": training.stream.length, "query": len(training.query_rows), "database": self.capacity},
            changes=changes,
            seconds=progress.seconds,
            unlabelled=self.unlabelled,
        )
        row |= {"processor_seconds": progress.processor_seconds, "warnings": []}
        training.search.hasher.save(run.hasher)
        write_sealed_json(run.hasher / FIT_SECONDS, {"fit": progress.seconds["learn"]})
        write_json(run.history, replace_nonfinite(progress.history))
        write_json(run.path / "environment.json", describe_environment())
        if config.get("figures", True):
            save_figure(draw_stream(progress.history, changes, format_title(row)), run.path / "stream.png")
        run.write_row(replace_nonfinite(row))
        return row

    def build_training(self, config: DictConfig, data: HashingDataModule) -> StreamTraining:
        """Build the training of an unfitted hasher on a stream over the data.

        Raises:
            InvalidInputError: the data have two views or no labels, or the truth is not by labels.
        """
        truth = build(config.truth)
        if not isinstance(truth, Label):
            raise InvalidInputError(
                f"truth={config.choices.truth} with train=stream; a stream is scored only by labels: choose "
                "truth=label."
            )
        hasher = build_hasher(config, data.feature_dim)
        if not isinstance(hasher, Hasher):
            raise InvalidInputError(
                f"method={config.choices.method} takes two views; a stream has one: choose a method of one view."
            )
        if data.items.labels is None:
            raise InvalidInputError(
                f"data={config.choices.data} have no labels, by which a stream is scored; choose data with labels."
            )
        training = StreamTraining(
            hasher,
            truth,
            build(config.ranking),
            build(config.stream),
            build(config.reencoding),
            self,
            build_supervision(config),
            config.seed,
        )
        queries, pool = (torch.from_numpy(data.ids(role)) for role in select_roles(config.score))
        training.prepare(data.items, pool, queries, data.classes, getattr(data, "descriptor", None))
        return training


def report_checkpoint(entry: dict[str, Any]) -> None:
    """Log the entry of a checkpoint."""
    log.info("%7d items: mAP %.4f, %d re-encoded", entry["seen"], entry["mAP"], entry["reencoded_items"])
