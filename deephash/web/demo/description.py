"""Runs, items and answers as the values that the page shows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from deephash.data.items import Items
from deephash.hashers.hasher_views import get_directions, get_views
from deephash.report.curve_file import read_curves
from deephash.report.item_display import format_classes
from deephash.report.summary import LEADING_METRICS, format_direction, is_comparison, order_metrics
from deephash.report.tables import replace_nonfinite
from deephash.web.demo.answer import Answer
from deephash.web.demo.decoding import FORMAT_WORDS, MAX_PIXELS
from deephash.web.demo.query import IMAGE, MAX_LETTERS, TEXT, Query, refusal
from deephash.web.demo.served_run import ServedRun
from deephash.web.demo.upload import MAX_IMAGE_BYTES

# Letters of a text that an item shows.
TEXT_LETTERS = 400


def described_runs(runs: Sequence[ServedRun]) -> dict[str, Any]:
    """What the page needs to know of all runs before anything is asked."""
    collections = list(dict.fromkeys(run.collection for run in runs))
    return {
        "runs": [described_run(run, number, collections.index(run.collection)) for number, run in enumerate(runs)],
        "bounds": {
            "image_bytes": MAX_IMAGE_BYTES,
            "image_pixels": MAX_PIXELS,
            "image_formats": FORMAT_WORDS,
            "text_letters": MAX_LETTERS,
        },
    }


def described_run(run: ServedRun, number: int, collection: int) -> dict[str, Any]:
    """One run.

    Args:
        run: to describe.
        number: its place among the runs.
        collection: number of its data set; runs of equal data have the same.
    """
    metrics = [(name, value) for name, value in order_metrics(run.row) if not is_comparison(name)]
    return {
        "number": number,
        "folder": run.folder.name,
        "title": run.title,
        "bits": run.hasher.bits,
        "distance": type(run.hasher.distance).__name__,
        "farthest": run.hasher.distance.maximum,
        "collection": collection,
        "views": list(get_views(run.hasher)),
        "directions": [{"asking": asking, "searched": searched} for asking, searched in get_directions(run.hasher)],
        "queries": {view: len(run.queries_with(view)) for view in get_views(run.hasher)},
        "database": {view: len(codes) for view, codes in run.searched.items()},
        "items": len(run.items),
        "refuses": {IMAGE: refusal(run, IMAGE), TEXT: refusal(run, TEXT)},
        "metrics": [
            {"name": name, "value": replace_nonfinite(value), "leads": name in LEADING_METRICS}
            for name, value in metrics
        ],
    }


def described_item(items: Items, row: int, number: int) -> dict[str, Any]:
    """One item: classes, text and the address of its picture, as far as the data have them.

    Args:
        items: the data set.
        row: in it.
        number: of the run that gives the picture.
    """
    words = "" if items.texts is None else items.texts[row]
    return {
        "row": row,
        "classes": format_classes(items.labels, items.class_names, row),
        "words": words if len(words) <= TEXT_LETTERS else words[: TEXT_LETTERS - 1].rstrip() + "…",
        "picture": None if items.images is None else f"/api/runs/{number}/items/{row}.png",
    }


def described_answer(run: ServedRun, number: int, query: Query, found: Answer) -> dict[str, Any]:
    """What a query found, each item with what there is to see of it."""
    return {
        **asdict(found),
        "asking": query.view,
        "query": None if query.row is None else described_item(run.items, query.row, number),
        "found": [{**asdict(one), **described_item(run.items, one.row, number)} for one in found.found],
    }


def described_curves(runs: Sequence[ServedRun]) -> list[dict[str, Any]]:
    """The precision-recall curves of all runs, from their saved reports; none of runs that kept none."""
    return [
        {"run": number, **asdict(curve), "direction": format_direction(curve.direction)}
        for number, run in enumerate(runs)
        for curve in read_curves(run.folder)
    ]


def drawn_queries(run: ServedRun, view: str, count: int, seed: int) -> list[int]:
    """Rows of some of a run's own queries, drawn at random, ascending.

    Args:
        run: whose queries they are.
        view: that each of them has.
        count: how many, or all where there are fewer.
        seed: of the draw.
    """
    rows = run.queries_with(view).numpy()
    drawn = np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False)
    return sorted(int(row) for row in drawn)
