"""Fill the tables of README.md and docs/ from the result files in studies/results.

python studies/write_tables.py             rewrites each table that differs from its result file
python studies/write_tables.py --check     names these tables without changing them; exit status 1 if there are any
"""

import argparse
import re
import sys
from pathlib import Path

from page_tables import all_tables

from deephash.io.files import write_text
from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"<!-- (table:|end table)")
TABLE = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end table -->)", re.DOTALL)


def find_pages(root: Path = ROOT) -> list[Path]:
    """Return README.md and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def fill_tables(page: str) -> tuple[str, list[str]]:
    """Return a page with its tables made from result files, and the names of the tables that change.

    Raises:
        InvalidInputError: no function makes a table of this name, or a table has no end.
    """
    tables, changed = all_tables(), []
    marks = MARK.findall(page)
    if marks != ["table:", "end table"] * (len(marks) // 2):
        raise InvalidInputError(
            "a table does not end before the next one starts; put `<!-- end table -->` after each table."
        )

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

    return TABLE.sub(fill, page), changed


def main() -> None:
    """Rewrite or check the tables of all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args()
    differing = []
    for path in find_pages():
        page, changed = fill_tables(path.read_text(encoding="utf-8"))
        differing += [f"{path.relative_to(ROOT)}: {name}" for name in changed]
        if changed and not arguments.check:
            write_text(path, page)
    print("\n".join(differing) or "all tables agree with their result files")
    sys.exit(arguments.check and bool(differing))


if __name__ == "__main__":
    main()
