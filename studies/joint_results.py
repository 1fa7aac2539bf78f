"""Result files of the comparison of joint training with the best two-step pipelines, and the tables made from them.

python studies/joint_results.py record joint_best multirun/joint_auprc multirun/joint_map --commands "python ..."
python studies/joint_results.py table joint_best          joint training against the best fit, for each metric
python studies/joint_results.py best joint_decoupled      the best two-step pipelines on validation queries
python studies/joint_results.py variants joint_map_causes          means over draws of runs with one name
"""

import argparse
import datetime
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joint import read_rows

from deephash.metrics.confidence import FEWEST_PAIRS, mean_interval, wilcoxon
from deephash.report.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
METRICS = ("AUPRC_micro", "mAP")
FIELDS = ("method", "quantizer", "train", "loss", "bits", "seed", *METRICS, "skipped_queries", "run")


def build_record(name: str, rows: Iterable[Mapping[str, Any]], commands: Sequence[str], commit: str) -> dict[str, Any]:
    """Build the content of a result file: a list a run, with scores of five digits and the name of its folder."""
    runs = sorted(
        ([{**row, **row["metrics"], "run": row["folder"].name}.get(field) for field in FIELDS] for row in rows),
        key=lambda run: (*map(str, run[:4]), *run[4:6], run[-1]),
    )
    return {
        "name": name,
        "commands": list(commands),
        "commit": commit,
        "machine": f"{platform.machine()}, 1 thread",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "fields": list(FIELDS),
        "runs": [[round(value, 5) if isinstance(value, float) else value for value in run] for run in runs],
    }


def format_record(record: Mapping[str, Any]) -> str:
    """Format a result file as JSON with sorted keys, one run a line."""
    rest = {key: value for key, value in record.items() if key != "runs"}
    head = json.dumps(rest | {"runs": []}, indent=1, sort_keys=True)
    runs = ",\n".join(f"  {json.dumps(run)}" for run in record["runs"])
    return head.replace('"runs": []', f'"runs": [\n{runs}\n ]') + "\n"


def read_record(path: Path) -> list[dict[str, Any]]:
    """Read the runs of a result file as dictionaries."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return [dict(zip(record["fields"], run, strict=True)) for run in record["runs"]]


def describe(scores: np.ndarray) -> str:
    """Format a mean with its 95 % t-interval and range: ".3890 ± .0042 (.380 to .397)"."""
    spread = f" ± {mean_interval(scores).half_width:.4f}" if len(scores) > 1 else ""
    text = f"{scores.mean():.4f}{spread} ({scores.min():.3f} to {scores.max():.3f})"
    return text.replace("0.", ".")


def compare(runs: Sequence[Mapping[str, Any]], metric: str, bits: int) -> tuple[str, ...]:
    """Compare the best fit with the best joint training of one metric and length, paired by draw; a table's row.

    The best are those of the highest mean over the draws that all of them have.
    """
    scores: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for run in runs:
        if run["bits"] == bits:
            name = (run["train"], run["method"], run["quantizer"], run["loss"])
            scores.setdefault(name, {})[run["seed"]] = run[metric]
    common = set.intersection(*(set(draws) for draws in scores.values()))
    best = {}
    for train in ("fit", "joint"):
        found = [(name[1:], draws) for name, draws in scores.items() if name[0] == train]
        best[train] = max(found, key=lambda item: np.mean([item[1][seed] for seed in common]))
    (fitted, one), (trained, other) = best["fit"], best["joint"]
    seeds = sorted(one.keys() & other.keys())
    before, after = (np.array([side[seed] for seed in seeds]) for side in (one, other))
    difference = after - before
    interval = f"{difference.mean():+.4f}"
    if len(seeds) > 1:
        interval += f" ± {mean_interval(difference).half_width:.4f}"
    interval = interval.replace("0.", ".")
    p_value = f"{wilcoxon(after, before).p_value:.3f}".lstrip("0") if len(seeds) >= FEWEST_PAIRS else "–"
    return (
        metric.replace("AUPRC_micro", "AUPRC, micro"),
        str(bits),
        f"{fitted[0]} + {fitted[1]}: {describe(before)}",
        f"{trained[0]} + {trained[1]}, {trained[2]}: {describe(after)}",
        f"{interval} ({100 * (after.mean() / before.mean() - 1):+.1f} %)",
        f"{int((difference > 0).sum())} of {len(seeds)}",
        p_value,
    )


def comparison_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Format joint training against the best fit: a row for each metric and length."""
    header = ("metric", "bits", "best fit", "best joint training", "gain", "better in", "p (Wilcoxon)")
    lengths = sorted({run["bits"] for run in runs})
    rows = [compare(runs, metric, bits) for metric in METRICS for bits in lengths]
    return markdown_table(header, rows, right=(1,))


def rank_pipelines(runs: Sequence[Mapping[str, Any]], most: int = 5) -> str:
    """Format the best two-step pipelines of each metric and length by their mean over draws."""
    rows = []
    for metric in METRICS:
        for bits in sorted({run["bits"] for run in runs}):
            by_pipeline: dict[tuple[str, str], list[float]] = {}
            for run in runs:
                if run["bits"] == bits:
                    by_pipeline.setdefault((run["method"], run["quantizer"]), []).append(run[metric])
            draws = max(map(len, by_pipeline.values()))
            whole = {name: np.mean(scores) for name, scores in by_pipeline.items() if len(scores) == draws}
            ranked = sorted(whole.items(), key=lambda item: -item[1])[:most]
            text = ", ".join(
                f"{method} + {quantizer} {score:.3f}".replace("0.", ".") for (method, quantizer), score in ranked
            )
            rows.append((metric.replace("AUPRC_micro", "AUPRC, micro"), str(bits), text, f"{len(whole)} × {draws}"))
    return markdown_table(("metric", "bits", "best on validation queries", "pipelines × draws"), rows, right=(1, 3))


def variants_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Format the mean scores of runs that differ in their folders' names only by the seed, best mAP first."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run["run"].rpartition("-seed")[0], []).append(run)
    means = {name: [np.mean([run[metric] for run in found]) for metric in METRICS] for name, found in groups.items()}
    rows = [
        (name, *(f"{mean:.3f}".replace("0.", ".") for mean in means[name]), str(len(groups[name])))
        for name in sorted(means, key=lambda name: -means[name][-1])
    ]
    return markdown_table(("run", "AUPRC, micro", "mAP", "draws"), rows, right=(1, 2, 3))


TABLES = {"table": comparison_table, "best": rank_pipelines, "variants": variants_table}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", *TABLES))
    parser.add_argument("name")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--commands", nargs="+", default=[])
    parser.add_argument("--commit", help="commit of the code that was measured; the current one by default")
    arguments = parser.parse_args()
    path = RESULTS / f"{arguments.name}.json"
    if arguments.action == "record":
        command = ("git", "rev-parse", "HEAD")
        commit = arguments.commit or subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        rows = [row for folder in arguments.folders for row in read_rows(folder)]
        path.write_text(format_record(build_record(arguments.name, rows, arguments.commands, commit)), encoding="utf-8")
    else:
        runs = read_record(path)
        print(TABLES[arguments.action](runs))


if __name__ == "__main__":
    main()
