"""What a run leaves for its reader: figures, per-query scores, warnings, and the same for its logger."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, WandbLogger

from deephash.data.base import HashingDataModule
from deephash.data.items import Items
from deephash.evaluation.hashing_module import HashingModule, direction_name
from deephash.hashers.hasher_views import get_directions
from deephash.io.files import write_text
from deephash.metrics.pr_curve import PrecisionRecallCurve
from deephash.ranking.relevance import is_relevant
from deephash.report.curve_file import write_curves
from deephash.report.diagnostics import BitDiagnostics, bit_diagnostics
from deephash.report.drawing import save_figure
from deephash.report.failure_signatures import find_failure_signatures
from deephash.report.figures import draw_bits, draw_directions, draw_pr_curve
from deephash.report.item_display import format_classes
from deephash.report.modality_bias import ModalityBias, bit_agreement, own_view_share
from deephash.report.neighbours import draw_neighbours
from deephash.report.neighbours_page import ItemCard, Neighbour, render_neighbours_page
from deephash.report.summary import format_title
from deephash.report.tables import write_per_query

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE_QUERIES = 8
SAMPLE_NEIGHBOURS = 10
# The first places of a mixed database whose views are counted.
BIAS_DEPTH = 50


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
    queries = data.part(roles[0])
    searched = torch.cat([items.codes for items in module.codes[0].values()])
    # The trainer has put the weights back into the machine's memory; what is shown is encoded where the codes lie.
    module.to(searched.device)
    diagnostics = bit_diagnostics(searched, module.hasher.distance.code_bits)
    asked = len(queries) * sum(one != other or len(module.scores) == 1 for one, other in module.scores)
    row["warnings"] = [
        *module.lowered,
        *find_failure_signatures(diagnostics, queries=asked, skipped_queries=row["skipped_queries"]),
    ]
    write_scores(folder / "per_query.parquet", module, queries.ids)
    write_curves(folder, measured_curves(module))
    title = format_title(row)
    if len(module.scores) > 1:
        bias = modality_bias(module)
        row["modality_bias"] = bias.as_dict()
        row["warnings"] += bias.warnings()
    if not figures:
        return diagnostics
    save_figure(curve_figure(row, module, title), folder / "pr_curve.png")
    save_figure(draw_bits(diagnostics, title), folder / "bits.png")
    if len(module.scores) == 1:
        save_figure(sample_figure(module, data, roles, title), folder / "neighbours.png")
    else:
        write_text(folder / "neighbours.html", sample_page(module, data, roles, title))
    return diagnostics


def write_scores(path: Path, module: HashingModule, query_ids: torch.Tensor) -> None:
    """Write each query's scores; with two views, in every direction.

    Args:
        path: the Parquet file.
        module: scored.
        query_ids: int64 (q,), rows in the data set of the query part.
    """
    if len(module.scores) == 1:
        (only,) = module.scores.values()
        columns = dict(only.per_query)
        # Scores come by the queries' places in their part.
        write_per_query(path, columns, query_ids[columns.pop("query").cpu()])
        return
    found = {direction_name(*views): scores.per_query for views, scores in module.scores.items()}
    names = [name for name, columns in found.items() for _ in columns["query"]]
    columns = {key: torch.cat([own[key] for own in found.values()]) for key in next(iter(found.values()))}
    write_per_query(path, columns, query_ids[columns.pop("query").cpu()], names)


def measured_curves(module: HashingModule) -> dict[str, tuple[PrecisionRecallCurve, float]]:
    """The micro-averaged curve and its area by direction, which has no name where there is one view."""
    named = len(module.scores) > 1
    return {
        direction_name(*views) if named else "": (found.curve["micro"], found.results["AUPRC_micro"])
        for views, found in module.scores.items()
    }


def modality_bias(module: HashingModule) -> ModalityBias:
    """How the views of a scored module differ in its code space."""
    searched, asking = module.codes
    codes = {view: items.codes for view, items in searched.items()}
    total = sum(map(len, codes.values()))
    depth, distance = min(BIAS_DEPTH, total), module.hasher.distance
    one, other = searched.values()
    # Codes of the items that have both views, in the same order.
    in_both = [torch.isin(items.positions, rest.positions) for items, rest in ((one, other), (other, one))]
    agreement, chance = bit_agreement(one.codes[in_both[0]], other.codes[in_both[1]], distance.code_bits)
    return ModalityBias(
        mean_average_precision={direction_name(*views): found.results["mAP"] for views, found in module.scores.items()},
        depth=depth,
        own_share={
            view: own_view_share(items.codes, codes, view, distance, module.ranking, depth)
            for view, items in asking.items()
        },
        database_share={view: len(own) / total for view, own in codes.items()},
        bit_agreement=agreement,
        chance_agreement=chance,
    )


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
        curve = next(iter(module.scores.values())).curve["micro"]
        wandb_media.log_pr_curve(logger.experiment, curve.recall, curve.precision)
        wandb_media.log_bits(logger.experiment, diagnostics)
        wandb_media.log_pictures(logger.experiment, folder)
        logger.experiment.finish()
    else:
        logger.finalize("success")


def curve_figure(row: dict[str, Any], module: HashingModule, title: str) -> "Figure":
    """The precision-recall curves with their areas: micro and macro, or of two views micro in every direction."""
    if len(module.scores) > 1:
        curves = {
            direction_name(*views).replace("_to_", " → "): (
                found.curve["micro"].recall,
                found.curve["micro"].precision,
                found.results["AUPRC_micro"],
            )
            for views, found in module.scores.items()
        }
        return draw_directions(curves, title=title)
    (only,) = module.scores.values()
    curve = only.curve
    return draw_pr_curve(
        curve["micro"].recall,
        curve["micro"].precision,
        macro=(curve["macro"].recall, curve["macro"].precision),
        title=title,
        area=row["metrics"]["AUPRC_micro"],
        macro_area=row["metrics"]["AUPRC_macro"],
    )


def sample_figure(module: HashingModule, data: HashingDataModule, roles: tuple[str, str], title: str) -> "Figure":
    """A few queries, spread over the query part, with their nearest neighbours."""
    (searched,) = module.codes[0].values()
    queries, database = data.part(roles[0]), data.part(roles[1])
    rows = torch.linspace(0, len(queries) - 1, min(SAMPLE_QUERIES, len(queries))).long()
    sample = queries.rows(rows)
    (codes,) = (items.codes for items in module.coded(sample).values())
    distances, nearest = module.ranking.search(
        codes, searched.codes, module.hasher.distance, min(SAMPLE_NEIGHBOURS, len(database))
    )
    nearest = nearest.cpu()
    relevance = module.relevance(sample, database, data)
    return draw_neighbours(
        sample.ids,
        database.ids[nearest],
        distances.cpu(),
        is_relevant(relevance, nearest),
        images=data.items.images,
        labels=data.items.labels,
        class_names=data.items.class_names,
        title=title,
    )


def sample_page(module: HashingModule, data: HashingDataModule, roles: tuple[str, str], title: str) -> str:
    """A few queries of each view, spread over the query part, with what they find first in the other view."""
    queries, database = data.part(roles[0]), data.part(roles[1])
    found: dict[tuple[str, str], list[tuple[ItemCard, Sequence[Neighbour]]]] = {}
    for asking, searched in get_directions(module.hasher):
        if asking == searched:
            continue
        with_view, items = queries.features.rows(asking), module.codes[0][searched]
        places = torch.linspace(0, len(with_view) - 1, min(SAMPLE_QUERIES, len(with_view))).long()
        sample = queries.rows(with_view[places].cpu())
        codes = module.coded(sample)[asking].codes
        depth = min(SAMPLE_NEIGHBOURS, len(items))
        distances, nearest = module.ranking.search(codes, items.codes, module.hasher.distance, depth)
        nearest = items.positions.cpu()[nearest.cpu()]
        relevant = is_relevant(module.relevance(sample, database, data), nearest)
        found[asking, searched] = [
            (
                shown_item(data.items, int(sample.ids[i])),
                [
                    Neighbour(shown_item(data.items, int(row)), int(distance), bool(good))
                    for row, distance, good in zip(database.ids[nearest[i]], distances[i], relevant[i], strict=True)
                ],
            )
            for i in range(len(sample))
        ]
    return render_neighbours_page(title, found)


def shown_item(items: Items, row: int) -> ItemCard:
    """What the page shows of an item: picture and text where the data set has them, whichever view was coded."""
    return ItemCard(
        row,
        format_classes(items.labels, items.class_names, row),
        "" if items.texts is None else items.texts[row],
        None if items.images is None else np.asarray(items.images[row]),
    )
