"""Learning from a stream as a run: from a config to a folder with the course of the scores and the last hasher."""

import logging
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from deephash.affinity.label import Label
from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Split
from deephash.hashers.hasher import Hasher
from deephash.io.files import write_json
from deephash.io.instantiation import build
from deephash.io.run_folder import FIT_SECONDS, RunFolder
from deephash.io.sealed_files import write_sealed_json
from deephash.report.drawing import save_figure
from deephash.report.stream_figure import draw_stream
from deephash.report.summary import format_title
from deephash.report.tables import replace_nonfinite
from deephash.training.building import build_data, build_hasher
from deephash.training.dataset_cache import DatasetCache
from deephash.training.early_checks import check_labelled
from deephash.training.environment import describe_environment
from deephash.training.stream import StreamTraining
from deephash.training.stream_metrics import summarised
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)


def learns_from_stream(config: DictConfig) -> bool:
    """Whether a run learns from a stream."""
    return issubclass(get_class(config.train._target_), StreamTraining)


def train_stream(config: DictConfig, run: RunFolder, kept: DatasetCache) -> dict[str, Any]:
    """Go through a stream, or go on where a run of it was interrupted.

    Args:
        config: as `conf/train.yaml` composes it with train=stream.
        run: where the files go, open.
        kept: what earlier runs of this process read.

    Returns:
        The result row.

    Raises:
        InvalidInputError: settings or data that no stream can be made of.
    """
    data = build_data(config, Split.load(run.split) if run.split.exists() else None)
    check_labelled(config, data.are_labelled())  # Reading can mean describing thousands of images.
    kept.read(config, data)
    check_labelled(config, data.items.labels is not None)
    training = build_training(config, data)
    if not run.split.exists():
        data.split.save(run.split)

    def report(found: dict[str, Any]) -> None:
        log.info("%7d items: mAP %.4f, %d re-encoded", found["seen"], found["mAP"], found["reencoded_items"])

    training.run(run.checkpoint, report)
    changes = training.stream.changes(training.classes)
    row = {
        **OmegaConf.to_container(config.choices, resolve=True),  # type: ignore[dict-item]
        "loss": None,
        "bits": config.bits,
        "score": config.score,
        "database_codes": config.metrics.database_codes,
        "k": [],
        "seed": config.seed,
        "split": data.split.hash,
        "sizes": {"stream": training.stream.length, "query": len(training.query_rows), "database": training.capacity},
        "feature_dim": data.feature_dim,
        "metrics": summarised(training.history, changes, training.present_classes()),
        "skipped_queries": 0,
        "changes": changes,
        "seconds": training.seconds,
        "processor_seconds": training.processor_seconds,
        "warnings": [],
    }
    training.search.hasher.save(run.hasher)
    write_sealed_json(run.hasher / FIT_SECONDS, {"fit": training.seconds["learn"]})
    write_json(run.history, replace_nonfinite({"checkpoints": training.history})["checkpoints"])
    write_json(run.path / "environment.json", describe_environment())
    if config.get("figures", True):
        save_figure(draw_stream(training.history, changes, format_title(row)), run.path / "stream.png")
    run.write_row(replace_nonfinite(row))
    return row


def build_training(config: DictConfig, data: HashingDataModule) -> StreamTraining:
    """The stream, laid out over the data, with an unfitted hasher at its start.

    Raises:
        InvalidInputError: data with two views or without labels, or a truth other than labels.
    """
    truth = build(config.truth)
    if not isinstance(truth, Label):
        raise InvalidInputError(
            f"truth={config.choices.truth} with train=stream; a stream is scored by labels alone: choose truth=label."
        )
    hasher = build_hasher(config, data.feature_dim)
    if not isinstance(hasher, Hasher):
        raise InvalidInputError(f"method={config.choices.method} takes two views; a stream has one: choose another.")
    if data.items.labels is None:
        raise InvalidInputError(f"data={config.choices.data} have no labels, which a stream is scored by; give some.")
    training: StreamTraining = build(
        config.train,
        hasher=hasher,
        truth=truth,
        ranking=build(config.ranking),
        stream=build(config.stream),
        reencoding=build(config.reencoding),
        supervision=build(config.supervision) if config.get("supervision") else None,
        seed=config.seed,
    )
    roles = ("validation_query", "validation_database") if config.score == "validation" else ("query", "database")
    queries, pool = (torch.from_numpy(data.ids(role)) for role in roles)
    training.prepare(data.items, pool, queries, data.classes, getattr(data, "descriptor", None))
    return training
