"""Measured tables that no result file fills yet.

A table is measured if one of its cells has a decimal number outside code and links; others list options or formats.
OPEN lists the tables without a result file by page and section, with their number and the cost of making them again. A
test compares the list with the pages: a new measured table needs a result file, and a table that gets one is removed
from the list.
"""

import re
from collections import Counter

from write_tables import TABLE

DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+\b")
CODE_AND_LINKS = re.compile(r"`[^`]*`|\]\([^)]*\)")
PARTS = re.compile(r"^#+ (?P<section>.*)$|^(?P<table>(?:\|.*(?:\n|\Z))+)", re.MULTILINE)

NOT_MEASURED = "not measured"
IDLE = "times: a machine without other work"
JOINT = "joint training, hours"
OPEN = {
    "docs/cross_modal.md": {
        "Joint training across views": (1, JOINT),
        "Cost of a fit": (1, IDLE),
    },
    "docs/data.md": {
        "Sources and licences": (1, f"{NOT_MEASURED}: versions of licences"),
        "Large matrices": (1, IDLE),
    },
    "docs/embeddings.md": {"Measurements": (2, "40 minutes")},
    "docs/indexes.md": {"Measurements": (1, f"{IDLE}; a PostgreSQL server for two rows")},
    "docs/joint.md": {
        "Summary of gains": (1, "a summary of the tables below it"),
        "Against its own start": (4, JOINT),
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
}


def find_open_tables(page: str) -> dict[str, int]:
    """Return the number of measured tables without a result file by the section of a page."""
    section, found = "", Counter[str]()
    for part in PARTS.finditer(TABLE.sub("", page)):
        section = part["section"] or section
        if part["table"] and DECIMAL.search(CODE_AND_LINKS.sub("", part["table"])):
            found[section] += 1
    return dict(found)
