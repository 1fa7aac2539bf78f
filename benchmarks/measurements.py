"""Result files of benchmarks: the measured rows with their command, commit and machine, as in studies/results.

A page's table of times is filled from such a file like any other table (studies/README.md).
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

from result_files import describe_machine, write_results

from deephash.validation import InvalidInputError


def result_path(text):
    """Return the path of a result file to write, for argparse.

    Raises:
        argparse.ArgumentTypeError: it does not end in .json, or its folder does not exist.
    """
    path = Path(text)
    if path.suffix != ".json" or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}; expected a file that ends in .json, in an existing folder")
    return path


def name_processor():
    """Return the processor's name as Linux gives it, or an empty string."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def describe_command(arguments):
    """Return the command that measured, with files by their names and without the option --json.

    Args:
        arguments: words after `python`, as in sys.argv.
    """
    words = [f"benchmarks/{Path(arguments[0]).name}"]
    rest = iter(arguments[1:])
    for word in rest:
        if word == "--json":
            next(rest, None)
        elif not word.startswith("--json="):
            words.append(Path(word).name if Path(word).exists() else word)
    return f"python {shlex.join(words)}"


def write_measurements(path, rows, threads, seed=0):
    """Write measured rows as a result file, whose machine includes the processor, the threads and the load.

    Args:
        path: the file; its stem is the name of the results.
        rows: dictionaries with the same keys.
        threads: number of threads that worked.
        seed: seed of the random data.

    Raises:
        InvalidInputError: there are no rows, or their keys differ.
    """
    fields = list(rows[0]) if rows else []
    if not fields or any(list(row) != fields for row in rows):
        raise InvalidInputError(
            f"{path}: {len(rows)} rows of measurements; expected at least one, all with equal keys."
        )
    machine = f"{describe_machine(threads)}, {name_processor()}, load {os.getloadavg()[0]:.1f}"
    runs = [[seed, *row.values()] for row in rows]
    write_results(path, ["seed", *fields], runs, [describe_command(sys.argv)], machine=machine)
