"""Figures of sweeps over streams, beyond the tables of docs/streams.md: lag, forgetting, and ratios by phase.

python studies/streams.py multirun/policies
python studies/streams.py --online streaming_itq_cca --refitted itq_cca ours refitted published

With --online and --refitted, a second table pairs runs of the same draw: the method that learns from the stream against
the refitted method, and against each other method in every phase from one change of the stream to the next.
"""

import argparse
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from deephash.metrics.confidence import mean_interval
from deephash.report.tables import markdown_table

# Heading, keys of the figure in a result row, decimals.
COLUMNS = (
    ("area", ("metrics", "area"), 4),
    ("final mAP", ("metrics", "mAP"), 4),
    ("lag", ("metrics", "lag"), 0),
    ("forgetting", ("metrics", "forgetting"), 4),
    ("re-encoded", ("metrics", "reencoded_items"), 0),
    ("s learning", ("processor_seconds", "learn"), 2),
    ("s re-encoding", ("processor_seconds", "reencode"), 2),
)
# Heading of a paired figure, its keys in a result row, whether the online method is the numerator.
RATIOS = (
    ("area", ("metrics", "area"), True),
    ("final mAP", ("metrics", "mAP"), True),
    ("seconds of learning, refitted over online", ("processor_seconds", "learn"), False),
    ("items re-encoded, refitted over online", ("metrics", "reencoded_items"), False),
)


def read_runs(folders):
    """Read result rows, grouped by stream and bits, then by method and policy, then by seed."""
    groups = defaultdict(lambda: defaultdict(dict))
    for path in sorted(path for folder in folders for path in Path(folder).glob("*/metrics.json")):
        row = json.loads(path.read_text())
        if "unlabelled" not in row:
            raise SystemExit(f"{path} is of a version that encoded items after learning from them; run it again.")
        row["history"] = json.loads((path.parent / "history.json").read_text())
        stream = row["stream"]
        if stream == "feature_drift":
            stream += f" stream.kind={OmegaConf.load(path.parent / 'config.yaml').stream.kind}"
        groups[stream, row["bits"]][row["method"], row["reencoding"]][row["seed"]] = row
    return groups


def cell(values, decimals):
    """Format the mean, with half the 95 % interval if there are several draws; a dash if no run has the figure."""
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return "–"
    text = f"{known.mean():,.{decimals}f}"
    if len(known) == 1:
        return text
    return f"{text} ± {mean_interval(known).half_width:,.{decimals}f}"


def figures_table(lines):
    """Format a table of all methods, in order of decreasing area."""
    ordered = sorted(lines.items(), key=lambda item: -np.mean([row["metrics"]["area"] for row in item[1].values()]))
    cells = [
        (
            *line,
            str(len(rows)),
            *(cell([row[a][b] for row in rows.values()], decimals) for _, (a, b), decimals in COLUMNS),
        )
        for line, rows in ordered
    ]
    header = ("method", "re-encoding", "draws", *(name for name, _, _ in COLUMNS))
    return markdown_table(header, cells, right=range(2, len(header)))


def phase_means(row):
    """Return the mean mAP from each change to the next, or of the whole stream if it has no abrupt change."""
    edges = [*(row["changes"] or [0]), row["sizes"]["stream"] + 1]
    return [
        np.mean([entry["mAP"] for entry in row["history"] if start < entry["seen"] <= stop])
        for start, stop in pairwise(edges)
    ]


def pairs_table(lines, online, refitted):
    """Format ratios between paired runs: mean, lowest and highest over draws."""
    named = {method: rows for (method, _), rows in lines.items()}

    def paired_rows(method):
        rows, others = named[online], named.get(method, {})
        return [(rows[seed], others[seed]) for seed in sorted(rows.keys() & others.keys())]

    ratios = {}
    for name, (a, b), above in RATIOS:
        parts = [(ours[a][b], theirs[a][b])[:: 1 if above else -1] for ours, theirs in paired_rows(refitted)]
        ratios[name] = [[top / bottom] for top, bottom in parts if bottom]
    for method in sorted(named.keys() - {online, refitted}):
        ratios[f"each phase's mAP over {method}"] = [
            np.divide(phase_means(ours), phase_means(theirs)) for ours, theirs in paired_rows(method)
        ]
    cells = [
        (
            name,
            str(len(draws)),
            cell([np.mean(draw) for draw in draws], 3),
            *(f"{f(draws):.3f}" for f in (np.min, np.max)),
        )
        for name, draws in ratios.items()
        if draws
    ]
    return markdown_table(("ratio", "draws", "mean", "lowest", "highest"), cells, right=range(1, 5))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="folders of sweeps")
    parser.add_argument("--online", help="method that learns from the stream")
    parser.add_argument("--refitted", help="method that is refitted")
    arguments = parser.parse_args()
    for (stream, bits), lines in sorted(read_runs(arguments.folders).items()):
        print(f"`stream={stream}`, {bits} bits:\n")
        print(figures_table(lines))
        if arguments.online and arguments.refitted:
            print(pairs_table(lines, arguments.online, arguments.refitted))


if __name__ == "__main__":
    main()
