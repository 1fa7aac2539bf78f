"""Metrics of user models in the scores of a run: graded for several labels, optional, the same when rescored."""

import numpy as np
import polars as pl
import pytest
import torch

from deephash.command_line.programs.train import train
from deephash.training.building import build_user_metrics
from deephash.training.evaluate_run import evaluate
from deephash.validation import InvalidInputError

DEFAULTS = ["nDCG@10", "ERR@20", "RBP_0.8", "search_length@1", "success@5"]
GRADED = ["nDCG_graded@10", "ERR_graded@20", "RBP_graded_0.8"]


@pytest.fixture
def settings(tmp_path):
    """A run on 300 items, each with each of four labels or not, that move the features."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(300, 4, generator=generator) < 0.4
    features = labels.float() @ torch.randn(4, 16, generator=generator) + torch.randn(300, 16, generator=generator)
    np.save(tmp_path / "features.npy", features.numpy())
    np.save(tmp_path / "labels.npy", labels.numpy())
    return (
        "data=arrays",
        f"data.features={tmp_path / 'features.npy'}",
        f"data.labels={tmp_path / 'labels.npy'}",
        "protocol.queries=50",
        "method=lsh",
        "bits=12",
        "metrics.at=[10]",
        "figures=false",
    )


def test_figures_of_users_are_among_a_run_s_own(settings, compose_config, tmp_path):
    row = train(compose_config(*settings), tmp_path / "run").row
    figures = row["metrics"]
    assert [name for name in figures if name in {*DEFAULTS, *GRADED}] == [*DEFAULTS, *GRADED]
    assert all(0 < figures[name] < 1 for name in [*DEFAULTS[:3], *GRADED])
    assert figures["nDCG@10"] > figures["nDCG_graded@10"]
    columns = pl.read_parquet(tmp_path / "run" / "per_query.parquet")
    for name in (*DEFAULTS, *GRADED):
        values = columns[name].drop_nulls()
        assert len(values) == 50 - row["skipped_queries"]
        assert values.mean() == pytest.approx(figures[name], rel=1e-12)
    again, stored = evaluate(compose_config(f"run={tmp_path / 'run'}", config_name="evaluate"), tmp_path / "again")
    assert stored is not None
    assert again.row["metrics"] == figures
    chosen = compose_config(
        f"run={tmp_path / 'run'}", "user_metric=[scanning_seconds]", "user_metric.scanning_seconds.wanted=[3]",
        config_name="evaluate",
    )  # fmt: skip
    other, stored = evaluate(chosen, tmp_path / "other")
    assert stored is None
    assert other.row["metrics"]["scanning_seconds@3"] > 3 * 6
    assert not {*DEFAULTS, *GRADED} & set(other.row["metrics"])
    assert other.row["metrics"]["mAP"] == figures["mAP"]


def test_a_depth_beyond_the_database_is_lowered(settings, compose_config, tmp_path):
    with pytest.raises(InvalidInputError, match=r"user_metric\.success: k=0; expected a whole number"):
        build_user_metrics(compose_config(*settings, "user_metric.success.at=[0]"))
    config = compose_config(*settings, "user_metric.ndcg.at=[10,251]")
    row = train(config, tmp_path / "run").row
    assert {"nDCG@10", "nDCG@250"} <= set(row["metrics"])
    assert "user_metric.ndcg.at=[10, 251] exceeds the database's 250 items; lowered to 250." in row["warnings"]


def test_costs_are_nothing_to_choose_by(settings, compose_config, tmp_path):
    config = compose_config(*settings, "train=joint", "loss=ap", "train.select_by=search_length@1", "train.epochs=1")
    with pytest.raises(InvalidInputError, match=r"train\.select_by='search_length@1'; expected one of: "):
        train(config, tmp_path / "run")
