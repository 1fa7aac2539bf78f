"""Tables of docs/streams.md from the runs of sweeps over streams.

python benchmarks/stream_study.py multirun/streams
python benchmarks/stream_study.py --ours streaming_itq_cca --anew itq_cca ours anew published

With --ours and --anew a second table pairs the runs of the same draw: what learns from the stream against what is
refitted, and against each other method in every phase, from one change of the stream to the next.
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
# Heading of a paired figure, where it lies, whether ours stands above the line or below.
RATIOS = (
    ("area", ("metrics", "area"), True),
    ("final mAP", ("metrics", "mAP"), True),
    ("seconds of learning, anew over ours", ("processor_seconds", "learn"), False),
    ("items re-encoded, anew over ours", ("metrics", "reencoded_items"), False),
)


def runs(folders):
    """Result rows by stream and bits, by method and policy, by seed."""
    groups = defaultdict(lambda: defaultdict(dict))
    for path in sorted(path for folder in folders for path in Path(folder).glob("*/metrics.json")):
        row = json.loads(path.read_text())
        row["history"] = json.loads((path.parent / "history.json").read_text())
        stream = row["stream"]
        if stream == "feature_drift":
            stream += f" stream.kind={OmegaConf.load(path.parent / 'config.yaml').stream.kind}"
        groups[stream, row["bits"]][row["method"], row["reencoding"]][row["seed"]] = row
    return groups


def cell(values, decimals):
    """Mean, with half the 95 % interval where there are several draws; a dash where no run has the figure."""
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return "–"
    text = f"{known.mean():,.{decimals}f}"
    if len(known) == 1:
        return text
    return f"{text} ± {mean_interval(known).half_width:,.{decimals}f}"


def figures(lines):
    """A table of all methods, by falling area."""
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


def phases(row):
    """Mean mAP from each change to the next; of the whole stream where it never changes at once."""
    edges = [*(row["changes"] or [0]), row["sizes"]["stream"] + 1]
    return [
        np.mean([entry["mAP"] for entry in row["history"] if start < entry["seen"] <= stop])
        for start, stop in pairwise(edges)
    ]


def pairs(lines, ours, anew):
    """Ratios by draw, in the mean and from the lowest to the highest."""
    named = {method: rows for (method, _), rows in lines.items()}

    def drawn(method):
        rows, others = named[ours], named.get(method, {})
        return [(rows[seed], others[seed]) for seed in sorted(rows.keys() & others.keys())]

    ratios = {}
    for name, (a, b), above in RATIOS:
        parts = [(one[a][b], other[a][b])[:: 1 if above else -1] for one, other in drawn(anew)]
        ratios[name] = [[top / bottom] for top, bottom in parts if bottom]
    for method in sorted(named.keys() - {ours, anew}):
        ratios[f"each phase's mAP over {method}"] = [
            np.divide(phases(one), phases(other)) for one, other in drawn(method)
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
    parser.add_argument("folders", nargs="+", help="of sweeps")
    parser.add_argument("--ours", help="method that learns from the stream")
    parser.add_argument("--anew", help="method that is refitted")
    arguments = parser.parse_args()
    for (stream, bits), lines in sorted(runs(arguments.folders).items()):
        print(f"`stream={stream}`, {bits} bits:\n")
        print(figures(lines))
        if arguments.ours and arguments.anew:
            print(pairs(lines, arguments.ours, arguments.anew))


if __name__ == "__main__":
    main()
