"""`deephash encode`: rows per second against the bare matrix product, memory, and kills at random moments.

python benchmarks/encode.py speed [ROWS]    speed and memory, ROWS of 512 float32 features
python benchmarks/encode.py kills [TIMES]   SIGKILL at random moments; the codes must be the same each time
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars
import torch

from deephash.code_files.array_rows import open_npy
from deephash.code_files.encode_file import BLOCK_ROWS, encode_file
from deephash.code_files.rows import RowSource
from deephash.code_files.table_rows import TableRows
from deephash.codes import pack
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ

DIMENSION, BITS = 512, 64


def fit_hasher() -> Hasher:
    features = torch.randn(5_000, DIMENSION, generator=torch.Generator().manual_seed(0))
    return Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(features)


def write_features(path: Path, rows: int) -> None:
    """Write a file of features too large for memory, a block at a time."""
    draw = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, DIMENSION))
    for first in range(0, rows, BLOCK_ROWS):
        count = min(BLOCK_ROWS, rows - first)
        array[first : first + count] = draw.standard_normal((count, DIMENSION), np.float32)
    del array


def time_product(hasher: Hasher, rows: int) -> float:
    """Return the least time of centring, product, threshold and packing for features in memory."""
    block = torch.randn(BLOCK_ROWS, DIMENSION)
    mean, directions = hasher.projection.mean, hasher.projection.directions.detach()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(8):
            pack((block - mean) @ directions >= 0)
        times.append((time.perf_counter() - start) / 8)
    return min(times) * rows / BLOCK_ROWS


def time_reading(source: RowSource) -> float:
    """Return the time of only reading the rows."""
    start = time.perf_counter()
    for _ in source.blocks(0, BLOCK_ROWS):
        pass
    return time.perf_counter() - start


def measure_speed(rows: int) -> None:
    hasher = fit_hasher()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.npy"
        write_features(file, rows)
        tables = {".npy": file}
        small = np.array(np.load(file, mmap_mode="r")[: min(rows, 100_000)])
        frame = polars.DataFrame({"vector": polars.Series(small, dtype=polars.Array(polars.Float32, DIMENSION))})
        frame.write_parquet(file.with_suffix(".parquet"), row_group_size=50_000)
        frame["vector"].arr.to_struct().struct.unnest().write_csv(file.with_suffix(".csv"), float_precision=5)
        del small, frame
        tables |= {ending: file.with_suffix(ending) for ending in (".parquet", ".csv")}
        hasher.save(Path(folder) / "hasher")
        for path in tables.values():
            # In separate processes, so that each has its own peak memory.
            subprocess.run([sys.executable, __file__, "one", str(path)], check=True)


def measure_one(path: Path) -> None:
    """Encode one file beside its saved hasher, and print time and memory."""
    hasher = Hasher.load(path.parent / "hasher")
    hasher.encode(torch.randn(2, DIMENSION))
    before = read_peak_megabytes()
    source = open_npy(path) if path.suffix == ".npy" else TableRows(path)
    start = time.perf_counter()
    done = encode_file(hasher, source, path.with_name(f"codes{path.suffix}.npy"))
    seconds = time.perf_counter() - start
    peak = read_peak_megabytes()
    product = time_product(hasher, done.rows)
    print(
        f"{path.suffix:9} {done.rows:,} rows in {seconds:.2f} s, {done.rows / seconds:,.0f} a second; reading alone "
        f"{time_reading(source):.2f} s, the product alone {product:.2f} s; memory {peak:.0f} MB, "
        f"{peak - before:.0f} MB more than before",
        flush=True,
    )


def read_peak_megabytes() -> float:
    """Return the peak memory of this process; getrusage would return that of its parent if that is larger."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def kill_encodings(times: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit_hasher().save(folder / "hasher")
        write_features(folder / "x.npy", 40_000)
        program = str(Path(sys.executable).with_name("deephash"))
        command = [program, "encode", "hasher", "x.npy", "{}", "--rows", "8", "--device", "cpu"]

        def start(out: str) -> subprocess.Popen[bytes]:
            filled = [word.format(out) for word in command]
            return subprocess.Popen(filled, cwd=folder, stdout=subprocess.DEVNULL)

        def wait_for_codes(process: subprocess.Popen[bytes], out: str) -> float:
            """Wait until codes are written, so that kills do not fall into imports, and return the time."""
            while not (folder / f"{out}.encoding" / "codes.npy").exists() and process.poll() is None:
                time.sleep(0.005)
            return time.monotonic()

        process = start("whole.npy")
        began = wait_for_codes(process, "whole.npy")
        assert process.wait() == 0
        whole = time.monotonic() - began
        reached = []
        for trial in range(times):
            out = f"{trial}.npy"
            for _ in range(2):
                process = start(out)
                wait_for_codes(process, out)
                try:
                    process.wait(random.uniform(0, 0.8) * whole)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    noted = folder / f"{out}.encoding" / "progress.json"
                    reached.append(json.loads(noted.read_text())["progress"]["row"] if noted.exists() else 0)
            assert start(out).wait() == 0
            for ending in (".npy", ".ids.npy"):
                same = (folder / f"{trial}{ending}").read_bytes() == (folder / f"whole{ending}").read_bytes()
                assert same, f"trial {trial}: {ending} differs"
            assert not (folder / f"{out}.encoding").exists()
        print(
            f"{times} encodings killed {len(reached)} times: the codes are the same; rows done at the kills, of 40,000:"
        )
        print(sorted(reached))


if __name__ == "__main__":
    what, *number = sys.argv[1:]
    if what == "one":
        measure_one(Path(number[0]))
    elif what == "speed":
        measure_speed(int(number[0]) if number else 1_000_000)
    else:
        kill_encodings(int(number[0]) if number else 20)
