"""A hook of MkDocs: formulas become MathML while the pages are built, so that readers need no script and no network."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex writes, with generic: true.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Return the HTML of a page with its formulas as MathML."""
    return FORMULA.sub(render, content)


def render(found: re.Match[str]) -> str:
    """Return the MathML of a formula, on a line of its own if it was displayed."""
    formula = html.unescape(found[3])
    if found[2] == "(":
        return str(convert(formula, display="inline"))
    return f'<div class="formula">{convert(formula, display="block")}</div>'
