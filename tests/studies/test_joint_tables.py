"""The tables of joint training against the best two-step pipelines, from runs with known scores."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies"))

from page_tables import joint


def row(quantizer, train, seed, score):
    return {
        "method": "itq",
        "quantizer": quantizer,
        "train": train,
        "seed": seed,
        "AUPRC_micro": score,
        "mAP": 1 - score,
    }


@pytest.fixture
def runs():
    """NPQ is the best fit in AUPRC and MHQ in mAP; joint training is better than NPQ in six of seven draws."""
    fits = [row("npq", "fit", seed, 0.4 + seed / 100) for seed in range(7)]
    fits += [row("mhq", "fit", seed, 0.2) for seed in range(7)]
    return fits + [row("npq", "joint", seed, 0.4 + seed / 100 + (0.02 if seed else -0.01)) for seed in range(7)]


def test_the_best_of_each_side_are_paired_by_draw(runs):
    cells = joint.compare(runs, "AUPRC_micro")
    assert cells[0].startswith("ITQ + NPQ: .4300 ±")
    assert cells[0].endswith("(.400 to .460)")
    assert cells[1].startswith("from ITQ + NPQ: .4457 ±")
    assert "+3.7 %" in cells[2]
    assert cells[3:] == ("6 of 7", ".031")
    assert joint.compare(runs, "mAP")[0].startswith("ITQ + MHQ: .8000")
    assert joint.compare(runs, "mAP")[3] == "0 of 7"


def test_pipelines_are_compared_on_the_draws_that_all_have(runs):
    # Above the mean of ITQ + NPQ, but not in this draw.
    assert joint.compare([*runs, row("mhq", "joint", 6, 0.47)], "AUPRC_micro")[1].startswith("from ITQ + NPQ")


def test_pipelines_with_fewer_draws_are_not_ranked(runs):
    ranked = joint.rank_pipelines([*runs[:14], row("sbq", "fit", 0, 0.9)], "AUPRC_micro")
    assert ranked == "ITQ + NPQ .430, ITQ + MHQ .200"
