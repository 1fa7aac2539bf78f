"""Tables of docs/streams.md from the runs of a sweep over streams.

python benchmarks/stream_study.py multirun/streams
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from deephash.metrics.confidence import mean_interval
from deephash.report.tables import markdown_table

# Heading, where in a result row the figure lies, decimals.
COLUMNS = (
    ("area", ("metrics", "area"), 4),
    ("final mAP", ("metrics", "mAP"), 4),
    ("lag", ("metrics", "lag"), 0),
    ("forgetting", ("metrics", "forgetting"), 4),
    ("re-encoded", ("metrics", "reencoded_items"), 0),
    ("s learning", ("processor_seconds", "learn"), 2),
    ("s re-encoding", ("processor_seconds", "reencode"), 2),
)


def cell(values, decimals):
    """Mean, with half the 95 % interval where there are several draws; a dash where no run has the figure."""
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return "–"
    text = f"{known.mean():,.{decimals}f}"
    if len(known) == 1:
        return text
    interval = mean_interval(known)
    return f"{text} ± {(interval.high - interval.low) / 2:,.{decimals}f}"


def tables(folder):
    """A table for each stream and code length, the methods by falling area."""
    groups = defaultdict(lambda: defaultdict(list))
    for path in sorted(Path(folder).glob("*/metrics.json")):
        row = json.loads(path.read_text())
        groups[row["stream"], row["bits"]][row["method"], row["reencoding"]].append(row)
    for (stream, bits), lines in sorted(groups.items()):
        draws = max(map(len, lines.values()))
        print(f"`stream={stream}`, {bits} bits, {draws} draw{'s' if draws > 1 else ''}:\n")
        ordered = sorted(lines.items(), key=lambda item: -np.mean([row["metrics"]["area"] for row in item[1]]))
        cells = [
            (*line, *(cell([row[place[0]][place[1]] for row in rows], decimals) for _, place, decimals in COLUMNS))
            for line, rows in ordered
        ]
        header = ("method", "re-encoding", *(name for name, _, _ in COLUMNS))
        print(markdown_table(header, cells, right=range(2, len(header))))


if __name__ == "__main__":
    tables(sys.argv[1])
