"""The page of some queries of each view with what they found in the other: what the pictures cannot show of texts."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

# Letters of a text that a card shows.
TEXT_LETTERS = 160
# Side of a picture on the page; larger ones are made smaller.
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
class ShownItem:
    """An item as a card shows it.

    Args:
        row: in the data set.
        classes: names of its classes; empty without labels.
        words: its text, or empty.
        image: uint8 (h, w) or (h, w, 3), or None.
    """

    row: int
    classes: str = ""
    words: str = ""
    image: np.ndarray | None = None


@dataclass(frozen=True)
class Found:
    """An item that a query found.

    Args:
        item: the item.
        distance: of the codes.
        relevant: whether it is relevant to the query.
    """

    item: ShownItem
    distance: int
    relevant: bool


def neighbours_page(
    title: str, directions: Mapping[tuple[str, str], Sequence[tuple[ShownItem, Sequence[Found]]]]
) -> str:
    """The page, whole in itself: its style and pictures are in it, and it runs no script.

    Args:
        title: of the result.
        directions: by the view that asks and the view that is searched, each query with what it found, nearest first.
    """
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        "<p>Some queries, each with the first items of the other view. ✓ and a full frame: relevant; "
        "✗ and a broken frame: not. Items at one distance are tied; their order here is that of the database.</p>\n"
    ]
    for (asking, searched), queries in directions.items():
        parts.append(f"<h2>{escape(asking)} → {escape(searched)}</h2>\n")
        for query, found in queries:
            hits = sum(one.relevant for one in found)
            parts.append(
                f'<section>\n<div class="card ask">{_item(query, asking)}<p>{hits} of {len(found)} relevant</p></div>\n'
                f'<ol class="found">\n{"".join(_card(one, searched) for one in found)}</ol>\n</section>\n'
            )
    # Names of files may hold bytes that are no text.
    return "".join([*parts, "</body>\n</html>\n"]).encode(errors="xmlcharrefreplace").decode()


def _card(found: Found, view: str) -> str:
    kind, mark, said = ("good", "✓", "relevant") if found.relevant else ("bad", "✗", "not relevant")
    told = f'<span class="mark" title="{said}">{mark}</span> distance {found.distance}'
    return f'<li class="card {kind}">{told}{_item(found.item, view)}</li>\n'


def _item(item: ShownItem, view: str) -> str:
    """What stands on an item's card: its picture where it has one, class, words and row."""
    picture = "" if item.image is None else f'<img alt="item {item.row}" src="{_data_uri(item.image)}">'
    classes = f"<p><strong>{escape(item.classes)}</strong></p>" if item.classes else ""
    words = item.words if len(item.words) <= TEXT_LETTERS else item.words[: TEXT_LETTERS - 1].rstrip() + "…"
    words = f"<p>{escape(words)}</p>" if words else ""
    return f"{picture}{classes}{words}<p>{escape(view)} of item {item.row}</p>"


def _data_uri(image: np.ndarray) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
