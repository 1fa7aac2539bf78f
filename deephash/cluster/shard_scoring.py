"""Score codes in shards with torch.distributed or Ray; the results equal those of one process exactly."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deephash.cluster.processes import Process, process_group, read_launcher, sum_processes
from deephash.cluster.ray_session import ray_workers
from deephash.cluster.shard_ranking import rank_rows
from deephash.code_files.code_shards import CodeShards, ShardQueries, open_queries, open_shards
from deephash.code_files.repeated_ids import report_repeated
from deephash.evaluation.scoring import Scores, ScoreSettings, score_counts
from deephash.functional.shares import get_share
from deephash.io.ownership import check_free, check_not_source
from deephash.io.run_folder import RunFolder
from deephash.metrics.expected_reciprocal_rank import ExpectedReciprocalRank
from deephash.metrics.expected_search_length import ExpectedSearchLength
from deephash.metrics.ndcg import NDCG
from deephash.metrics.rank_biased_precision import RankBiasedPrecision
from deephash.metrics.success import Success
from deephash.ranking.counts import DistanceCounts
from deephash.report.curve_file import write_curves
from deephash.report.tables import replace_nonfinite, write_per_query
from deephash.validation import InvalidInputError, check_choice, check_count

ENGINES = ("torch", "ray")
# User metrics that a run reports by default; relevance is binary here, since shards do not count grades.
USER_METRICS = (NDCG(), ExpectedReciprocalRank(), RankBiasedPrecision(), ExpectedSearchLength(), Success())
# Files of the scores; the last one is written last.
SCORE_FILES = ("per_query.parquet", "pr_curve.json", "metrics.json")
# Tasks of each Ray worker: enough that a slow worker delays the others little.
TASKS_PER_WORKER = 4


@dataclass(frozen=True)
class ShardScores:
    """Scores of queries against a database in shards.

    Args:
        row: metrics by name under "metrics", with sizes, workers and seconds.
        scores: scores of all queries.
    """

    row: dict[str, Any]
    scores: Scores


def score_shards(
    queries: Path,
    shards: Sequence[Path],
    *,
    engine: str = "torch",
    workers: int | None = None,
    address: str | None = None,
    at: Sequence[int] = (),
    radii: Sequence[int] = (),
    device: str = "cpu",
) -> ShardScores | None:
    """Rank queries against a database in shards, and compute metrics.

    Args:
        queries: file of codes, with labels or neighbours beside it.
        shards: files of codes, or folders of such files, with labels beside each.
        engine: torch for processes that torchrun or SLURM started; ray for workers of Ray.
        workers: number of Ray workers; None uses one per processor.
        address: address of a running Ray cluster; None starts one here.
        at: depths k.
        radii: radii r; those above the largest distance are ignored.
        device: device of each worker; cuda uses the GPU with the worker's number on its machine.

    Returns:
        The scores; None for processes of torch.distributed other than the first.

    Raises:
        InvalidInputError: files do not match each other, or a depth exceeds the size of the database.
    """
    check_choice(engine, ENGINES, "engine")
    database = open_shards(shards)
    asked = open_queries(queries, database)
    too_deep = [k for k in at if k > len(database)]
    if too_deep:
        raise InvalidInputError(f"k={max(too_deep)} exceeds the {len(database)} items of the shards; lower it.")
    if read_launcher().is_first:
        report_repeated(database)
    started = time.perf_counter()
    if engine == "ray":
        process, counts, shared_by = Process(), *count_with_ray(asked, database, workers, address, device)
    else:
        with process_group() as process:
            counts = count_in_process(asked, database, process, device)
        shared_by = process.world
    if not process.is_first:
        return None
    # The counts already include all processes.
    settings = ScoreSettings(tuple(at), tuple(radii), USER_METRICS).within(len(database))
    scores = score_counts(counts, settings)
    figures = dict(scores.results)
    row = {
        "bits": database.bits,
        "hasher": database.hasher,
        "engine": engine,
        "workers": shared_by,
        "sizes": {"query": len(asked.codes), "database": len(database), "shards": len(database.paths)},
        "skipped_queries": int(figures.pop("skipped_queries")),
        "metrics": figures,
        "seconds": {"rank": time.perf_counter() - started},
    }
    return ShardScores(row, scores)


def count_in_process(queries: ShardQueries, shards: CodeShards, process: Process, device: str) -> DistanceCounts:
    """Count distances over the whole database; each process ranks its share."""
    place = f"cuda:{process.local_rank}" if device == "cuda" else device
    counts = rank_rows(queries, shards, get_share(len(shards), process.rank, process.world), place)
    return DistanceCounts(sum_processes(counts.total), sum_processes(counts.relevant))


def count_with_ray(
    queries: ShardQueries, shards: CodeShards, workers: int | None, address: str | None, device: str
) -> tuple[DistanceCounts, int]:
    """Count distances over the whole database with tasks of Ray; return the counts and the number of workers.

    Ray repeats the task of a lost worker.
    """
    if workers is not None:
        check_count(workers, "workers")
    with ray_workers(workers, address, device) as (ray, resources, shared_by):
        if shared_by < 1:
            raise InvalidInputError(f"the Ray cluster offers no {device}; add machines that have one.")
        rank = ray.remote(**resources)(rank_rows)
        shared_queries, shared_shards = ray.put(queries), ray.put(shards)
        shares = shared_by * TASKS_PER_WORKER
        waiting = [
            rank.remote(shared_queries, shared_shards, get_share(len(shards), share, shares), device)
            for share in range(shares)
        ]
        counts = None
        while waiting:
            # The counts are whole numbers, so their sum does not depend on the order.
            done, waiting = ray.wait(waiting)
            found = ray.get(done[0])
            counts = found if counts is None else counts + found
    assert counts is not None
    return counts, shared_by


def check_out(out: Path, sources: Sequence[Path], overwrite: bool) -> None:
    """Raise an error, before scores are computed, if they cannot be written into a folder.

    Args:
        out: folder of the scores.
        sources: files of codes, and folders of such files, that are scored.
        overwrite: whether to replace existing scores.

    Raises:
        InvalidInputError: the folder contains scores, is inside a source, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out} is a file; give a folder for the scores.")
    places = [out / name for name in SCORE_FILES]
    for source in sources:
        check_not_source(source, *places)
    check_free(*places, overwrite=overwrite)


def write_scores(scores: ShardScores, out: Path) -> None:
    """Write `per_query.parquet`, `pr_curve.json` and, last, `metrics.json` into a folder."""
    columns = dict(scores.scores.per_query)
    write_per_query(out / "per_query.parquet", columns, columns.pop("query"))
    area = scores.row["metrics"]["AUPRC_micro"]
    write_curves(out, {"": (scores.scores.curve["micro"], area)})
    RunFolder(out).write_row(replace_nonfinite(scores.row))
