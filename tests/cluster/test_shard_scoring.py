"""Scores of a database in shards equal those of one process, bit for bit, by torch.distributed and by Ray."""

import itertools
import json

import numpy as np
import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deephash.cluster.run_shards import write_run_shards
from deephash.cluster.shard_ranking import rank_rows
from deephash.cluster.shard_scoring import score_shards, write_scores
from deephash.code_files.code_shards import open_queries, open_shards
from deephash.command_line.programs.train import train
from deephash.functional.shares import get_share
from deephash.io.files import read_json
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels, select_items
from deephash.report.curve_file import read_curves
from deephash.validation import InvalidInputError

PROGRAM = "deephash.command_line.main"
ASKED = ("--at", "10,100", "--radii", "2", "--json")


@given(st.integers(0, 200), st.integers(1, 20))
def test_shares_are_all_rows_once(rows, workers):
    shares = [get_share(rows, worker, workers) for worker in range(workers)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("kind", ["label", "labels", "neighbours"])
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=4))
def test_counts_of_any_cut_add_up_to_those_of_all(kind, seed, cuts):
    draw = np.random.default_rng(seed)
    queries, database = (torch.from_numpy(draw.integers(0, 256, (n, 1), np.uint8)) for n in (7, 60))
    if kind == "label":
        relevance = SharedLabel(*(torch.from_numpy(draw.integers(0, 3, n)) for n in (7, 60)))
    elif kind == "labels":
        relevance = SharedLabels(*(torch.from_numpy(draw.random((n, 3)) < 0.3) for n in (7, 60)))
    else:
        listed = [np.flatnonzero(draw.random(60) < 0.2) for _ in range(7)]
        offsets = np.cumsum([0, *map(len, listed)])
        relevance = Neighbours(torch.from_numpy(offsets), torch.from_numpy(np.concatenate(listed)), 60)
    engine, edges = NumbaEngine(), sorted([0, 60, *cuts])
    parts = [
        engine.rank(queries, database[low:high], Hamming(8), select_items(relevance, low, high))
        for low, high in itertools.pairwise(edges)
    ]
    whole = engine.rank(queries, database, Hamming(8), relevance)
    added = sum(parts[1:], parts[0])
    assert torch.equal(added.total, whole.total)
    assert torch.equal(added.relevant, whole.relevant)


def assert_same_figures(row, run_folder):
    stored = read_json(run_folder / "metrics.json", "a row")
    assert row["metrics"] == stored["metrics"]
    assert row["skipped_queries"] == stored["skipped_queries"]


def test_one_process_gives_the_run_s_own_figures_exactly(run_folder, shards_folder, tmp_path):
    scores = score_shards(shards_folder / "queries.npy", [shards_folder / "database"], at=[10, 100], radii=[2])
    assert_same_figures(scores.row, run_folder)
    write_scores(scores, tmp_path)
    scored, own = (polars.read_parquet(folder / "per_query.parquet") for folder in (tmp_path, run_folder))
    assert scored.drop("query").equals(own.drop("query"))
    assert read_curves(tmp_path) == read_curves(run_folder)


@pytest.mark.ci
def test_three_processes_give_the_run_s_own_figures_exactly(run_folder, shards_folder, command):
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", 3, "-m", PROGRAM)
    row = json.loads(command(*launcher, "score", shards_folder / "queries.npy", shards_folder / "database", *ASKED))
    assert row["workers"] == 3
    assert_same_figures(row, run_folder)


@pytest.mark.ci
def test_ray_gives_the_run_s_own_figures_exactly(run_folder, shards_folder, command):
    pytest.importorskip("ray")
    asked = (PROGRAM, "score", shards_folder / "queries.npy", shards_folder / "database", *ASKED)
    row = json.loads(command(*asked, "--engine", "ray", "--workers", 2))
    assert row["workers"] == 2
    assert_same_figures(row, run_folder)


def test_listed_neighbours_are_found_across_shards(compose_config, tmp_path):
    settings = ("method=lsh", "bits=12", "figures=false", "truth=nearest_neighbours", "metrics.at=[10]")
    train(compose_config(*settings, "protocol.queries=4000"), tmp_path / "run")
    write_run_shards(tmp_path / "run", tmp_path / "shards", 3)
    found = score_shards(tmp_path / "shards/queries.npy", [tmp_path / "shards/database"], at=[10], radii=[2])
    assert_same_figures(found.row, tmp_path / "run")


def test_blocks_cross_files_and_need_no_order(shards_folder, monkeypatch):
    monkeypatch.setattr("deephash.code_files.code_shards.BLOCK_ROWS", 333)
    shards = open_shards([shards_folder / "database"])
    queries = open_queries(shards_folder / "queries.npy", shards)
    pieces = [rank_rows(queries, shards, get_share(len(shards), worker, 7)) for worker in reversed(range(7))]
    added = sum(pieces[1:], pieces[0])
    whole = rank_rows(queries, shards, range(len(shards)))
    assert torch.equal(added.relevant, whole.relevant)
    assert whole.total.sum(1).eq(len(shards)).all()


def test_what_does_not_fit_is_refused(shards_folder, tmp_path):
    shard = shards_folder / "database/shard-00000.npy"
    bare = tmp_path / "shard-00000.npy"
    bare.write_bytes(shard.read_bytes())
    bare.with_suffix(".json").write_text(shard.with_suffix(".json").read_text())
    with pytest.raises(InvalidInputError, match=r"has neither shard-00000\.labels\.npy nor"):
        score_shards(bare, [shard])
    with pytest.raises(InvalidInputError, match="k=900000 exceeds the 4000 items"):
        score_shards(shards_folder / "queries.npy", [shards_folder / "database"], at=[900_000])
    with pytest.raises(InvalidInputError, match="holds no codes"):
        score_shards(shards_folder / "queries.npy", [])
    np.save(bare, np.load(shard)[:-1])
    with pytest.raises(InvalidInputError, match="its description says"):
        score_shards(shards_folder / "queries.npy", [bare])
