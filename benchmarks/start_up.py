"""Start-up of the commands, beside the import of their libraries: python benchmarks/start_up.py [--json FILE].

Each command is a new process, and all commands run in turn, so that other load on the machine affects each of them.
The script prints the medians of processor and of wall seconds, and the median ratio to the base of the command:
`import torch` for commands that only read files, `import lightning` for a whole run with its figures and with W&B
offline. The first ranking of a process is measured beside its second, with compiled kernels on the disk and without
them, the latter in an empty NUMBA_CACHE_DIR. The first pass fills the caches; it is counted only if there is no other.
No pass starts that would end after --seconds, so that the script ends on a busy machine, too. About 3 minutes on 2 idle
cores.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measurements import result_path, write_measurements
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
DEEPHASH = "from deephash.command_line.main import main; main()"
RANKING = """
import json, resource, sys, time
import torch
from deephash.ranking.distance import Hamming
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
generator, sizes = torch.Generator().manual_seed(0), (1000, int(sys.argv[1]))
codes = [torch.randint(0, 256, (n, 8), dtype=torch.uint8, generator=generator) for n in sizes]
labels = SharedLabel(*(torch.randint(0, 10, (n,), generator=generator) for n in sizes))
tasks = {
    "metrics": lambda: AutoEngine().rank(*codes, Hamming(64), labels),
    "nearest": lambda: AutoEngine().search(*codes, Hamming(64), k=100),
}
def measure(task):
    before = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    task()
    after = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    return [after[0].ru_utime + after[0].ru_stime - before[0].ru_utime - before[0].ru_stime, after[1] - before[1]]
places = ("first", "second")
print(json.dumps([[f"{name}, {place}", *measure(task)] for name, task in tasks.items() for place in places]))
"""


def build_commands(folder):
    """Fill a folder with inputs, and return commands by name: arguments of Python and the name of their base."""
    generator = np.random.default_rng(0)
    for name, rows in (("database", 4000), ("queries", 20)):
        np.save(folder / f"{name}.npy", generator.random((rows, 784), dtype=np.float32))
    train = [str(ROOT / "train.py"), "method=itq", "bits=64"]
    run, index = folder / "run", folder / "index"
    execute([*train, f"hydra.run.dir={run}"], folder)
    for name in ("database", "queries"):
        execute(["-c", DEEPHASH, "encode", run, folder / f"{name}.npy", folder / f"{name}_codes.npy"], folder)
    execute(["-c", DEEPHASH, "index", folder / "database_codes.npy", index], folder)
    return {
        "import torch": (["-c", "import torch"], None),
        "import lightning": (["-c", "import lightning"], None),
        "train.py method=itq bits=64": (train, "import lightning"),
        "deephash info RUN": (["-c", DEEPHASH, "info", run], "import torch"),
        "deephash info INDEX": (["-c", DEEPHASH, "info", index], "import torch"),
        "deephash search INDEX CODES": (
            ["-c", DEEPHASH, "search", index, folder / "queries_codes.npy"],
            "import torch",
        ),
        "deephash search INDEX FEATURES --run RUN": (
            ["-c", DEEPHASH, "search", index, folder / "queries.npy", "--run", run],
            "import torch",
        ),
        "deephash encode RUN FEATURES": (
            ["-c", DEEPHASH, "encode", run, folder / "queries.npy", folder / "again.npy", "--overwrite"],
            "import torch",
        ),
    }


def execute(arguments, folder, **variables):
    """Run Python in a new process, and return its processor seconds, wall seconds and output."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", **variables}
    command = [sys.executable, *map(str, arguments)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return processor, end - start, done.stdout


def list_passes(repetitions, end):
    """Yield the numbers of passes; the last one is predicted to end before a time of `time.perf_counter`."""
    for number in range(repetitions + 1):
        began = time.perf_counter()
        yield number
        if 2 * time.perf_counter() - began > end:
            return


def drop_first(passes):
    """Leave out the first pass, which fills the caches, if there is another one."""
    return passes[1:] if len(passes) > 1 else passes


def measure_commands(commands, folder, repetitions, end):
    """Return processor and wall seconds of each command, one pair a repetition."""
    seconds = {name: [] for name in commands}
    for _ in list_passes(repetitions, end):
        for name, (arguments, _) in commands.items():
            processor, wall, _ = execute(arguments, folder)
            seconds[name].append((processor, wall))
    return {name: drop_first(passes) for name, passes in seconds.items()}


def measure_rankings(folder, repetitions, end):
    """Return processor and wall seconds of the first and the second ranking of a process, by state of the disk."""
    seconds = {}
    for _ in list_passes(repetitions, end):
        for state, items in itertools.product(("cached", "not cached"), (4000, 59000)):
            cache = folder / f"kernels {state}"
            if state == "not cached":
                shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir(exist_ok=True)
            printed = execute(["-c", RANKING, items], folder, NUMBA_CACHE_DIR=str(cache))[2]
            for name, *pair in json.loads(printed):
                seconds.setdefault(f"{name}, 1,000 × {items:,}, {state}", []).append(tuple(pair))
    return {name: drop_first(passes) for name, passes in seconds.items()}


def summarise(name, seconds, base=None):
    """Return a row: medians of the seconds, and the median ratios to the base's seconds of the same repetition."""
    row = {"task": name}
    for place, clock in enumerate(("processor", "wall")):
        values = [pair[place] for pair in seconds]
        row[clock] = statistics.median(values)
        ratios = [own / pair[place] for own, pair in zip(values, base, strict=True)] if base else []
        row[f"{clock}_ratio"] = statistics.median(ratios) if ratios else None
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=400, help="time after which no pass starts")
    parser.add_argument("--json", type=result_path, help="result file to write")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = build_commands(folder)
        # Rankings get a third of the time.
        seconds = measure_commands(commands, folder, arguments.repetitions, began + arguments.seconds * 2 / 3)
        rankings = measure_rankings(folder, arguments.repetitions, began + arguments.seconds)
    rows = [summarise(task, seconds[task], seconds[base] if base else None) for task, (_, base) in commands.items()]
    rows += [summarise(task, pairs) for task, pairs in rankings.items()]
    passes = len(seconds["import torch"])
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(
        "task", "processor s", "wall s", "processor ratio", "wall ratio", title=f"load {load}, {passes} passes"
    )
    for row in rows:
        ratios = [row["processor_ratio"], row["wall_ratio"]]
        cells = [f"{row['processor']:.2f}", f"{row['wall']:.2f}", *("" if x is None else f"{x:.2f}" for x in ratios)]
        table.add_row(row["task"], *cells)
    Console(width=120).print(table)
    if arguments.json:
        write_measurements(arguments.json, rows, os.cpu_count())


if __name__ == "__main__":
    main()
