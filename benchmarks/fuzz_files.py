"""Damage files of every kind at random places and read them: each is read or raises an error of one line.

python benchmarks/fuzz_files.py --mutations 10000

For files with a checksum, seven tenths of the mutations get a correct checksum again, like a malicious file. A process
forked from one that has imported everything reads each batch. A mutation that crashes it, takes over 10 seconds of
processor time, allocates over 2 GB, or raises anything but a one-line error is a fault, and the exit status is 1.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars
import torch
from PIL import Image

import deephash
from deephash.affinity.label import Label
from deephash.cluster import shard_manifest
from deephash.code_files.code_file import CodePaths, describe_codes, read_codes
from deephash.code_files.code_shards import open_shards
from deephash.code_files.open_source import open_source
from deephash.code_files.write_sharded import write_sharded
from deephash.compression.linear_decoder import LinearDecoder
from deephash.data.array_file import read_array
from deephash.data.cifar10 import read_npz
from deephash.data.file_features import describe_files
from deephash.data.image_manifest import list_manifest
from deephash.data.protocols.base import Split
from deephash.data.protocols.given import read_json_split
from deephash.data.vectors import write_vectors
from deephash.encoders.mlp import MLP
from deephash.evaluation.learnt_codes import LearntCodes, load_learnt
from deephash.hashers import storage
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.indexes import change_log, index_folder
from deephash.indexes.sharded_index import open_release
from deephash.io.files import read_json_object, write_json
from deephash.io.run_folder import RunFolder
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.quantizers.mhq import MHQ
from deephash.quantizers.sbq import SBQ
from deephash.quantizers.vbq import VBQ
from deephash.ranking.distance import Hamming
from deephash.report.comparison import compare_runs
from deephash.report.curve_file import read_curves
from deephash.report.path_description import describe_path
from deephash.report.sweep_runs import collect
from deephash.training.checkpoint import SafetensorsCheckpoint
from deephash.training.keep_best import summarise_history
from deephash.validation import InvalidInputError
from deephash.web.study.analysis import analyse_log
from deephash.web.study.design import StudyDesign
from deephash.web.study.log import StudyLog
from deephash.web.study.records import GivenAnswer, ShownItem, StudiedRun, Study, Trial

ROWS, DIMENSION, BITS = 40, 6, 16
RNG = np.random.default_rng(0)
FEATURES = RNG.random((ROWS, DIMENSION)).astype(np.float32)
CODES = RNG.integers(0, 256, (ROWS, BITS // 8), np.uint8)
SECONDS, WALL_SECONDS, MEMORY = 10, 120, 2 << 30
BATCH = 50
EXTREMES = (0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**60, 2**63 - 1, 2**64 - 1)
LISTED = (
    "-1 0 1e308 -1e308 NaN Infinity null true [] {} [[[[]]]] 1000000000 2147483648 9223372036854775807 "
    '18446744073709551616 "x" "" "\\ud800" [1,2,3] {"a":1}'
)
WORDS = (*LISTED.split(), "1" * 400)
TOKEN = re.compile(rb'-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|"[^"\n]*"|true|false|null')


@dataclass(frozen=True)
class Target:
    """Files to damage and the function that reads them.

    Args:
        folder: folder of the files in the corpus, which is copied for each mutation.
        files: patterns of the files to damage, one at a time.
        read: function that reads the copy.
        repair: function that corrects the checksums of the copy; None if it has none.
        weight: relative frequency of the target.
    """

    folder: str
    files: tuple[str, ...]
    read: Callable[[Path], object]
    repair: Callable[[Path], None] | None = None
    weight: float = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Run, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="damage fewer files of the kinds that start a process for each file"
    )
    parser.add_argument("--only", default="", help="damage only kinds whose names begin with this text")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    given = parser.parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="deephash-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        if read_in_fork(lambda tell: (write_corpus(corpus), tell("whole"))) != ["whole"]:
            raise SystemExit("the undamaged files could not be written")
        chosen = {name: target for name, target in list_targets().items() if name.startswith(given.only)}
        refused = read_in_fork(lambda tell: report_unreadable(corpus, Path(folder) / "scratch", chosen, tell))
        if refused:
            raise SystemExit("undamaged files are rejected:\n" + "\n".join(refused))
        outcomes, faults = fuzz(corpus, Path(folder) / "scratch", chosen, given)
    print(format_table(outcomes))
    total = sum(sum(counts.values()) for counts in outcomes.values())
    print(f"{total} mutations, {len(faults)} faults, {time.perf_counter() - started:.0f} s")
    return 1 if faults else 0


def report_unreadable(corpus: Path, scratch: Path, chosen: dict[str, Target], tell: Callable[[str], None]) -> None:
    """Report undamaged files that cannot be read, since damage to them would show nothing."""
    for name, target in chosen.items():
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(corpus / target.folder, scratch)
        try:
            target.read(scratch)
            for pattern in target.files:
                next(scratch.glob(pattern))
        except Exception as error:
            tell(f"{name}: {type(error).__name__}: {error}")


def fuzz(
    corpus: Path, scratch: Path, chosen: dict[str, Target], given: argparse.Namespace
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Read all mutations in processes forked from this one, and count the outcomes."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    faults: list[str] = []
    names = list(chosen)
    weights = [chosen[name].weight * (0.05 if given.quick and chosen[name].weight < 1 else 1) for name in names]
    plan = [
        random.Random(f"{given.seed} {number}").choices(names, weights)[0]
        for number in range(given.first, given.first + given.mutations)
    ]
    at = 0
    while at < len(plan):
        begin = at
        end = min(begin + BATCH, len(plan))
        alone = [place for place in range(begin, end) if plan[place] in KEEPS_THREADS]
        end = begin + 1 if begin in alone else min([end, *alone])

        def read_batch(tell: Callable[[str], None], begin: int = begin, end: int = end) -> None:
            limit_memory()
            for place in range(begin, end):
                number = given.first + place
                tell(json.dumps(read_one(corpus, scratch, chosen[plan[place]], f"{given.seed} {number}")))

        for line in read_in_fork(read_batch):
            outcome, detail = json.loads(line)
            outcomes[plan[at]][outcome] += 1
            if outcome not in ("read", "rejected"):
                faults.append(f"{plan[at]}, mutation {given.first + at}: {outcome}: {detail}")
                print(faults[-1], file=sys.stderr)
            at += 1
        if at < end:
            outcomes[plan[at]]["crash"] += 1
            faults.append(f"{plan[at]}, mutation {given.first + at}: its process ended or hung")
            print(faults[-1], file=sys.stderr)
            at += 1
        if at // 1000 > begin // 1000:
            print(f"{at} of {len(plan)} mutations, {len(faults)} faults", file=sys.stderr)
    return outcomes, faults


def read_in_fork(work: Callable[[Callable[[str], None]], object]) -> list[str]:
    """Return the lines that a forked process reports until it ends or has been silent for too long."""
    reading_end, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading_end)
        os.setpgid(0, 0)
        with os.fdopen(writing_end, "w") as lines:

            def tell(line: str) -> None:
                lines.write(line + "\n")
                lines.flush()

            try:
                work(tell)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os._exit(0)
    os.close(writing_end)
    reported = b""
    try:
        while select.select([reading_end], [], [], WALL_SECONDS)[0]:
            piece = os.read(reading_end, 1 << 16)
            if not piece:
                break
            reported += piece
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
    finally:
        os.close(reading_end)
        os.waitpid(child, 0)
    return reported.decode().splitlines()


def limit_memory() -> None:
    """Limit this process to 2 GB more than it has allocated."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read_one(corpus: Path, scratch: Path, target: Target, seed: str) -> tuple[str, str]:
    """Copy, damage and read files; return the outcome and the text of a fault."""
    rng = random.Random(f"mutation {seed}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(corpus / target.folder, scratch)
    name = rng.choice(target.files)
    path = next(scratch.glob(name))
    path.write_bytes(mutate(path, rng))
    if target.repair is not None and rng.random() < 0.7:
        with contextlib.suppress(Exception):  # What cannot be repaired stays damaged.
            target.repair(scratch)
    before = read_processor_seconds()
    hidden = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(hidden):
            warnings.simplefilter("ignore")
            target.read(scratch)
        outcome, detail = "read", ""
    except InvalidInputError as error:
        outcome, detail = "rejected", str(error)
        if "\n" in detail or len(detail) > 2000:
            outcome = "long message"
        is_trial = "engine='rebuild'" in detail  # Only the trial process of an engine lacks memory.
        if not is_trial and re.search(
            r"MemoryError|[Uu]nable to allocate|can't allocate|bad_alloc|out of memory", detail
        ):
            outcome = "memory"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(where[-6:]))
        outcome, detail = "traceback", f"{type(error).__name__}: {str(error)[:200]} ({name}; {places})"
    if read_processor_seconds() - before > SECONDS:
        return "slow", f"{read_processor_seconds() - before:.0f} s ({name}; {outcome} {detail[:200]})"
    return outcome, detail[:600]


def read_processor_seconds() -> float:
    """Return the processor seconds of this process and of the processes that it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def mutate(path: Path, rng: random.Random) -> bytes:
    """Damage the contents of a file; for an archive also within its members, with correct checksums."""
    content = path.read_bytes()
    if path.suffix == ".npz" and rng.random() < 0.5:
        packed = io.BytesIO()
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
            names = archive.namelist()
            hit = rng.choice(names)
            for member in names:
                inner = archive.read(member)
                out.writestr(member, damage(inner, rng) if member == hit else inner)
        return packed.getvalue()
    is_text = path.suffix in (".json", ".jsonl", ".csv", ".yaml") or b"\0" not in content[:4096]
    if is_text and rng.random() < 0.7:
        return reword(content, rng)
    if path.suffix in (".safetensors", ".npy") and rng.random() < 0.4:
        head = min(len(content), 8 + int.from_bytes(content[:8], "little")) if path.suffix != ".npy" else 128
        changed = reword(content[8:head] if path.suffix != ".npy" else content[:head], rng)
        if path.suffix == ".npy":
            return changed.ljust(head)[: max(head, len(changed))] + content[head:]
        return len(changed).to_bytes(8, "little") + changed + content[head:]
    return damage(content, rng)


def reword(content: bytes, rng: random.Random) -> bytes:
    """Change or remove some numbers or words of a text."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tokens = list(TOKEN.finditer(content))
        if not tokens:
            break
        hit = rng.choice(tokens)
        new = rng.choice((*WORDS, rng.choice(tokens)[0].decode("latin-1"))).encode("latin-1")
        content = content[: hit.start()] + new + content[hit.end() :]
    if rng.random() < 0.15:
        lines = content.split(b"\n")
        del lines[rng.randrange(len(lines))]
        content = b"\n".join(lines)
    return content


def damage(content: bytes, rng: random.Random) -> bytes:
    """Change, cut, double or replace some bytes by extreme numbers."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        # Headers are at the beginning, and in Parquet and archives at the end.
        size = len(changed)
        reach = rng.choice((size, min(size, 200), min(size, 64)))
        place = rng.randrange(reach) if reach else 0
        if rng.random() < 0.3:
            place = max(0, size - 1 - place)
        kind = rng.randrange(8)
        if kind == 0:
            changed = changed[:place]
        elif kind == 1:
            del changed[place : place + rng.choice((1, 4, 100))]
        elif kind == 2:
            changed[place:place] = changed[place : place + rng.choice((1, 8, 200))]
        elif kind == 3:
            changed[place:place] = rng.randbytes(rng.choice((1, 8, 100)))
        elif kind == 4:
            width = rng.choice((2, 4, 8))
            value = rng.choice(EXTREMES) % (1 << 8 * width)
            changed[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 5:
            length = rng.choice((1, 16, 256))
            changed[place : place + length] = bytes(min(length, max(0, size - place)))
        else:
            for _ in range(rng.choice((1, 4))):
                if changed:
                    changed[min(place, len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def format_table(outcomes: dict[str, Counter[str]]) -> str:
    """Format the outcomes of the mutations of each kind."""
    columns = list(dict.fromkeys(("read", "rejected", *(name for counts in outcomes.values() for name in counts))))
    width = max(map(len, outcomes), default=4)
    lines = [" ".join([" " * width, *(f"{name:>12}" for name in columns)])]
    for name in sorted(outcomes):
        lines.append(" ".join([name.ljust(width), *(f"{outcomes[name][column]:>12}" for column in columns)]))
    return "\n".join(lines)


def read_all(path: Path) -> None:
    """Read the rows of a file of features as `deephash encode` does."""
    source = open_source(path, path.parent, features=["x"] if path.name == "c.npz" else None)
    for block in source.blocks(0, 16):
        block.features.sum()


def search_all(folder: Path) -> None:
    """Load an index and search it."""
    index = deephash.load_index(folder)
    _, ids = index.search(CODES[:5], 3)
    index.named(ids)


def encode_all(folder: Path) -> None:
    """Load a hasher and encode with it."""
    hasher = load(folder)
    assert isinstance(hasher, Hasher)
    hasher.encode(torch.rand(5, hasher.input_dim))


def repair_hasher(folder: Path) -> None:
    """Recompute the identity of a damaged hasher."""
    from safetensors.torch import load_file

    path = folder / storage.DESCRIPTION_FILE
    stored = json.loads(path.read_text())
    described = {name: value for name, value in stored.items() if name not in ("format", "version", "identity")}
    stored["identity"] = storage.identity(described, load_file(folder / storage.WEIGHTS_FILE))
    path.write_text(json.dumps(stored))


def repair_index(folder: Path) -> None:
    """Recompute the digests of the files of an index."""
    path = folder / index_folder.DESCRIPTION_FILE
    stored = json.loads(path.read_text())
    content = folder / stored["generation"]
    stored["files"] = {name: index_folder.digest(content / name) for name in stored["files"]}
    path.write_text(json.dumps(stored))


def change_all(folder: Path) -> None:
    """Open an index for changes, change and search it, and load it again."""
    with deephash.open_index(folder) as index:
        index.search(CODES[:5], min(3, len(index)), where="price < 20")
        index.remove(index.named(index.ids[:1]))
        index.compact()
    search_all(folder)


def repair_log(folder: Path) -> None:
    """Recompute the digests of the files of an index, and of the records of its log."""
    repair_index(folder)
    stored = json.loads((folder / index_folder.DESCRIPTION_FILE).read_text())
    path = folder / stored["generation"] / index_folder.LOG_FILE
    content = path.read_bytes()[change_log.HEAD_BYTES :]
    repaired = [change_log.log_head(stored["generation"], stored["bits"])]
    key = change_log.start_of_log(stored["generation"], stored["bits"]).digest
    head, end = change_log.LENGTH.size + change_log.CHECK_BYTES, change_log.DIGEST_BYTES
    while len(content) >= head + end:
        (length,) = change_log.LENGTH.unpack_from(content)
        length = min(length, len(content) - head - end)
        packed, record = change_log.LENGTH.pack(length), content[head : head + length]
        repaired += [packed, change_log.check_of_length(packed, key), record]
        key = change_log.digest_of_content(record, key)
        repaired.append(key)
        content = content[head + length + end :]
    path.write_bytes(b"".join([*repaired, content]))


def repair_sharded(folder: Path) -> None:
    """Recompute the digests of each shard of an index."""
    for path in folder.rglob(index_folder.DESCRIPTION_FILE):
        repair_index(path.parent)


def repair_checkpoint(folder: Path) -> None:
    """Remove the digest of a checkpoint, since earlier versions wrote none."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = RunFolder(folder).checkpoint
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (it is no dict)
        metadata = {name: value for name, value in file.metadata().items() if name != "sha256"}
    save_file(tensors, path, metadata)


def read_history(folder: Path) -> None:
    """Read the history of a run."""
    path = folder / "history.json"
    summarise_history(read_json_object(path, "a history"), path)


def read_sweep(folder: Path) -> None:
    """Build the table of a sweep, which names damaged jobs."""
    (row,) = collect(folder).to_dicts()
    if row["status"] == "damaged":
        raise InvalidInputError(row["error"])


def read_study(folder: Path) -> None:
    """Open the log of a study as the server and the analysis do."""
    analyse_log(folder / "study.sqlite")


KEEPS_THREADS = ("index lancedb",)
"""Kinds whose engine keeps threads and their memory, so that a process reads only one such file."""
ENGINE_KINDS = ("faiss_flat", "faiss_ivf", "faiss_hnsw", "faiss_multi_hash", "usearch", "duckdb")


def list_targets() -> dict[str, Target]:
    """Return all targets by name."""
    found: dict[str, Target] = {}
    for name in ("x.npy", "f.npy", "x.npz", "c.npz", "x.fvecs", "x.bvecs", "x.ivecs", "x.csv"):
        found[f"rows {name}"] = Target("arrays", (name,), lambda folder, name=name: read_all(folder / name))
        if not name.endswith(".csv"):
            key = "x" if name == "c.npz" else None
            found[f"array {name}"] = Target(
                "arrays", (name,), lambda folder, name=name, key=key: np.array(read_array(folder / name, key))
            )
    found["rows x.parquet"] = Target("arrays", ("x.parquet",), lambda folder: read_all(folder / "x.parquet"))
    found["array x.parquet"] = Target(
        "arrays", ("x.parquet",), lambda folder: np.array(read_array(folder / "x.parquet")), weight=0.3
    )
    found["cifar.npz"] = Target("arrays", ("cifar.npz",), lambda folder: read_npz(folder / "cifar.npz"))
    for name in ("a.png", "a.jpg", "a.gif", "a.bmp", "a.webp", "a.tif"):
        found[f"image {name}"] = Target(
            "images", (name,), lambda folder, name=name: describe_files([folder / name], None, 16)
        )
    found["manifest"] = Target("images", ("list.csv",), lambda folder: list_manifest(folder / "list.csv"))
    for name in ("itq", "mhq", "vbq"):
        files = (storage.DESCRIPTION_FILE, storage.WEIGHTS_FILE)
        found[f"hasher {name}"] = Target(f"hasher-{name}", files, encode_all, repair_hasher, weight=2)
    found["decoder"] = Target("parts", ("d.safetensors",), lambda folder: LinearDecoder.load(folder / "d.safetensors"))
    found["learnt codes"] = Target("parts", ("learnt_codes.npz",), load_learnt)
    for kind in ("flat", "mih"):
        found[f"index {kind}"] = Target(
            f"index-{kind}", ("index.json", "*/codes.npy", "*/names.npy"), search_all, repair_index, weight=2
        )
    for kind in ENGINE_KINDS:
        found[f"index {kind}"] = Target(
            f"index-{kind}", ("index.json", "*/index.*", "*/index.*"), search_all, repair_index, weight=0.4
        )
    found["index lancedb"] = Target(
        "index-lancedb", ("index.json", "*/index.lancedb/*/data/*", "*/index.lancedb/*/_versions/*"), search_all,
        repair_index, weight=0.4,
    )  # fmt: skip
    for name, read in (("loaded", search_all), ("opened", change_all)):
        found[f"index with a log, {name}"] = Target(
            "index-changing", ("*/changes.log", "*/changes.log", "*/ids.npy", "*/columns.parquet", "index.json"), read,
            repair_log, weight=2,
        )  # fmt: skip
    found["index in shards"] = Target(
        "sharded", ("shards.json", "**/index.json", "**/codes.npy"),
        lambda folder: open_release(folder).search(torch.from_numpy(CODES[:3]), 3), repair_sharded,
    )  # fmt: skip
    found["run config"] = Target("run", ("config.yaml",), lambda folder: describe_path(folder))
    found["run row"] = Target("run", ("metrics.json",), lambda folder: describe_path(folder))
    found["run split"] = Target("run", ("split.npz",), lambda folder: Split.load(folder / "split.npz"))
    found["split in JSON"] = Target("run", ("given.json",), lambda folder: read_json_split(folder / "given.json"))
    found["run curves"] = Target("run", ("pr_curve.json",), read_curves)
    found["run history"] = Target("run", ("history.json",), read_history)
    found["run checkpoint"] = Target(
        "run", ("checkpoint/last.safetensors",),
        lambda folder: SafetensorsCheckpoint().load_checkpoint(RunFolder(folder).checkpoint), repair_checkpoint,
    )  # fmt: skip
    found["compared runs"] = Target(
        "runs", ("b/metrics.json", "b/config.yaml", "b/per_query.parquet"),
        lambda folder: compare_runs([folder / "a", folder / "b"], "AP"), weight=0.5,
    )  # fmt: skip
    found["sweep"] = Target("sweep", ("0/metrics.json", "0/config.yaml"), read_sweep)
    found["codes"] = Target(
        "codes", ("c.npy", "c.ids.npy", "c.json"), lambda folder: read_codes(folder / "c.npy"), weight=1.5
    )
    found["shards"] = Target(
        "codes", ("c.npy", "c.ids.npy", "c.json"), lambda folder: open_shards([folder / "c.npy"]), weight=1
    )
    found["progress of shards"] = Target(
        "shards",
        ("manifest.jsonl",),
        lambda folder: shard_manifest.read_progress(folder, {"source": "x"}, overwrite=False),
    )
    found["study log"] = Target("study", ("study.sqlite",), read_study)
    return found


def write_corpus(folder: Path) -> None:
    """Write undamaged files of every kind."""
    write_arrays(folder / "arrays")
    write_images(folder / "images")
    features = torch.from_numpy(FEATURES)
    hashers = {
        "itq": Hasher(ITQ(8, 6, iterations=2), SBQ(6), MLP(DIMENSION, [8])),
        "mhq": Hasher(LSH(DIMENSION, 4), MHQ(8)),
        "vbq": Hasher(LSH(DIMENSION, 4), VBQ(4)),
    }
    for name, hasher in hashers.items():
        pairs = Label().supervise(features, torch.arange(ROWS) % 4)
        hasher.fit(features, affinity=pairs).save(folder / f"hasher-{name}")
    parts = folder / "parts"
    parts.mkdir()
    codes = torch.from_numpy(CODES)
    LinearDecoder.fit(codes, features, BITS).save(parts / "d.safetensors")
    LearntCodes(codes, torch.arange(ROWS)).save(parts)
    for kind in ("flat", "mih", "lancedb", *ENGINE_KINDS):
        settings = {"lists": 4, "probes": 4} if kind == "faiss_ivf" else {}
        names = np.array([f"n{row}" for row in range(ROWS)])
        deephash.index(codes, kind, bits=BITS, names=names, **settings).save(folder / f"index-{kind}")
    write_changed_index(folder / "index-changing")
    write_run(folder / "run", hashers["itq"])
    for name in ("runs/a", "runs/b", "sweep/0"):
        shutil.copytree(folder / "run", folder / name)
    write_codes(folder / "codes")
    write_sharded(folder / "codes", folder / "sharded", 2, "flat", {})
    shards = folder / "shards"
    shard_manifest.read_progress(shards, {"source": "x"}, overwrite=False)
    for shard in range(3):
        record = shard_manifest.ShardRecord(shard, 10 * shard, 10 * shard + 10, 0, 10, {})
        shard_manifest.save_progress(shards, record)
    shard_manifest.write_manifest(shards, {"rows": 30}, {0: record})
    write_study(folder / "study")


def write_changed_index(folder: Path) -> None:
    """Write an index whose ids differ from its rows, with columns and a log of every kind of change."""
    names, prices = np.array([f"n{row}" for row in range(ROWS)]), {"price": np.arange(ROWS)}
    index = deephash.index(CODES, "mih", bits=BITS, names=names, columns=prices)
    index.remove(names[:3])
    index.save(folder)
    with deephash.open_index(folder) as index:
        index.add(CODES[:3], names=["a", "b", "c"], columns={"price": [1, 2, 3]})
        index.update(CODES[5:6], names=["n7"], columns={"price": [9]})
        index.remove(["b", "n9"])


def write_arrays(folder: Path) -> None:
    """Write features in every format."""
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", FEATURES)
    np.save(folder / "f.npy", np.asfortranarray(FEATURES))
    np.savez(folder / "x.npz", x=FEATURES)
    np.savez_compressed(folder / "c.npz", x=FEATURES, y=np.array(["a", "bb"] * (ROWS // 2)))
    columns = {f"f{place}": column for place, column in enumerate(FEATURES.T)}
    frame = polars.DataFrame({"id": np.arange(ROWS), **columns})
    frame.write_parquet(folder / "x.parquet")
    frame.write_csv(folder / "x.csv")
    write_vectors(folder / "x.fvecs", FEATURES)
    write_vectors(folder / "x.bvecs", (255 * FEATURES).astype(np.uint8))
    write_vectors(folder / "x.ivecs", (255 * FEATURES).astype(np.int32))
    images = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
    labels = {"labels": np.arange(6) % 3, "is_test": np.arange(6) > 3, "classes": np.array(["a", "b", "c"])}
    np.savez(folder / "cifar.npz", images=images, **labels)


def write_images(folder: Path) -> None:
    """Write a picture in every common format, and a manifest."""
    folder.mkdir()
    picture = Image.fromarray(RNG.integers(0, 256, (24, 32, 3), np.uint8))
    for name in ("a.png", "a.jpg", "a.gif", "a.bmp", "a.webp", "a.tif"):
        picture.save(folder / name)
    (folder / "list.csv").write_text("path,label\na.png,one\na.jpg,two\na.gif,one\n")


def write_run(folder: Path, hasher: Hasher) -> None:
    """Write the files of a run."""
    run = RunFolder(folder)
    hasher.save(run.hasher)
    config = "method: itq\nbits: 6\nseed: 0\nchoices:\n  method: itq\n  data: x\nprojection:\n  iterations: 2\n"
    run.config.write_text(config)
    metrics = {"mAP": 0.25, "AUPRC_micro": 0.5, "P@10": None}
    row = {"method": "itq", "quantizer": "sbq", "bits": 6, "seed": 0, "data": "x", "split": "s", "truth": "label"}
    write_json(run.metrics, {**row, "score": "test", "metrics": metrics, "warnings": ["a"], "skipped_queries": 0})
    Split(np.arange(10), np.arange(10, 14), np.arange(20, 30)).save(run.split)
    write_json(folder / "given.json", {"train": [0, 1, 2], "query": [3, 4], "database": [5, 6]})
    epochs = [{"epoch": epoch, "validation": {"mAP": 0.1 * epoch}, "losses": {"a": 1.0}} for epoch in range(3)]
    write_json(run.history, {"metric": "mAP", "best_epoch": 1, "epochs": epochs})
    write_json(folder / "pr_curve.json", [{"direction": "", "recall": [0, 1], "precision": [1, 0.5], "area": 0.7}])
    polars.DataFrame({"query": np.arange(12), "AP": RNG.random(12)}).write_parquet(folder / "per_query.parquet")
    checkpoint = {"epoch": 3, "state_dict": {"w": torch.rand(4, 3)}, "loops": {"a": (1, [2.5, None])}}
    SafetensorsCheckpoint().save_checkpoint(checkpoint, run.checkpoint)


def write_codes(folder: Path) -> None:
    """Write a file of codes as `deephash encode` writes it."""
    folder.mkdir()
    paths = CodePaths(folder / "c.npy")
    np.save(paths.codes, CODES)
    np.save(paths.ids, np.arange(ROWS))
    write_json(paths.description, describe_codes(paths, ROWS, 0, "a" * 64, Hamming(BITS), BITS, "", {"path": "x.npy"}))


def write_study(folder: Path) -> None:
    """Write a log with an answer."""
    folder.mkdir()
    runs = (StudiedRun("itq", "itq", "a" * 64), StudiedRun("lsh", "lsh", "b" * 64))
    study = Study(StudyDesign(), runs, "split", "What is kept: nothing of yours.")
    lists = tuple(tuple(ShownItem(10 * run + rank, run) for rank in range(3)) for run in (0, 1))
    with StudyLog.create(folder / "study.sqlite", study) as log:
        session = log.add_session()
        log.show(session, Trial(0, 3, "side_by_side", lists))
        log.answer(session, 0, GivenAnswer("left", (), (5, 3), 4.0))


if __name__ == "__main__":
    sys.exit(main())
