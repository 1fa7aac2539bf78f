"""A hook of MkDocs: formulas become MathML while the pages are built, so that readers need no script and no network."""

import html
import re
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert

# What pymdownx.arithmatex writes, with generic: true.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
MATHML = "http://www.w3.org/1998/Math/MathML"
BARS = ("|", "\u2016")


def on_page_content(content: str, **_: Any) -> str:
    """Return the HTML of a page with its formulas as MathML."""
    return FORMULA.sub(render, content)


def render(found: re.Match[str]) -> str:
    """Return the MathML of a formula, on a line of its own if it was displayed."""
    formula = html.unescape(found[3])
    if found[2] == "(":
        return tidy(str(convert(formula, display="inline")))
    return f'<div class="formula">{tidy(str(convert(formula, display="block")))}</div>'


def tidy(mathml: str) -> str:
    """Return MathML whose bars have one size, and whose displayed limits are below min and max.

    A bar stretches over the formula beside it, but not if it has an exponent: ‖x‖² would have bars of two sizes.
    """
    ElementTree.register_namespace("", MATHML)
    root = ElementTree.fromstring(mathml)
    for element in root.iter():
        if element.tag == f"{{{MATHML}}}mo" and element.text in BARS:
            element.attrib.setdefault("stretchy", "false")
        limits = element.tag == f"{{{MATHML}}}msub" and element[0].text in ("min", "max")
        if limits and root.get("display") == "block":
            element.tag = f"{{{MATHML}}}munder"
    return ElementTree.tostring(root, encoding="unicode")
