"""Fill the tables of README.md and docs/, and figures in their sentences, from the result files in studies/results.

python studies/write_tables.py             rewrites each table and figure that differs from its result file
python studies/write_tables.py --check     names these without changing them; exit status 1 if there are any
"""

import argparse
import re
import sys
from pathlib import Path

from page_tables import all_figures, all_tables

from deephash.io.files import write_text
from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"<!-- (table:|end table)")
TABLE = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end table -->)", re.DOTALL)
FIGURE = re.compile(r"(<!-- figure: (\S+) -->)([^<]*)(<!-- end figure -->)")


def find_pages(root: Path = ROOT) -> list[Path]:
    """Return README.md and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def fill_tables(page: str) -> tuple[str, list[str]]:
    """Return a page with its tables and figures made from result files, and the names of those that change.

    Raises:
        InvalidInputError: no function makes a table or figure of this name, or one has no end.
    """
    tables, figures, changed = all_tables(), all_figures(), []
    marks = MARK.findall(page)
    if marks != ["table:", "end table"] * (len(marks) // 2):
        raise InvalidInputError(
            "a table does not end before the next one starts; put `<!-- end table -->` after each table."
        )

    if page.count("<!-- figure:") != len(FIGURE.findall(page)):
        raise InvalidInputError("a figure has no end; put `<!-- end figure -->` after it.")
    if re.search(r"^ *<!-- figure:", page, re.MULTILINE):
        raise InvalidInputError("a figure begins a line, which Markdown reads as a block; begin the line with a word.")

    def fill_figure(found: re.Match[str]) -> str:
        start, name, old, end = found.groups()
        if name not in figures:
            raise InvalidInputError(f"no figure is named {name!r}; expected one of {', '.join(sorted(figures))}.")
        new = figures[name]()
        if new == " ".join(old.split()):  # a line may break within it
            return found[0]
        changed.append(name)
        return start + new + end

    def fill(found: re.Match[str]) -> str:
        start, name, body, end = found.groups()
        if name not in tables:
            raise InvalidInputError(
                f"no table is named {name!r}; add a function for it to a module of studies/page_tables."
            )
        table = tables[name]().strip() + "\n"
        if table != body:
            changed.append(name)
        return start + table + end

    return FIGURE.sub(fill_figure, TABLE.sub(fill, page)), changed


def main() -> None:
    """Rewrite or check the tables and figures of all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args()
    differing = []
    for path in find_pages():
        page, changed = fill_tables(path.read_text(encoding="utf-8"))
        differing += [f"{path.relative_to(ROOT)}: {name}" for name in changed]
        if changed and not arguments.check:
            write_text(path, page)
    print("\n".join(differing) or "all tables and figures agree with their result files")
    sys.exit(arguments.check and bool(differing))


if __name__ == "__main__":
    main()
