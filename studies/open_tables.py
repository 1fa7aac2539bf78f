"""Measured tables that no result file fills, and the captions that say where their figures come from.

A table is measured if one of its cells has a decimal number outside code and links; others list options or formats.
OPEN lists the tables without a result file by page and section, with their number and the cost of making them again. A
test compares the list with the pages: a new measured table needs a result file, and a table that gets one is removed
from the list.

The paragraph before such a table is its caption, or ends with it:

    Measured on 2026-11-27 (commit 13a0b9526) on 2 idle cores of an AMD EPYC by `python benchmarks/serve.py`.

A test fails if a caption is missing, except on the pages of WITHOUT_CAPTION.
"""

import re
from collections import Counter
from typing import NamedTuple

from write_tables import TABLE

DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+\b")
CODE_AND_LINKS = re.compile(r"`[^`]*`|\]\([^)]*\)")
PARTS = re.compile(r"^#+ (?P<section>.*)$|^(?P<table>(?:\|.*(?:\n|\Z))+)", re.MULTILINE)
CAPTION = re.compile(
    r"(?:Measured|Computed) on (?P<date>\d{4}-\d\d-\d\d) \(commit (?P<commit>[0-9a-f]{7,40})\) "
    r"on (?P<machine>[^`|]+?) by `(?P<command>[^`]+)`"
)

NOT_MEASURED = "not measured"
IDLE = "times: a machine without other work"
JOINT = "joint training, hours"
# Pages whose tables have no caption yet.
WITHOUT_CAPTION = ("docs/indexes.md", "docs/speed.md")
OPEN = {
    "docs/cross_modal.md": {
        "Cost of a fit": (1, IDLE),
    },
    "docs/data.md": {
        "Sources and licences": (1, f"{NOT_MEASURED}: versions of licences"),
        "Large matrices": (1, IDLE),
    },
    "docs/embeddings.md": {"Measurements": (2, "40 minutes")},
    "docs/indexes.md": {"Measurements": (1, f"{IDLE}; a PostgreSQL server for two rows")},
    "docs/joint.md": {
        "Neighbours by label": (2, JOINT),
        "From pixels": (1, "33 minutes a length"),
    },
    "docs/results.md": {
        "Projections in the GRH paper": (1, "an hour"),
        "Time and memory": (1, IDLE),
    },
    "docs/satisfaction.md": {"The users": (1, f"{NOT_MEASURED}: settings of the users")},
    "docs/scale.md": {
        "Under load": (1, IDLE),
        "The model": (1, IDLE),
        "Constants": (1, f"{IDLE}; a GPU for some rows"),
        "Memory, machines, money, latency": (1, IDLE),
        "Check against measurements": (3, IDLE),
        "Workers against one": (1, IDLE),
    },
    "docs/speed.md": {
        "On a GPU": (1, "a GPU"),
    },
    "docs/text.md": {"Measurements": (1, "25 minutes")},
}


class OpenTable(NamedTuple):
    """A measured table without a result file: its section, and its caption if it has one."""

    section: str
    caption: re.Match[str] | None


def list_open_tables(page: str) -> list[OpenTable]:
    """Return the measured tables without a result file of a page, in order."""
    section, found, text = "", [], TABLE.sub("", page)
    for part in PARTS.finditer(text):
        section = part["section"] or section
        if part["table"] and DECIMAL.search(CODE_AND_LINKS.sub("", part["table"])):
            paragraph = text[: part.start()].rstrip().rpartition("\n\n")[2]
            found.append(OpenTable(section, CAPTION.search(" ".join(paragraph.split()))))
    return found


def find_open_tables(page: str) -> dict[str, int]:
    """Return the number of measured tables without a result file by the section of a page."""
    return dict(Counter(table.section for table in list_open_tables(page)))
