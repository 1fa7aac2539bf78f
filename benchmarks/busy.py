"""Fits, rankings and encoding on busy cores, against the same on idle ones: python benchmarks/busy.py [--json FILE].

The script starts one spinning process per core as competitors, and stops them again, in each repetition. It prints the
median seconds of each task with and without them, and the median ratio. A fair scheduler gives a task half of each
core, so a ratio of 2 is the best. Threads of torch wait passively, as in the programs; --spin lets them spin, which is
torch's default elsewhere. Other load on the machine lowers the ratios; the load before the first repetition is printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

SPINS = "--spin" in sys.argv
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
if SPINS:
    del os.environ["OMP_WAIT_POLICY"]

import torch  # noqa: E402 - reads the policy
from measurements import result_path, write_measurements  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from deephash.affinity.label import Label  # noqa: E402
from deephash.hashers.hasher import Hasher  # noqa: E402
from deephash.projections.itq import ITQ  # noqa: E402
from deephash.projections.ksh import KSH  # noqa: E402
from deephash.ranking.distance import Hamming  # noqa: E402
from deephash.ranking.numba_engine import NumbaEngine  # noqa: E402
from deephash.ranking.relevance import SharedLabel  # noqa: E402


def build_tasks():
    """Return the tasks by name, each a function without arguments, of a tenth of a second or more on idle cores."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 512, generator=generator)
    labels = torch.randint(0, 10, (4000,), generator=generator)
    codes = [torch.randint(0, 256, (n, 8), dtype=torch.uint8, generator=generator) for n in (4000, 59000)]
    relevance = SharedLabel(*(torch.randint(0, 10, (len(part),), generator=generator) for part in codes))
    network = torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 64))
    optimiser = torch.optim.Adam(network.parameters())
    hasher = Hasher(ITQ(512, 64)).fit(features)

    def take_steps():
        for _ in range(20):
            optimiser.zero_grad()
            outputs = network(features[:256]).tanh()
            similar = (labels[:256, None] == labels[None, :256]).float()
            ((outputs @ outputs.T / 64 - similar).square().mean()).backward()
            optimiser.step()

    return {
        "fit of ITQ": lambda: ITQ(512, 64).fit(features),
        "fit of KSH": lambda: KSH(512, 8, anchors=100).fit(features[:1000], labels=labels[:1000], affinity=Label()),
        "20 steps of a network": take_steps,
        "ranking, metrics": lambda: [NumbaEngine().rank(*codes, Hamming(64), relevance) for _ in range(2)],
        "ranking, 100 nearest": lambda: [NumbaEngine().search(*codes, Hamming(64), 100) for _ in range(3)],
        "encoding": lambda: [hasher.encode(features) for _ in range(20)],
    }


def measure(tasks):
    """Return the wall seconds of each task."""
    seconds = {}
    for name, task in tasks.items():
        start = time.perf_counter()
        task()
        seconds[name] = time.perf_counter() - start
    return seconds


def measure_beside_competitors(tasks):
    """Return the wall seconds of each task beside one spinning process per core."""
    competitors = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        time.sleep(0.5)  # Until they spin.
        return measure(tasks)
    finally:
        for competitor in competitors:
            competitor.kill()
            competitor.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--spin", action="store_true", help="let waiting threads spin")
    parser.add_argument("--json", type=result_path, help="result file to write")
    arguments = parser.parse_args()
    load, tasks = os.getloadavg()[0], build_tasks()
    measure(tasks)  # The first pass compiles and loads.
    pairs = [(measure(tasks), measure_beside_competitors(tasks)) for _ in range(arguments.repetitions)]
    rows = []
    for name in tasks:
        idle, busy = ([pair[place][name] for pair in pairs] for place in (0, 1))
        ratio = statistics.median(second / first for first, second in zip(idle, busy, strict=True))
        medians = {"idle": statistics.median(idle), "busy": statistics.median(busy)}
        rows.append({"task": name, "waits": "spinning" if SPINS else "passive", **medians, "ratio": ratio})
    title = f"{torch.get_num_threads()} threads, waits {rows[0]['waits']}, load {load:.1f} before"
    table = Table("task", "idle s", "busy s", "ratio", title=title)
    for row in rows:
        table.add_row(row["task"], *(f"{row[key]:.3f}" for key in ("idle", "busy")), f"{row['ratio']:.2f}")
    Console(width=100).print(table)
    if arguments.json:
        write_measurements(arguments.json, rows, torch.get_num_threads())


if __name__ == "__main__":
    main()
