"""Kill a process at random moments while it changes a saved index: no acknowledged change is lost, and none appears.

python benchmarks/killed_changes.py --kills 200

The process adds, updates and removes items in batches, compacts now and then, also in the background, and reports the
number of each change once it is acknowledged. It is forked, so that it starts at once. All values follow from the
number. After a kill, the index must be that of the acknowledged changes, or of these and the one that was under way.
"""

import argparse
import os
import random
import signal
import struct
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import deephash
from deephash.indexes import background_compaction

FIRST = 50
COMPACT_EVERY = 200


def make_codes(numbers):
    """Return the codes of items by their numbers, uint8 (n, 8)."""
    mixed = (np.asarray(numbers, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed[:, None].view(np.uint8).copy()


def plan_change(number, items, next_item):
    """Return the change of a number: its operation, names, and the numbers of the items' new codes.

    Args:
        number: number of the change.
        items: numbers of codes by name, before the change.
        next_item: number of the next code.
    """
    draw = random.Random(number)
    operation = draw.choice(("add", "add", "remove", "update"))
    if operation == "add":
        numbers = list(range(next_item, next_item + draw.randrange(1, 60)))
        return operation, [f"item {each}" for each in numbers], numbers
    names = draw.sample(sorted(items), min(len(items) - 1, draw.randrange(1, 40)))
    numbers = list(range(next_item, next_item + len(names))) if operation == "update" else []
    return operation, names, numbers


def change_list(number, items, next_item):
    """Carry out a change on a dictionary; return the number of the next code."""
    operation, names, numbers = plan_change(number, items, next_item)
    if operation == "remove":
        for name in names:
            del items[name]
        return next_item
    items.update(zip(names, numbers, strict=True))
    return next_item + len(numbers)


def start_items():
    """Return the items before the first change."""
    return {f"item {each}": each for each in range(FIRST)}


def replay(count):
    """Return the items after a number of changes, and the number of the next code."""
    items, next_item = start_items(), FIRST
    for number in range(count):
        next_item = change_list(number, items, next_item)
    return items, next_item


def write_forever(folder, done, report):
    """Change the index without end, from the change `done` on; `report` is called with the number of changes."""
    items, next_item = replay(done)
    background_compaction.MIN_LOG_BYTES = 1 << 11  # So that a thread compacts often.
    with deephash.open_index(folder) as index:
        number = done
        report(number)
        while True:
            operation, names, numbers = plan_change(number, items, next_item)
            if operation == "remove":
                index.remove(names)
            else:
                getattr(index, operation)(make_codes(numbers), names=names)
            number += 1
            report(number)
            next_item = change_list(number - 1, items, next_item)
            if number % COMPACT_EVERY == 0:
                index.compact()


def kill_writer(folder, done, draw):
    """Start a writer, kill it, and return the number of changes that it acknowledged."""
    reading_end, writing_end = os.pipe()
    writer = os.fork()
    if writer == 0:
        try:
            write_forever(folder, done, lambda number: os.write(writing_end, struct.pack("<q", number)))
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(writing_end)
    with os.fdopen(reading_end, "rb") as reports:
        started = reports.read(8)
        time.sleep(draw.uniform(0, 0.2))
        os.kill(writer, signal.SIGKILL)
        numbers = (started + reports.read())[-8:]
    if os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) != -signal.SIGKILL or len(numbers) < 8:
        raise SystemExit("the writer ended by itself")
    return struct.unpack("<q", numbers)[0]


def is_state(index, items):
    """Return whether an index contains exactly these items, and finds each by its code."""
    if set(index.names.tolist()) != set(items) or len(index) != len(items):
        return False
    names = list(items)
    distances, ids = index.search(make_codes([items[name] for name in names]), 1)
    return bool((distances == 0).all()) and index.named(ids)[:, 0].tolist() == names


def kill_writers(folder, kills, kind, seed):
    """Start and kill writers; return how often each outcome of the change under way occurred, and all changes."""
    draw, found, done = random.Random(seed), Counter(), 0
    deephash.index(make_codes(range(FIRST)), kind, names=list(start_items())).save(folder)
    for _ in range(kills):
        acknowledged = kill_writer(folder, done, draw)
        logs = [path.stat().st_size for path in folder.glob("*/changes.log")]
        index = deephash.load_index(folder)
        states = {count: replay(count)[0] for count in (acknowledged, acknowledged + 1)}
        matching = [count for count, items in states.items() if is_state(index, items)]
        if not matching:
            raise SystemExit(f"after {acknowledged} acknowledged changes, the index has other items")
        done = matching[-1]
        torn = index.log_end is not None and index.log_end.place not in logs
        outcome = "kept though not acknowledged" if done > acknowledged else "torn in the log" if torn else "not begun"
        found[outcome] += 1
    return found, done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kind", default="mih")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found, done = kill_writers(Path(folder) / "index", given.kills, given.kind, given.seed)
    print(f"{given.kills} kills within {done:,} changes in {time.perf_counter() - started:.0f} s: {dict(found)}")


if __name__ == "__main__":
    main()
