"""Compare joint training with the fits that it starts from, in tables of a sweep of experiment=joint_*.

python studies/joint.py multirun/joint_labels                        mAP, pipeline by pipeline
python studies/joint.py multirun/joint_epsilon_ball --metric AUPRC_micro
python studies/joint.py multirun/joint_ablation --across loss        only joint runs, by another column
python studies/joint.py multirun/joint_labels --curves curves.png    validation score by epoch, with its spread

Joint training of each pipeline is compared with its own fit, and the best joint training with the best fit, on the same
draws.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from deephash.metrics.confidence import mean_interval, wilcoxon
from deephash.report.drawing import save_figure
from deephash.report.paired_gains import compute_gains, find_best, format_gains
from deephash.report.tables import markdown_table


def read_rows(folder):
    """Read the result rows of a sweep, each with its folder."""
    return [
        json.loads(path.read_text(encoding="utf-8")) | {"folder": path.parent}
        for path in sorted(folder.rglob("metrics.json"))
    ]


def compare_best(rows, gains, metric, columns):
    """Compare the best fit of each code length with the best joint training, paired by draw."""
    lines = []
    for bits, fitted in find_best(gains, "before").items():
        trained = find_best(gains, "after")[bits]

        def scores(gain, train, bits=bits):
            return {
                row["seed"]: row["metrics"][metric]
                for row in rows
                if row["train"] == train
                and row["bits"] == bits
                and tuple(str(row.get(c)) for c in columns) == gain.pipeline
            }

        one, other = scores(fitted, "fit"), scores(trained, "joint")
        shared = sorted(one.keys() & other.keys())
        first, second = (np.array([side[seed] for seed in shared]) for side in (one, other))
        p_value = wilcoxon(second, first).p_value if len(shared) > 1 else float("nan")
        lines.append(
            f"{bits} bits: best fit {' · '.join(fitted.pipeline)} {first.mean():.4f}, best joint "
            f"{' · '.join(trained.pipeline)} {second.mean():.4f} ({100 * (second.mean() / first.mean() - 1):+.1f} %, "
            f"p = {p_value:.4f}, better in {int((second > first).sum())} of {len(shared)} draws)"
        )
    return lines


def format_groups(rows, metric, columns):
    """Format the means and 95 % intervals of joint runs, grouped by columns."""
    groups = {}
    for row in rows:
        if row["train"] == "joint":
            groups.setdefault((*(str(row.get(c)) for c in columns), row["bits"]), []).append(row)
    table = []
    for key, found in sorted(groups.items(), key=str):
        scores = np.array([row["metrics"][metric] for row in found])
        interval = mean_interval(scores) if len(scores) > 1 else None
        spread = f" ± {(interval.high - interval.low) / 2:.4f}" if interval else ""
        start = np.mean([row["training"]["start"] for row in found])
        best = np.mean([row["training"]["best"] for row in found])
        cells = (f"{start:.4f}", f"{best:.4f}", f"{scores.mean():.4f}{spread}", str(len(scores)))
        table.append((*map(str, key), *cells))
    header = (*columns, "bits", "start (validation)", "kept (validation)", metric, "draws")
    return markdown_table(header, table, right=range(len(columns), len(header)))


def draw_curves(rows, columns):
    """Draw the validation score by epoch: mean and range over draws for each pipeline, a panel for each length."""
    from matplotlib.figure import Figure

    lengths = sorted({row["bits"] for row in rows if "training" in row})
    figure = Figure(figsize=(4 * len(lengths), 3.6), layout="constrained")
    for axes, bits in zip(np.atleast_1d(figure.subplots(1, len(lengths), sharey=True)), lengths, strict=True):
        groups = {}
        for row in rows:
            if "training" in row and row["bits"] == bits:
                history = json.loads((row["folder"] / "history.json").read_text(encoding="utf-8"))
                course = {entry["epoch"]: entry["validation"][history["metric"]] for entry in history["epochs"]}
                groups.setdefault(" · ".join(str(row.get(c)) for c in columns), []).append(course)
        for name, courses in groups.items():
            epochs = sorted(set.intersection(*(set(course) for course in courses)))
            values = np.array([[course[epoch] for epoch in epochs] for course in courses])
            axes.plot(epochs, values.mean(0), label=name)
            axes.fill_between(epochs, values.min(0), values.max(0), alpha=0.15)
        axes.set(title=f"{bits} bits", xlabel="epoch")
    axes.legend(fontsize="x-small")
    np.atleast_1d(figure.axes)[0].set_ylabel("validation score")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metric", default="mAP")
    parser.add_argument("--across", nargs="+", help="columns of the result row that distinguish joint runs")
    parser.add_argument("--columns", nargs="+", default=["method", "quantizer", "encoder"])
    parser.add_argument("--curves", type=Path, help="draw learning curves into this file")
    arguments = parser.parse_args()
    rows = read_rows(arguments.folder)
    if arguments.curves:
        save_figure(draw_curves(rows, arguments.across or arguments.columns), arguments.curves)
    if arguments.across:
        print(format_groups(rows, arguments.metric, arguments.across))
        return
    gains = compute_gains(rows, arguments.metric, pipeline=arguments.columns)
    print(f"{arguments.metric}\n\n{format_gains(gains)}\n")
    print("\n".join(compare_best(rows, gains, arguments.metric, arguments.columns)))


if __name__ == "__main__":
    main()
