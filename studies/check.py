"""Rerun one run of each result file in studies/results and compare its figures with the file's.

python studies/check.py                        one run of every file whose runs are single runs of train.py
python studies/check.py deep_gist --cells 3    three runs of one file, spread over its rows
python studies/check.py --status               which tables of each page are filled from result files

The same seed gives the same figures on the same kind of machine. Other machines round differently, which affects
methods that train for epochs most, so figures may differ by --tolerance. The exit status is 1 if a figure differs by
more. Words with an equals sign are further settings of the runs, such as data.path=FILE.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from open_tables import NOT_MEASURED, OPEN, find_open_tables
from result_files import FOLDER, ResultFile, gather_runs, read_results
from write_tables import ROOT, TABLE, find_pages

from deephash.validation import InvalidInputError

TOLERANCE = 0.005
CHOICES = {"method", "quantizer", "bits", "seed", "score", "protocol", "data", "truth", "stream", "reencoding"}
# Methods that are fitted in seconds, preferred if a file has them.
QUICK = ("itq", "pcah", "lsh", "itq_cca")


def run_settings(run: dict[str, Any]) -> dict[str, str] | None:
    """Return the settings of a run by key of the configuration; None unless it is a single run of train.py."""
    settings = {}
    for field, value in run.items():
        if field in CHOICES or re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", field):
            settings[field] = str(value)
        elif field == "settings":
            settings |= dict(word.split("=", 1) for word in value.split())
        elif not isinstance(value, float):
            return None
    return settings


def sweep_values(words: str) -> list[str]:
    """Return the values of an override of a sweep: `16,32` or `range(5)`."""
    if found := re.fullmatch(r"range\((?:(\d+),)?(\d+)\)", words):
        return [str(value) for value in range(int(found[1] or 0), int(found[2]))]
    return words.split(",")


def single_run(command: str, settings: dict[str, str]) -> list[str] | None:
    """Return the arguments that make one run of a sweep's command; None if the sweep does not contain it."""
    words = shlex.split(command)
    if "train.py" not in words:
        return None
    overrides = dict(word.split("=", 1) for word in words[words.index("train.py") + 1 :] if "=" in word)
    for key, values in overrides.items():
        if key in settings and settings[key] not in sweep_values(values):
            return None
    kept = {key: value for key, value in overrides.items() if not key.startswith("hydra.")}
    return ["train.py", "-m", *(f"{key}={value}" for key, value in (kept | settings).items())]


def choose_runs(results: ResultFile, cells: int) -> list[dict[str, Any]]:
    """Return runs spread evenly over a file's rows, of quick methods if it has them."""
    runs = results.select()
    runs = [run for run in runs if run.get("method") in QUICK] or runs
    return [runs[place * len(runs) // cells] for place in range(min(cells, len(runs)))]


def rerun(results: ResultFile, run: dict[str, Any], further: list[str]) -> dict[str, float] | None:
    """Repeat a run and return its figures; None if no command of the file makes it as a single run.

    Raises:
        InvalidInputError: the command fails, or makes several runs.
    """
    settings = run_settings(run)
    made = settings and next(filter(None, (single_run(command, settings) for command in results.commands)), None)
    if not made:
        return None
    figures = [field for field, value in run.items() if isinstance(value, float)]
    with tempfile.TemporaryDirectory() as folder:
        output = [f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra:job.num}", "logger=none", "figures=false"]
        done = subprocess.run(
            [sys.executable, *made, *output, *further], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise InvalidInputError(f"{shlex.join(made)} failed; run it alone to see why:\n{done.stderr[-1000:]}")
        again = gather_runs(Path(folder), figures)
    if len(again) > 1:
        raise InvalidInputError(f"{shlex.join(made)} makes {len(again)} runs; name more fields in {results.name}.json.")
    return dict(zip(figures, again[0], strict=True))


def differing_figures(run: dict[str, Any], again: dict[str, float], tolerance: float) -> list[str]:
    """Return the figures that differ by more than the tolerance, such as `mAP 0.2061 → 0.1950`."""
    pairs = ((field, run[field], value) for field, value in again.items())
    return [f"{field} {old:.4f} → {new:.4f}" for field, old, new in pairs if not abs(new - old) <= tolerance]


def check_files(names: list[str], cells: int, further: list[str], tolerance: float) -> int:
    """Rerun runs of the named files, print the results, and return the number of runs that differ or fail."""
    wrong = 0
    # All files are read first, so that a wrong name ends the command before any run.
    for results in [read_results(name) for name in names]:
        name = results.name
        for run in choose_runs(results, cells):
            what = f"{name}: " + " ".join(str(value) for value in run.values() if not isinstance(value, float))
            try:
                again = rerun(results, run, further)
            except InvalidInputError as error:
                wrong += 1
                print(f"{what}: {error}", flush=True)
                continue
            if again is None:
                print(f"{what}: made by a whole study; run the commands of the file", flush=True)
                continue
            differs = differing_figures(run, again, tolerance)
            wrong += bool(differs)
            print(f"{what}: {'; '.join(differs) or 'agrees'}", flush=True)
    return wrong


def print_status() -> None:
    """Print for each page with measured tables those filled from result files, and the others by section."""
    measured = 0
    for path in find_pages():
        name, page = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        filled = [table for _, table, _, _ in TABLE.findall(page)]
        if filled:
            print(f"{name}: from result files {', '.join(filled)}")
        for section, number in find_open_tables(page).items():
            _, cost = OPEN.get(name, {}).get(section, (0, "not in studies/open_tables.py"))
            if not cost.startswith(NOT_MEASURED):
                print(f"{name}: without a result file {number} in {section!r} ({cost})")
                measured += number
    print(f"{measured} measured tables have no result file")


def main() -> None:
    """Rerun runs, or print the status of the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="names of result files, all by default; and further settings")
    parser.add_argument("--cells", type=int, default=1, help="runs of each file (default 1)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"difference allowed (default {TOLERANCE})")
    parser.add_argument("--status", action="store_true", help="rerun nothing")
    arguments = parser.parse_intermixed_args()
    if arguments.status:
        print_status()
        return
    if arguments.cells < 1:
        parser.error(f"--cells {arguments.cells}; expected at least 1")
    further = [word for word in arguments.words if "=" in word]
    names = [word for word in arguments.words if "=" not in word] or sorted(p.stem for p in FOLDER.glob("*.json"))
    try:
        wrong = check_files(names, arguments.cells, further, arguments.tolerance)
    except InvalidInputError as error:
        parser.error(str(error))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
