"""A page of sample queries and their neighbours, as images and texts; with two views, those in the other view."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from deephash.report.item_display import encode_thumbnail, shorten

# Characters of a text on a card.
TEXT_CHARACTERS = 160
# Side of a picture on the page; larger ones are reduced.
PICTURE_PIXELS = 96

STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #0072b2; --bad: #d55e00; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
section { border-top: 1px solid var(--line); padding: .8rem 0; }
.found { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: .5rem 0 0; list-style: none; }
.card { border: 2px solid var(--line); border-radius: .4rem; padding: .4rem .5rem; width: 13rem; font-size: .85rem; }
.card img { display: block; max-width: 100%; margin: 0 0 .3rem; }
.card.good { border-color: var(--good); } .card.bad { border-color: var(--bad); border-style: dashed; }
.card p { margin: .2rem 0 0; overflow-wrap: anywhere; }
.mark { font-weight: 600; } .good .mark { color: var(--good); } .bad .mark { color: var(--bad); }
.ask { width: auto; max-width: 40rem; border-color: currentColor; }
"""


@dataclass(frozen=True)
class ItemCard:
    """An item as shown on a card.

    Args:
        row: row in the data set.
        classes: names of its classes; empty without labels.
        words: its text, or empty.
        image: uint8 (h, w) or (h, w, 3), or None.
    """

    row: int
    classes: str = ""
    words: str = ""
    image: np.ndarray | None = None


@dataclass(frozen=True)
class Neighbour:
    """A neighbour of a query.

    Args:
        item: the item.
        distance: distance of the codes.
        relevant: whether it is relevant to the query.
    """

    item: ItemCard
    distance: int
    relevant: bool


def render_neighbours_page(
    title: str, directions: Mapping[tuple[str, str], Sequence[tuple[ItemCard, Sequence[Neighbour]]]]
) -> str:
    """Return a self-contained HTML page, with its style and pictures and without scripts.

    Args:
        title: title of the result.
        directions: (query view, database view) → each query with its neighbours, nearest first.
    """
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        "<p>Sample queries, each with its nearest items. ✓ and a solid frame mark relevant items, "
        "✗ and a dashed frame mark the others. Items at the same distance are tied and listed in database order.</p>\n"
    ]
    for (asking, searched), queries in directions.items():
        parts.append(f"<h2>{escape(asking)} → {escape(searched)}</h2>\n")
        for query, neighbours in queries:
            hits = sum(neighbour.relevant for neighbour in neighbours)
            cards = "".join(_render_neighbour(neighbour, searched) for neighbour in neighbours)
            parts.append(
                f'<section>\n<div class="card ask">{_render_item(query, asking)}'
                f"<p>{hits} of {len(neighbours)} relevant</p></div>\n"
                f'<ol class="found">\n{cards}</ol>\n</section>\n'
            )
    # File names may hold bytes that are not text.
    return "".join([*parts, "</body>\n</html>\n"]).encode(errors="xmlcharrefreplace").decode()


def _render_neighbour(neighbour: Neighbour, view: str) -> str:
    kind, mark, label = ("good", "✓", "relevant") if neighbour.relevant else ("bad", "✗", "not relevant")
    heading = f'<span class="mark" title="{label}">{mark}</span> distance {neighbour.distance}'
    return f'<li class="card {kind}">{heading}{_render_item(neighbour.item, view)}</li>\n'


def _render_item(item: ItemCard, view: str) -> str:
    """Return the content of a card: picture, classes, text and row."""
    picture = ""
    if item.image is not None:
        encoded = base64.b64encode(encode_thumbnail(item.image, PICTURE_PIXELS)).decode()
        picture = f'<img alt="item {item.row}" src="data:image/png;base64,{encoded}">'
    classes = f"<p><strong>{escape(item.classes)}</strong></p>" if item.classes else ""
    words = f"<p>{escape(shorten(item.words, TEXT_CHARACTERS))}</p>" if item.words else ""
    return f"{picture}{classes}{words}<p>{escape(view)} of item {item.row}</p>"
