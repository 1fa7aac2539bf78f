"""What a run leaves for its reader: figures, per-query scores, warnings, and the same for its logger."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.loggers import Logger, WandbLogger

from deephash.data.base import HashingDataModule
from deephash.ranking.relevance import is_relevant
from deephash.report.diagnostics import BitDiagnostics, bit_diagnostics
from deephash.report.drawing import save_figure
from deephash.report.failure_signatures import failure_signatures
from deephash.report.figures import bits_figure, pr_curve_figure
from deephash.report.neighbours import neighbours_figure
from deephash.report.summary import result_title
from deephash.report.tables import write_per_query
from deephash.training.hashing_module import HashingModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE_QUERIES = 8
SAMPLE_NEIGHBOURS = 10


def write_report(
    row: dict[str, Any],
    module: HashingModule,
    data: HashingDataModule,
    folder: Path,
    roles: tuple[str, str],
    figures: bool = True,
) -> BitDiagnostics:
    """Write a run's figures and per-query scores into its folder, and add its warnings to its row.

    Args:
        row: the result row; gains "warnings".
        module: the scored module.
        data: the data it was scored on.
        folder: where the files go.
        roles: the roles of the queries and of the database.
        figures: whether to draw; what is drawn takes longer than many a fit.

    Returns:
        What the bits of the database look like.
    """
    assert module.database_codes is not None
    queries = data.part(roles[0])
    diagnostics = bit_diagnostics(module.database_codes, module.hasher.distance.code_bits)
    row["warnings"] = failure_signatures(diagnostics, queries=len(queries), skipped_queries=row["skipped_queries"])
    write_per_query(folder / "per_query.parquet", module.per_query, queries.ids)
    if not figures:
        return diagnostics
    title = result_title(row)
    save_figure(curve_figure(row, module, title), folder / "pr_curve.png")
    save_figure(bits_figure(diagnostics, title), folder / "bits.png")
    save_figure(sample_figure(module, data, roles, title), folder / "neighbours.png")
    return diagnostics


def log_report(
    logger: Logger | None, row: dict[str, Any], module: HashingModule, diagnostics: BitDiagnostics, folder: Path
) -> None:
    """Log a run's result, and in W&B its curve, bits and pictures too; then let the logger write its last.

    Args:
        logger: the trainer's; None logs nothing.
        row: the result row.
        module: the scored module.
        diagnostics: what the bits look like.
        folder: where the figures are.
    """
    if logger is None:
        return
    logger.log_metrics({**row["metrics"], **{f"seconds/{step}": value for step, value in row["seconds"].items()}})
    if isinstance(logger, WandbLogger):
        from deephash.report import wandb_media

        wandb_media.log_result(logger.experiment, row)
        wandb_media.log_pr_curve(logger.experiment, module.curve["micro"].recall, module.curve["micro"].precision)
        wandb_media.log_bits(logger.experiment, diagnostics)
        wandb_media.log_pictures(logger.experiment, folder)
        logger.experiment.finish()
    else:
        logger.finalize("success")


def curve_figure(row: dict[str, Any], module: HashingModule, title: str) -> "Figure":
    """The precision-recall curves, micro and macro, with their areas."""
    curve = module.curve
    return pr_curve_figure(
        curve["micro"].recall,
        curve["micro"].precision,
        macro=(curve["macro"].recall, curve["macro"].precision),
        title=title,
        area=row["metrics"]["AUPRC_micro"],
        macro_area=row["metrics"]["AUPRC_macro"],
    )


def sample_figure(module: HashingModule, data: HashingDataModule, roles: tuple[str, str], title: str) -> "Figure":
    """A few queries, spread over the query part, with their nearest neighbours."""
    assert module.database_codes is not None
    queries, database = data.part(roles[0]), data.part(roles[1])
    rows = torch.linspace(0, len(queries) - 1, min(SAMPLE_QUERIES, len(queries))).long()
    sample = queries.rows(rows)
    codes = module.hasher.encode(sample.features.to(module.device))
    distances, nearest = module.ranking.search(
        codes, module.database_codes, module.hasher.distance, min(SAMPLE_NEIGHBOURS, len(database))
    )
    nearest = nearest.cpu()
    relevance = module.relevance(sample, database, data)
    return neighbours_figure(
        sample.ids,
        database.ids[nearest],
        distances.cpu(),
        is_relevant(relevance, nearest),
        images=data.items.images,
        labels=data.items.labels,
        class_names=data.items.class_names,
        title=title,
    )
