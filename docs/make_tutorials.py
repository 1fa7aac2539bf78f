"""A hook of MkDocs: the notebooks of `examples/` become pages, with their stored outputs.

Pages are Markdown like the others, so formulas, the search and links work in the same way, and no page needs a script
from another host. Notebooks are not executed here: `examples/run.py` stores their outputs, and a test compares them.
"""

import base64
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FOLDER = "tutorials"
# Kinds of outputs that pages show, the first that an output has.
MARKDOWN, PNG, TEXT = "text/markdown", "image/png", "text/plain"
# Characters of a line of output that a page of 1280 pixels shows without scrolling.
WIDTH = 110


def list_notebooks(config: MkDocsConfig) -> list[Path]:
    """Return the notebooks in the order of their numbers."""
    return sorted((Path(config.docs_dir).parent / "examples").glob("*.ipynb"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the notebooks to the section Tutorials of the navigation."""
    assert config.nav is not None
    tutorials = next(section["Tutorials"] for section in config.nav if "Tutorials" in section)
    tutorials += [f"{FOLDER}/{path.stem}.md" for path in list_notebooks(config)]
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages, their figures, and the notebooks for download."""
    for path in list_notebooks(config):
        text, figures = render_notebook(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"{FOLDER}/{path.stem}.md", content=text))
        files.append(File.generated(config, f"{FOLDER}/{path.name}", content=path.read_bytes()))
        for name, content in figures.items():
            files.append(File.generated(config, f"{FOLDER}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point the links of the list of tutorials, which lead to notebooks in the repository, at their pages."""
    return re.sub(r"\(\.\./\.\./examples/(\w+)\.ipynb\)", r"(\1.md)", markdown)


def render_notebook(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of a notebook and its figures by file name."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(relink(source))
            continue
        parts.append(fence(source, "python"))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if output["output_type"] == "stream":
                parts.append(fence(wrap("".join(output["text"])), "text"))
            elif MARKDOWN in data:
                parts.append("".join(data[MARKDOWN]))
            elif PNG in data:
                name = f"{stem}-{len(figures)}.png"
                figures[name] = base64.b64decode("".join(data[PNG]))
                parts.append(f"![{cell['metadata'].get('alt', '')}]({name})")
            elif TEXT in data:
                parts.append(fence(wrap("".join(data[TEXT])), "text"))
    title, _, rest = "\n\n".join(parts).partition("\n")
    note = f"This page is a notebook: [download it]({stem}.ipynb) and run it."
    return f"{title}\n\n{note}\n{rest}\n", figures


def relink(source: str) -> str:
    """Point links to `docs/` and to other notebooks, which work in the repository, at pages of the site."""
    source = re.sub(r"\]\(\.\./docs/", "](../", source)
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source)


def wrap(text: str) -> str:
    """Return an output with its long lines wrapped between words, with a hanging indent."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=indent) if len(line) > WIDTH else [line]
    return "\n".join(lines)


def fence(text: str, language: str) -> str:
    """Return a block of code, with a fence longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    text = text.strip("\n")
    return f"{ticks}{language}\n{text}\n{ticks}"
