"""The study of users: what users of lists and of pages see, and its tables and result files."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import SharedLabel
from deephash.satisfaction.grid_browsing import GridBrowsing
from deephash.satisfaction.position_based import PositionBased

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module("satisfaction")


@pytest.fixture
def draws(study):
    """Figures of two draws of three systems and two metrics, one of which orders systems as all users do."""
    felt = {user: [0.1, 0.2, 0.4] for users in study.PAGES.values() for user in users}

    def figures(seed):
        taus = {"mAP": 1 / 3, "precision@10": 1.0 - seed / 10}
        rows = [
            {"metric": metric, "user": user, "tau": tau, "overlap": 0.5, "per query": 0.25}
            for metric, tau in taus.items()
            for user in felt
        ]
        return {
            "seed": seed,
            "systems": ["a", "b", "c"],
            "means": {"mAP": [0.3, 0.2, 0.5], "precision@10": [0.1, 0.3, 0.6]},
            "satisfied": felt,
            "examined": {user: [5.0] * 3 for user in felt},
            "lists against grids": 1.0,
            "agreement": rows,
            "separated": dict.fromkeys((*taus, *felt), 0.9),
            "needed gain": [{"queries": 1, "mAP": None, "mAP: agreeing pairs": 0.7}],
        }

    return [figures(0), figures(1)]


def test_report_orders_metrics_and_has_intervals_over_draws(study, draws):
    lines = [line for line in study.format_report(draws).splitlines() if line.startswith("|")]
    first, second = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:4])
    # 0.1 / 2 · t(.975, 1) = .635.
    assert first[:3] == ["precision@10", "0.95 ± 0.64", "0.95 ± 0.64"]
    assert second[:2] == ["mAP", "0.33 ± 0.00"]
    assert "| a " in study.format_report(draws), "a leads b by mAP, and not by users"


def test_result_files_hold_each_run_in_its_fields(study, draws, tmp_path):
    study.write_all_results(tmp_path, {"sweep": draws}, ["command"])
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert {name: len(file["runs"]) for name, file in found.items()} == {
        "satisfaction": 4,
        "satisfaction_systems": 6,
        "satisfaction_gains": 2,
    }
    for file in found.values():
        assert all(len(run) == len(file["fields"]) for run in file["runs"])
    rows = [dict(zip(found["satisfaction"]["fields"], run, strict=True)) for run in found["satisfaction"]["runs"]]
    assert [(row["seed"], row["metric"], row["τ, grid"]) for row in rows[2:]] == [
        (1, "mAP", 0.333333),
        (1, "precision@10", 0.9),
    ]


def test_users_of_pages_see_more_than_users_of_lists(study):
    draws_module = importlib.import_module("satisfaction_draws")
    bits = torch.arange(8)[None] < torch.arange(9)[:, None]
    codes = pack(bits.repeat(12, 1))
    query = pack(torch.zeros(2, 8, dtype=torch.bool))
    users = {"position-based": PositionBased(decay=0.0), "grid": GridBrowsing(spread=np.inf, perseverance=1.0)}
    # Nothing is relevant, so that nobody leaves early.
    wanted = SharedLabel(torch.ones(2, dtype=torch.int64), torch.zeros(len(codes), dtype=torch.int64))
    satisfied, examined, shown = draws_module.simulate_sessions((query, codes, Hamming(8)), wanted, users, 0)
    assert shown.shape == (2, 100)
    assert not any(values.any() for values in satisfied.values())
    assert examined["position-based"].tolist() == [50, 50]
    assert (examined["grid"] > 90).all()
