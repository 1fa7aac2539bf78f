"""Links between the pages of the repository lead somewhere: files exist, and so do the headings of anchors.

A link must work on the built site and in a viewer of the repository, so an anchor must be one that both give to a
heading.
"""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "studies", "benchmarks", "tests", ".github")
PATTERNS = ("*.md", *(f"{name}/**/*.md" for name in FOLDERS), "examples/*.ipynb")
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
# Files that the reader of a page writes, and a folder of the wheel.
ABSENT = {
    "deephash/projections/example.py",
    "conf/method/example.yaml",
    "tests/projections/test_example.py",
    "conf/data/mine.yaml",
    "deephash/conf",
}


def read(page):
    """The Markdown of a page; of a notebook, that of its cells of text."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def prose(text):
    """The text of a page without its code: links in code are not links."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "``", text)


def anchors(text):
    """Anchors that both MkDocs and GitHub give to the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found, repeated = set(), set()
    for heading in re.findall(r"^#+ +(.+?)(?: +#+)?$", text, flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        letters = re.sub(r"[^\w\s-]", "", words).strip()
        if re.sub(r"[-\s]+", "-", letters) == letters.replace(" ", "-"):
            anchor = letters.replace(" ", "-")
            repeated |= {anchor} & found  # The site and GitHub number them differently.
            found.add(anchor)
    return found - repeated


def faults(page):
    """What is wrong with each relative link of a page."""
    text = read(page)
    targets = re.findall(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)", prose(text))
    targets += re.findall(r"^ *\[[^\]]+\]: +(\S+)", prose(text), flags=re.MULTILINE)
    targets += re.findall(r"<(?:a|img)\b[^>]*\b(?:href|src)=\"([^\"]+)\"", prose(text))
    for target in targets:
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        linked = (page.parent / name).resolve() if name else page
        if name.startswith("/") or not linked.exists():
            yield f"{target}: no such file"
        elif anchor and (linked.suffix != ".md" or anchor not in anchors(read(linked))):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    assert list(faults(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    text = read(page)
    if page.name == "CHANGELOG.md":  # It also names files of earlier versions.
        return
    named = re.findall(r"`((?:\.ci|benchmarks|conf|deephash|docs|studies|tests)/[^`\s:]+)`", text)
    paths = {path for path in named if not re.search(r"[A-Z<{]", path)} - ABSENT
    assert [path for path in paths if not list(ROOT.glob(path.rstrip("/")))] == []


def test_links_of_all_forms_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# One `two`\n\n## Three\n\n## Three\n\n## Four & five\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n\n[a](other.md) [b](other.md#one-two) [c](#here) [d](https://example.org) `[e](code.md)`\n"
        "```\n[f](block.md)\n```\n[g](missing.md) ![h](missing.png) [i](other.md#three) [j](other.md#four-five)\n"
        '[k](#there) <img src="picture.png"> [l][m]\n\n[m]: reference.md\n[n](missing%20file.md "title")\n'
    )
    notebook = tmp_path / "notebook.ipynb"
    cells = [("markdown", "[o](other.md) [p](gone.md)"), ("code", "# [q](code.md)")]
    notebook.write_text(json.dumps({"cells": [{"cell_type": kind, "source": [text]} for kind, text in cells]}))
    assert list(faults(notebook)) == ["gone.md: no such file"]
    found = [fault.partition(":")[0] for fault in faults(page)]
    files = ["missing.md", "missing.png", "missing%20file.md", "reference.md", "picture.png"]
    assert sorted(found) == sorted([*files, "other.md#three", "other.md#four-five", "#there"])
