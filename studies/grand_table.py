"""Continue the grand table of docs/results.md: run the cells that its result file lacks, and add them to it.

python studies/grand_table.py --hours 2                     further settings, such as data.path=cifar10.npz, can follow
python studies/grand_table.py --gather multirun/grand_table   only adds the runs of a folder

Finished cells are in studies/results/grand_table.json, so any machine continues where another one stopped. The first
draw at 32 bits comes first, then two more draws, then 64 and 16 bits. FastHash and exact VBQ take minutes a cell, so
they come last. A cell that cannot be combined is listed by the report of its sweep, and is tried again the next time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from page_tables.results import GRAND_METHODS, GRAND_QUANTIZERS
from result_files import FOLDER, gather_runs, read_results, write_results
from write_tables import ROOT

NAME = "grand_table"
SETTINGS = ("truth", "method", "quantizer", "bits", "seed")
FIELDS = (*SETTINGS, "mAP", "AUPRC_micro")
COMMANDS = [
    "OMP_NUM_THREADS=1 python train.py -m experiment=grand_table",
    "OMP_NUM_THREADS=1 python train.py -m experiment=grand_table bits=16,64 seed=10",
]
PARTS = ((32, 10), (32, 11), (32, 12), (64, 10), (16, 10))
TRUTHS = ("label", "epsilon_ball_database")
SLOW = {"fasthash", "vbq_exact"}


def find_missing(done: set[tuple[Any, ...]]) -> Iterator[tuple[str, str, list[str], int, int]]:
    """Yield truth, method, quantisers, bits and seed of the missing cells, a row at a time, slow ones last."""
    for slow, (bits, seed), truth, method in product((False, True), PARTS, TRUTHS, GRAND_METHODS):
        missing = [q for q in GRAND_QUANTIZERS if (truth, method, q, bits, seed) not in done]
        missing = [q for q in missing if slow == bool({method, q} & SLOW)]
        if missing:
            yield truth, method, missing, bits, seed


def add_runs(folder: Path, commit: str = "") -> int:
    """Add the finished runs of a folder to the result file and return their number; earlier runs of a cell are kept."""
    earlier = read_results(NAME)
    runs = {tuple(run[: len(SETTINGS)]): run for run in [*gather_runs(folder, list(FIELDS)), *earlier.runs]}
    write_results(FOLDER / f"{NAME}.json", list(FIELDS), sorted(runs.values()), COMMANDS, commit)
    return len(runs) - len(earlier.runs)


def main() -> None:
    """Run rows until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="no row starts later than this")
    parser.add_argument("--gather", type=Path, help="folder of runs to add; nothing is run")
    parser.add_argument("--commit", default="", help="commit of the code that ran; the current one by default")
    parser.add_argument("settings", nargs="*", help="further settings of the runs")
    arguments = parser.parse_args()
    if arguments.gather:
        print(f"{add_runs(arguments.gather, arguments.commit)} cells added")
        return
    end = time.monotonic() + 3600 * arguments.hours
    done = {tuple(run[: len(SETTINGS)]) for run in read_results(NAME).runs}
    for truth, method, quantizers, bits, seed in find_missing(done):
        if time.monotonic() > end:
            break
        with tempfile.TemporaryDirectory() as folder:
            row = [f"truth={truth}", f"method={method}", f"quantizer={','.join(quantizers)}", f"bits={bits}"]
            command = ["train.py", "-m", f"experiment={NAME}", *row, f"seed={seed}", f"hydra.sweep.dir={folder}"]
            subprocess.run([sys.executable, *command, *arguments.settings], cwd=ROOT, check=False)
            if list(Path(folder).rglob("metrics.json")):
                print(f"{truth} {method} {bits} bits, seed {seed}: {add_runs(Path(folder))} cells added", flush=True)


if __name__ == "__main__":
    main()
