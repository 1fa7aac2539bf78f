"""Rerun a cell of each result file in studies/results, and report whether it is in the printed interval.

python studies/check.py --data FOLDER            the cheapest cell of every file, in less than 20 minutes
python studies/check.py deep_gist --cells 3      three cells of one file, spread over its rows
python studies/check.py --status                 which tables of each page are filled from result files

A cell is the runs that differ only in their seed. The mean of the rerun must be within the 95 % interval of the
file's draws and within --tolerance of their mean; a cell of one draw has no interval. The same seed gives the same
figures on the same kind of machine; others round differently, most of all in methods that train for epochs. The exit
status is 1 if a score is outside. FOLDER may have cifar10.npz, wiki.npz and the folder siftsmall; data that it lacks
are downloaded. Words with an equals sign are further settings of the runs.
"""

import argparse
import functools
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra import compose, initialize_config_dir
from open_tables import NOT_MEASURED, OPEN, list_open_tables
from result_files import FOLDER, ResultFile, format_figure, gather_runs, group_by, read_results
from write_tables import ROOT, TABLE, find_pages

from deephash.command_line.run_command import register_resolvers
from deephash.metrics.confidence import mean_interval
from deephash.validation import InvalidInputError

TOLERANCE = 0.005
ROUNDING = 0.0005  # of printed figures
CHOICES = (
    *("method", "quantizer", "train", "bits", "seed", "score", "protocol", "data", "truth", "stream", "reencoding"),
    *("initial", "loss", "supervision"),
)
# Methods that are fitted in seconds; their cells are rerun first, in this order.
QUICK = ("itq", "pcah", "lsh", "itq_cca", "streaming_lda", "streaming_itq_cca", "cvh", "cmssh", "imh")
# A setting by its path in config.yaml; paths into metrics.json are figures.
PATH = re.compile(r"(?!modality_bias|processor_seconds|seconds)[a-z_]+(\.[a-z_]+)+")
INITIAL = "projection.initial._target_"
DATA_FILES = {"cifar10": "cifar10.npz", "cifar10_gist": "cifar10.npz", "wiki": "wiki.npz", "siftsmall": "siftsmall"}
# Commands that rerun the first rows of a result file whose rows summarise many runs.
STUDIES = {
    "satisfaction_systems": (
        "train.py -m experiment=satisfaction seed=0 method=agh hydra.sweep.dir={folder}/satisfaction",
        "studies/satisfaction.py {folder}/satisfaction --output {folder}/figures --results {folder}",
    )
}


def run_settings(run: dict[str, Any]) -> dict[str, str] | None:
    """Return the settings of a run by key of the configuration; None unless it is a single run of train.py."""
    settings = {}
    for field, value in run.items():
        if field == INITIAL:
            settings["initial"] = initial_word(value)
        elif field in CHOICES or PATH.fullmatch(field):
            settings[field] = str(value)
        elif field == "settings":
            settings |= dict(word.split("=", 1) for word in value.split())
        elif field == "line":
            settings["method"] = value.removesuffix("_priors")
            if value.endswith("_priors"):
                settings["projection.prior_half_life"] = "100"
        elif not isinstance(value, float | int):
            return None
    return settings


def initial_word(target: str) -> str:
    """Return the value of `initial=` for the class of an initial projection."""
    return next(path.stem for path in (ROOT / "conf" / "initial").glob("*.yaml") if f"{target}\n" in path.read_text())


def is_figure(field: str, value: Any) -> bool:
    """Return whether a field is a score that a rerun reproduces, not a setting or a time."""
    return (
        isinstance(value, float | int)
        and field not in (*CHOICES, "interval", "queries")
        and not PATH.fullmatch(field)
        and not field.endswith("seconds")
    )


def is_setting(field: str, value: Any) -> bool:
    """Return whether a field distinguishes cells: all fields except the seed, figures and times."""
    return field != "seed" and not is_figure(field, value) and not field.endswith("seconds")


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


def find_command(results: ResultFile, run: dict[str, Any]) -> list[str] | None:
    """Return the arguments of a run, from the command of its file that names most of its settings; None without one."""
    settings = run_settings(run)
    if settings is None:
        return None
    # $n is the variable of a shell loop over intervals.
    commands = [command.replace("$n", str(run.get("interval"))) for command in results.commands]
    named = {command: sum(f" {key}=" in command for key in settings) for command in commands}
    return next(filter(None, (single_run(c, settings) for c in sorted(commands, key=lambda c: -named[c]))), None)


def find_cells(results: ResultFile) -> list[list[dict[str, Any]]]:
    """Return the cells of a file, quickest first: fits before training, quick methods, short codes."""
    found = results.select()
    fields = [field for field, value in found[0].items() if is_setting(field, value)]

    def cost(run: dict[str, Any]) -> tuple[Any, ...]:
        method = run.get("method", run.get("line"))
        place = QUICK.index(method) if method in QUICK else len(QUICK)
        return run.get("train") == "joint", place, run.get("reencoding", "never") != "never", run.get("bits", 0)

    return sorted(group_by(found, *fields).values(), key=lambda cell: cost(cell[0]))


@functools.cache
def data_of(arguments: tuple[str, ...]) -> str:
    """Return the data set of a command."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=list(arguments), return_hydra_config=True)
    return str(config.hydra.runtime.choices.data)


def run_python(arguments: list[str]) -> None:
    """Run a script of the repository.

    Raises:
        InvalidInputError: it fails.
    """
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidInputError(f"{shlex.join(arguments)} failed; run it alone to see why:\n{done.stderr[-1000:]}")


def complete(arguments: list[str], data: Path | None, further: list[str]) -> list[str]:
    """Return the arguments of train.py with the file of their data, if the folder has it, and further settings."""
    composed = tuple(word for word in arguments[2:] if not word.startswith(("seed=", "hydra.")))
    file = data and data / DATA_FILES.get(data_of(composed), "none")
    path = [f"data.path={file.resolve()}"] if file and file.exists() else []
    return [*arguments, *path, "logger=none", "figures=false", *further]


def rerun(
    results: ResultFile, cell: list[dict[str, Any]], data: Path | None, further: list[str]
) -> dict[int, dict[str, float]]:
    """Make the runs of a cell again and return their figures by seed; none if no command of the file makes them.

    Raises:
        InvalidInputError: the command fails, or makes several runs of a seed.
    """
    made = find_command(results, cell[0])
    if not made:
        return {}
    seeds = ",".join(str(run["seed"]) for run in cell)
    made = [f"seed={seeds}" if word.startswith("seed=") else word for word in made]
    figures = [field for field, value in cell[0].items() if is_figure(field, value)]
    with tempfile.TemporaryDirectory() as folder:
        output = [f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra:job.num}"]
        run_python(complete([*made, *output], data, further))
        again = gather_runs(Path(folder), ["seed", *figures])
    if len(again) > len(cell):
        raise InvalidInputError(f"{shlex.join(made)} makes {len(again)} runs; name more fields in {results.name}.json.")
    return {seed: dict(zip(figures, values, strict=True)) for seed, *values in again}


def rerun_study(name: str, data: Path | None) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    """Make the first rows of a study again and yield pairs of the old and the new row."""
    with tempfile.TemporaryDirectory() as folder:
        for command in STUDIES[name]:
            words = shlex.split(command.format(folder=folder))
            run_python(complete(words, data, []) if words[0] == "train.py" else words)
        old = {tuple(run.values())[:3]: run for run in read_results(name).select()}
        for run in read_results(name, Path(folder)).select():
            yield old[tuple(run.values())[:3]], run


def compare(old: Iterable[float], new: Iterable[float], tolerance: float) -> tuple[bool, str]:
    """Return whether the mean of the new figures is in the interval of the old ones, and the comparison as text."""
    values = list(old)
    mean, again = fmean(values), fmean(new)
    half = max(mean_interval(values).half_width, ROUNDING) if len(values) > 1 else tolerance
    low, high = mean - min(half, tolerance), mean + min(half, tolerance)
    interval = f"[{format_figure(low, 4)}, {format_figure(high, 4)}]"
    return low <= again <= high, f"{format_figure(mean, 4)} → {format_figure(again, 4)} {interval}"


def check_cell(
    results: ResultFile, cell: list[dict[str, Any]], data: Path | None, further: list[str], tolerance: float
) -> bool | None:
    """Rerun a cell and print whether each score is in its interval; None if no single runs make the cell."""
    what = " ".join(str(value) for field, value in cell[0].items() if is_setting(field, value))
    if cell[0].get("train") == "joint":
        cell = cell[:1]  # a draw takes minutes
    if results.name in STUDIES:
        what, cell = "the first systems", cell[:1]
        pairs = list(rerun_study(results.name, data))
        figures = {
            f"{old['system']}, {f}": ([old[f]], [new[f]]) for old, new in pairs for f in old if is_figure(f, old[f])
        }
    else:
        again = rerun(results, cell, data, further)
        fields = next(iter(again.values()), {})
        figures = {f: ([run[f] for run in cell], [values[f] for values in again.values()]) for f in fields}
    if not figures:
        print(f"{results.name}: made by a whole study; run the commands of the file", flush=True)
        return None
    right = True
    for field, (old, new) in figures.items():
        inside, text = compare(old, new, tolerance)
        right &= inside
        print(
            f"{results.name}: {what}, {len(cell)} draws, {field} {text} {'agrees' if inside else 'DIFFERS'}", flush=True
        )
    return right


def check_files(names: list[str], cells: int, data: Path | None, further: list[str], tolerance: float) -> int:
    """Rerun cells of the named files, print the results, and return the number that differ or fail."""
    wrong = 0
    # All files are read first, so that a wrong name ends the command before any run.
    for results in [read_results(name) for name in names]:
        found = find_cells(results)
        for cell in [found[place * len(found) // cells] for place in range(min(cells, len(found)))]:
            try:
                wrong += check_cell(results, cell, data, further, tolerance) is False
            except InvalidInputError as error:
                wrong += 1
                print(f"{results.name}: {error}", flush=True)
    return wrong


def print_status() -> None:
    """Print for each page the tables that are filled from result files, and the sections that have other tables."""
    measured = labelled = 0
    for path in find_pages():
        name, page = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        filled = [table for _, table, _, _ in TABLE.findall(page)]
        if filled:
            print(f"{name}: from result files {', '.join(filled)}")
        for section, caption in list_open_tables(page):
            _, cost = OPEN.get(name, {}).get(section, (0, "not in studies/open_tables.py"))
            if not cost.startswith(NOT_MEASURED):
                source = f"of {caption['date']}, commit {caption['commit']}" if caption else "no caption"
                print(f"{name}: without a result file {section!r}, {source} ({cost})")
                measured += 1
                labelled += caption is not None
    print(f"{measured} measured tables have no result file; {labelled} of them have a caption with date and commit")


def main() -> None:
    """Rerun cells, or print the status of the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="names of result files, all by default; and further settings")
    parser.add_argument("--cells", type=int, default=1, help="cells of each file (default 1, the quickest)")
    parser.add_argument("--data", type=Path, help="folder of cifar10.npz, wiki.npz and siftsmall")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"difference allowed (default {TOLERANCE})")
    parser.add_argument("--status", action="store_true", help="list the tables filled from result files; rerun nothing")
    arguments = parser.parse_intermixed_args()
    if arguments.status:
        print_status()
        return
    if arguments.cells < 1:
        parser.error(f"--cells {arguments.cells}; expected at least 1")
    further = [word for word in arguments.words if "=" in word]
    names = [word for word in arguments.words if "=" not in word] or sorted(p.stem for p in FOLDER.glob("*.json"))
    try:
        wrong = check_files(names, arguments.cells, arguments.data, further, arguments.tolerance)
    except InvalidInputError as error:
        parser.error(str(error))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
