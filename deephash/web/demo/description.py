"""Runs, items and answers as JSON values for the page."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from deephash.data.items import Items
from deephash.hashers.hasher_views import get_directions, get_views
from deephash.report.curve_file import read_curves
from deephash.report.item_display import format_classes, shorten
from deephash.report.summary import LEADING_METRICS, format_direction, is_comparison, order_metrics
from deephash.web.demo.answer import Answer
from deephash.web.demo.decoding import FORMAT_WORDS, MAX_PIXELS
from deephash.web.demo.query import IMAGE, MAX_CHARACTERS, TEXT, Query, explain_refusal
from deephash.web.demo.served_run import ServedRun
from deephash.web.page_application import TEXT_CHARACTERS

# Enough for a photograph of a large camera. The limit on pixels applies later.
MAX_IMAGE_BYTES = 20 * 1024 * 1024


def describe_runs(runs: Sequence[ServedRun]) -> dict[str, Any]:
    """Describe all runs and the limits of queries."""
    collections = list(dict.fromkeys(run.collection for run in runs))
    return {
        "runs": [describe_run(run, number, collections.index(run.collection)) for number, run in enumerate(runs)],
        "bounds": {
            "image_bytes": MAX_IMAGE_BYTES,
            "image_pixels": MAX_PIXELS,
            "image_formats": FORMAT_WORDS,
            "text_letters": MAX_CHARACTERS,
        },
    }


def describe_run(run: ServedRun, number: int, collection: int) -> dict[str, Any]:
    """Describe a run.

    Args:
        run: the run.
        number: its place among the runs.
        collection: number of its data set, equal for runs on equal data.
    """
    metrics = [(name, value) for name, value in order_metrics(run.row) if not is_comparison(name)]
    views = get_views(run.hasher)
    return {
        "number": number,
        "folder": run.folder.name,
        "title": run.title,
        "bits": run.hasher.bits,
        "distance": type(run.hasher.distance).__name__,
        "farthest": run.hasher.distance.maximum,
        "collection": collection,
        "views": list(views),
        "directions": [{"asking": asking, "searched": searched} for asking, searched in get_directions(run.hasher)],
        "queries": {view: len(run.queries_with(view)) for view in views},
        "database": {view: len(codes) for view, codes in run.searched.items()},
        "items": len(run.items),
        "refuses": {kind: explain_refusal(run, kind) for kind in (IMAGE, TEXT)},
        "metrics": [{"name": name, "value": value, "leads": name in LEADING_METRICS} for name, value in metrics],
    }


def describe_item(items: Items, row: int, number: int) -> dict[str, Any]:
    """Describe an item by its classes, its text and the address of its picture, where the data have them.

    Args:
        items: the data set.
        row: row of the item.
        number: number of a run that serves the picture.
    """
    return {
        "row": row,
        "classes": format_classes(items.labels, items.class_names, row),
        "words": "" if items.texts is None else shorten(items.texts[row], TEXT_CHARACTERS),
        "picture": None if items.images is None else f"/api/runs/{number}/items/{row}.png",
    }


def describe_answer(run: ServedRun, number: int, query: Query, answer: Answer) -> dict[str, Any]:
    """Describe an answer and each of its items."""
    return {
        **asdict(answer),
        "asking": query.view,
        "query": None if query.row is None else describe_item(run.items, query.row, number),
        "found": [{**asdict(item), **describe_item(run.items, item.row, number)} for item in answer.found],
    }


def describe_curves(runs: Sequence[ServedRun]) -> list[dict[str, Any]]:
    """Describe the precision-recall curves saved with the runs."""
    return [
        {"run": number, **asdict(curve), "direction": format_direction(curve.direction)}
        for number, run in enumerate(runs)
        for curve in read_curves(run.folder)
    ]


def draw_queries(run: ServedRun, view: str, count: int, seed: int) -> list[int]:
    """Draw some of a run's own queries at random, and return their rows in ascending order.

    Args:
        run: run with the queries.
        view: view that each of them has.
        count: number of queries; all if there are fewer.
        seed: seed of the draw.
    """
    rows = run.queries_with(view).numpy()
    drawn = np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False)
    return sorted(int(row) for row in drawn)
