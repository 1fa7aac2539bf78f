"""Result files: the runs behind the tables of README.md and docs/, one JSON file per study, in studies/results.

A file names the commands that make its runs, the commit, the machine and the date, and has one row per run, so that
means and intervals can be computed again:

    {"name": "deep_digits", "commands": [...], "commit": "...", "date": "2026-11-29", "machine": "...",
     "fields": ["method", "bits", "seed", "mAP"], "runs": [["csq", 32, 0, 0.81711], ...]}

python studies/result_files.py NAME FOLDER --fields method bits seed mAP --command "python train.py -m ..."

gathers the runs of a sweep's folder into studies/results/NAME.json. A field is a key of a run's metrics.json, a metric,
`run`, which is the name of the run's folder, or a value of metrics.json or config.yaml by its dotted path, such as
processor_seconds.learn or projection.anchors.
"""

import argparse
import datetime
import json
import platform
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from deephash.io.files import write_text
from deephash.metrics.confidence import mean_interval
from deephash.validation import InvalidInputError

FOLDER = Path(__file__).parent / "results"
KEYS = {"name", "commands", "commit", "date", "machine", "fields", "runs"}


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """Content of a result file.

    Args:
        name: name of the file, without its ending.
        commands: commands that make the runs, from the root of the repository.
        commit: commit of the code that ran.
        date: day of the last run, YYYY-MM-DD.
        machine: architecture, vector instructions and threads.
        fields: names of the columns.
        runs: rows of values, one per run.
    """

    name: str
    commands: list[str]
    commit: str
    date: str
    machine: str
    fields: list[str]
    runs: list[list[Any]]

    def find(self, **values: Any) -> list[dict[str, Any]]:
        """Return the runs with these values as dictionaries; the list may be empty."""
        runs = [dict(zip(self.fields, run, strict=True)) for run in self.runs]
        return [run for run in runs if all(run[field] == value for field, value in values.items())]

    def select(self, **values: Any) -> list[dict[str, Any]]:
        """Return the runs with these values as dictionaries; raise an error if there are none."""
        found = self.find(**values)
        if not found:
            raise InvalidInputError(
                f"{self.name}.json has no run with {values}; run one of its commands and gather again."
            )
        return found

    def scores(self, metric: str, **values: Any) -> dict[int, float]:
        """Return a metric of the runs with these values, by seed in ascending order; a seed may occur only once."""
        found = {}
        for run in self.select(**values):
            if run["seed"] in found:
                raise InvalidInputError(
                    f"{self.name}.json has two runs of seed {run['seed']} with {values}; name more fields."
                )
            found[run["seed"]] = run[metric]
        return dict(sorted(found.items()))


def read_results(name: str, folder: Path = FOLDER) -> ResultFile:
    """Read a result file and check its form.

    Raises:
        InvalidInputError: there is no such file, a key is missing or unknown, or a row does not have one value per
            field.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.json")))
        raise InvalidInputError(f"no result file is named {name!r}; expected one of {known}.")
    content = json.loads(path.read_text(encoding="utf-8"))
    if set(content) != KEYS:
        raise InvalidInputError(
            f"{path.name} has the keys {sorted(content)}; expected {sorted(KEYS)}: gather it again."
        )
    results = ResultFile(**content)
    if results.name != name:
        raise InvalidInputError(f"{path.name} names itself {results.name!r}; rename one of them.")
    for run in results.runs:
        if len(run) != len(results.fields):
            raise InvalidInputError(
                f"{path.name} has a run of {len(run)} values for {len(results.fields)} fields: {run}."
            )
    return results


def describe_machine(threads: int) -> str:
    """Return architecture, vector instructions and number of threads as text."""
    plural = "" if threads == 1 else "s"
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {threads} thread{plural}"


def write_results(
    path: Path, fields: list[str], runs: list[list[Any]], commands: list[str], commit: str = "", machine: str = ""
) -> None:
    """Write a result file: one JSON object with a run on each line, and six significant digits.

    Args:
        path: file, whose name is the name of the results.
        fields: names of the columns.
        runs: rows of values.
        commands: commands that make the runs.
        commit: commit of the code that ran; the current one by default.
        machine: machine that ran; by default its architecture, vector instructions and torch's threads.
    """
    about = {
        "commands": commands,
        "commit": commit or subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "fields": fields,
        "machine": machine or describe_machine(torch.get_num_threads()),
        "name": path.stem,
    }
    head = json.dumps(about, sort_keys=True, indent=1, ensure_ascii=False)[:-2]
    rows = ",\n".join("  " + json.dumps([_rounded(x) for x in run], ensure_ascii=False) for run in runs)
    write_text(path, f'{head},\n "runs": [\n{rows}\n ]\n}}\n')


def gather_runs(folder: Path, fields: list[str]) -> list[list[Any]]:
    """Return the named fields of every finished run of a sweep's folder, in the order of the fields.

    Raises:
        InvalidInputError: the folder has no finished run, or a run has no such field.
    """
    runs = []
    for path in sorted(folder.rglob("metrics.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        config = OmegaConf.load(path.parent / "config.yaml")
        row = row["metrics"] | row | {"run": path.parent.name}
        nested = OmegaConf.create(row)
        run = []
        for field in fields:
            # Names such as precision@100 and image_to_text/mAP are keys, not paths of OmegaConf.
            places = (row.get(field), *(OmegaConf.select(place, field) for place in (nested, config)))
            found = next((value for value in places if value is not None), None)
            if found is None:
                raise InvalidInputError(
                    f"{path.parent.name} has no {field}; name a key of metrics.json or config.yaml."
                )
            run.append(found)
        runs.append(run)
    if not runs:
        raise InvalidInputError(f"{folder} has no finished run; give the folder of a sweep.")
    return sorted(runs, key=lambda run: [(isinstance(x, str), x) for x in run])


def format_figure(value: float, decimals: int = 3) -> str:
    """Format a number without the zero before its point, as pages print scores."""
    return f"{value:.{decimals}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{decimals}f}"


def format_mean(values: Any, decimals: int = 3) -> str:
    """Format the mean of draws ± half its 95 % interval by Student's t; for one draw, only its value."""
    values = np.array(list(values), dtype=float)
    if len(values) == 1:
        return format_figure(values[0], decimals)
    interval = mean_interval(values)
    return f"{format_figure(values.mean(), decimals)} ± {format_figure(interval.half_width, decimals)}"


def group_by(runs: list[dict[str, Any]], *fields: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Group runs by the values of fields, in order of appearance."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        groups[tuple(run[field] for field in fields)].append(run)
    return dict(groups)


def _rounded(value: Any) -> Any:
    """Round a float to six significant digits."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Gather the runs of a sweep into a result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sweeps")
    parser.add_argument("--fields", nargs="+", required=True)
    parser.add_argument("--command", action="append", required=True, help="command that made the runs; repeatable")
    parser.add_argument("--commit", default="", help="commit of the code that ran; the current one by default")
    arguments = parser.parse_args()
    runs = [run for sweep in arguments.sweeps for run in gather_runs(sweep, arguments.fields)]
    path = FOLDER / f"{arguments.name}.json"
    write_results(path, arguments.fields, runs, arguments.command, arguments.commit)
    print(f"{path}: {len(runs)} runs")


if __name__ == "__main__":
    main()
