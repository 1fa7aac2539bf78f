"""The report of a run: figures, per-query scores and warnings, written into its folder and sent to its logger."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, WandbLogger

from deephash.data.items import Items, Part
from deephash.evaluation.modality_bias import measure_bias
from deephash.evaluation.scoring import Scores
from deephash.evaluation.view_scores import CodedItems, Evaluation, direction_name, encode_part
from deephash.io.files import write_text
from deephash.metrics.pr_curve import PrecisionRecallCurve
from deephash.ranking.relevance import is_relevant
from deephash.report.curve_file import write_curves
from deephash.report.diagnostics import BitDiagnostics, bit_diagnostics
from deephash.report.drawing import save_figure
from deephash.report.failure_signatures import find_failure_signatures
from deephash.report.figures import draw_bits, draw_directions, draw_pr_curve
from deephash.report.item_display import format_classes
from deephash.report.neighbours import draw_neighbours
from deephash.report.neighbours_page import ItemCard, Neighbour, render_neighbours_page
from deephash.report.summary import format_title
from deephash.report.tables import write_per_query

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE_QUERIES = 8
SAMPLE_NEIGHBOURS = 10


def write_report(
    row: dict[str, Any], evaluation: Evaluation, folder: Path, notes: Sequence[str] = (), figures: bool = True
) -> BitDiagnostics:
    """Write the figures and the per-query scores of a run into its folder, and add its warnings to its row.

    Args:
        row: result row; gains "warnings" and, with two views, "modality_bias".
        evaluation: scores of the run.
        folder: destination.
        notes: warnings from before the run was scored.
        figures: whether to draw figures, which takes longer than many fits.

    Returns:
        Diagnostics of the bits of the database.
    """
    codes = torch.cat([items.codes for items in evaluation.database.values()])
    # The trainer has moved the weights to the CPU. The samples are encoded on the device of the codes.
    evaluation.hasher.to(codes.device)
    diagnostics = bit_diagnostics(codes, evaluation.hasher.distance.code_bits)
    scores, query_ids = evaluation.scores, evaluation.truth.data.part(evaluation.roles[0]).ids
    asked = len(query_ids) * (1 if len(scores) == 1 else sum(query != database for query, database in scores))
    signatures = find_failure_signatures(diagnostics, queries=asked, skipped_queries=row["skipped_queries"])
    row["warnings"] = [*notes, *signatures]
    write_scores(folder / "per_query.parquet", scores, query_ids)
    write_curves(folder, collect_curves(scores))
    title = format_title(row)
    if len(scores) > 1:
        bias = measure_bias(evaluation)
        row["modality_bias"] = bias.as_dict()
        row["warnings"] += bias.warnings()
    if not figures:
        return diagnostics
    save_figure(draw_curves(scores, title), folder / "pr_curve.png")
    save_figure(draw_bits(diagnostics, title), folder / "bits.png")
    if len(scores) == 1 and not shows_texts(evaluation.truth.data.items):
        save_figure(draw_sample(evaluation, title), folder / "neighbours.png")
    else:
        write_text(folder / "neighbours.html", render_sample(evaluation, title))
    return diagnostics


def write_scores(path: Path, scores: Mapping[tuple[str, str], Scores], query_ids: torch.Tensor) -> None:
    """Write the scores of each query, in every direction.

    Args:
        path: Parquet file.
        scores: scores by query view and database view.
        query_ids: int64 (q,), rows of the queries in the data set.
    """
    by_direction = [found.per_query for found in scores.values()]
    columns = {key: torch.cat([found[key] for found in by_direction]) for key in by_direction[0]}
    directions = [direction_name(*views) for views, found in scores.items() for _ in found.per_query["query"]]
    # The column "query" contains positions in the query part.
    ids = query_ids[columns.pop("query").cpu()]
    write_per_query(path, columns, ids, directions if len(scores) > 1 else None)


def collect_curves(scores: Mapping[tuple[str, str], Scores]) -> dict[str, tuple[PrecisionRecallCurve, float]]:
    """Return the micro-averaged curve and its area by direction; a single view has no direction name."""
    return {
        direction_name(*views) if len(scores) > 1 else "": (found.curve["micro"], found.results["AUPRC_micro"])
        for views, found in scores.items()
    }


def log_report(
    logger: Logger | None, row: dict[str, Any], evaluation: Evaluation, diagnostics: BitDiagnostics, folder: Path
) -> None:
    """Log the result of a run, with its curve, bits and pictures for W&B, and close the logger.

    Args:
        logger: logger of the trainer; None logs nothing.
        row: result row.
        evaluation: scores of the run.
        diagnostics: diagnostics of the bits.
        folder: folder of the figures.
    """
    if logger is None:
        return
    logger.log_metrics({**row["metrics"], **{f"seconds/{step}": value for step, value in row["seconds"].items()}})
    if isinstance(logger, WandbLogger):
        from deephash.report import wandb_media

        wandb_media.log_result(logger.experiment, row)
        curve = next(iter(evaluation.scores.values())).curve["micro"]
        wandb_media.log_pr_curve(logger.experiment, curve.recall, curve.precision)
        wandb_media.log_bits(logger.experiment, diagnostics)
        wandb_media.log_pictures(logger.experiment, folder)
        logger.experiment.finish()
    else:
        logger.finalize("success")


def draw_curves(scores: Mapping[tuple[str, str], Scores], title: str) -> "Figure":
    """Draw the micro- and macro-averaged precision-recall curves; with two views, the micro ones of each direction."""
    if len(scores) > 1:
        curves = {
            name.replace("_to_", " → "): (curve.recall, curve.precision, area)
            for name, (curve, area) in collect_curves(scores).items()
        }
        return draw_directions(curves, title=title)
    (only,) = scores.values()
    micro, macro = only.curve["micro"], only.curve["macro"]
    return draw_pr_curve(
        micro.recall,
        micro.precision,
        macro=(macro.recall, macro.precision),
        title=title,
        area=only.results["AUPRC_micro"],
        macro_area=only.results["AUPRC_macro"],
    )


def draw_sample(evaluation: Evaluation, title: str) -> "Figure":
    """Draw a few queries, evenly spread over the query part, with their nearest neighbours."""
    data = evaluation.truth.data
    queries, database = (data.part(role) for role in evaluation.roles)
    ((view, items),) = evaluation.database.items()
    sample = queries.rows(spread_rows(len(queries)))
    distances, nearest = find_neighbours(evaluation, sample, view, items)
    return draw_neighbours(
        sample.ids,
        database.ids[nearest],
        distances.cpu(),
        is_relevant(evaluation.truth.relevance(sample, database), nearest),
        images=data.items.images,
        labels=data.items.labels,
        class_names=data.items.class_names,
        title=title,
    )


def shows_texts(items: Items) -> bool:
    """Return whether items of one view are shown by their texts, because they have no pictures."""
    return items.texts is not None and items.images is None


def render_sample(evaluation: Evaluation, title: str) -> str:
    """Render a page with a few queries and their nearest neighbours: with two views, those in the other view."""
    data = evaluation.truth.data
    queries, database = (data.part(role) for role in evaluation.roles)
    cards: dict[tuple[str, str], list[tuple[ItemCard, Sequence[Neighbour]]]] = {}
    for query_view, database_view in evaluation.scores:
        if len(evaluation.scores) == 1:
            sample, heading = queries.rows(spread_rows(len(queries))), ("query", "database")
        elif query_view != database_view:
            with_view = queries.features.rows(query_view)
            sample = queries.rows(with_view[spread_rows(len(with_view))].cpu())
            heading = (query_view, database_view)
        else:
            continue
        distances, nearest = find_neighbours(evaluation, sample, query_view, evaluation.database[database_view])
        relevant = is_relevant(evaluation.truth.relevance(sample, database), nearest)
        cards[heading] = [
            (
                describe_item(data.items, int(sample.ids[i])),
                [
                    Neighbour(describe_item(data.items, int(row)), int(distance), bool(good))
                    for row, distance, good in zip(database.ids[nearest[i]], distances[i], relevant[i], strict=True)
                ],
            )
            for i in range(len(sample))
        ]
    return render_neighbours_page(title, cards)


def spread_rows(rows: int) -> torch.Tensor:
    """Return a few row numbers, evenly spread."""
    return torch.linspace(0, rows - 1, min(SAMPLE_QUERIES, rows)).long()


def find_neighbours(
    evaluation: Evaluation, sample: Part, view: str, items: CodedItems
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the items nearest to each sample query; return their distances and their positions in the database part."""
    codes = encode_part(evaluation.hasher, sample, items.codes.device)[view].codes
    depth = min(SAMPLE_NEIGHBOURS, len(items))
    distances, nearest = evaluation.ranking.search(codes, items.codes, evaluation.hasher.distance, depth)
    return distances, items.positions.cpu()[nearest.cpu()]


def describe_item(items: Items, row: int) -> ItemCard:
    """Return the picture, the text and the classes of an item, if the data set has them."""
    return ItemCard(
        row,
        format_classes(items.labels, items.class_names, row),
        "" if items.texts is None else items.texts[row],
        None if items.images is None else np.asarray(items.images[row]),
    )
