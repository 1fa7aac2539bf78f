"""The tables of joint training against the best two-step pipelines, from runs with known scores."""

import importlib
import json
from pathlib import Path

import pytest

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module("joint_results")


def row(quantizer, train, seed, score, bits=32):
    return {
        "method": "itq",
        "quantizer": quantizer,
        "train": train,
        "loss": None if train == "fit" else "pooled_ap",
        "bits": bits,
        "seed": seed,
        "metrics": {"AUPRC_micro": score, "mAP": 1 - score},
        "skipped_queries": 3,
        "folder": Path(f"sweep/itq-{quantizer}-{train}-seed{seed}"),
    }


@pytest.fixture
def rows():
    """NPQ is the best fit in AUPRC and MHQ in mAP; joint training is better than NPQ in six of seven draws."""
    fits = [row("npq", "fit", seed, 0.4 + seed / 100) for seed in range(7)]
    fits += [row("mhq", "fit", seed, 0.2) for seed in range(7)]
    return fits + [row("npq", "joint", seed, 0.4 + seed / 100 + (0.02 if seed else -0.01)) for seed in range(7)]


def test_a_result_file_holds_each_run_and_reads_back(study, rows, tmp_path):
    text = study.format_record(study.build_record("example", reversed(rows), ["python train.py"], "0" * 40))
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert len([line for line in text.splitlines() if "pooled_ap" in line]) == 7
    path = tmp_path / "example.json"
    path.write_text(text)
    runs = study.read_record(path)
    assert len(runs) == 21
    assert (runs[-1]["seed"], runs[-1]["AUPRC_micro"]) == (6, 0.48)
    assert runs[0]["run"] == "itq-mhq-fit-seed0"


def test_the_best_of_each_side_are_paired_by_draw(study, rows):
    runs = [{**each, **each["metrics"]} for each in rows]
    cells = study.compare(runs, "AUPRC_micro", 32)
    assert cells[:2] == ("AUPRC, micro", "32")
    assert cells[2].startswith("itq + npq: .4300 ±")
    assert cells[2].endswith("(.400 to .460)")
    assert cells[3].startswith("itq + npq, pooled_ap: .4457 ±")
    assert "+3.7 %" in cells[4]
    assert cells[5:] == ("6 of 7", ".031")
    # The smallest loss of mAP is MHQ's fit, and joint training's mean is far below it.
    assert study.compare(runs, "mAP", 32)[2].startswith("itq + mhq: .8000")
    assert study.compare(runs, "mAP", 32)[5] == "0 of 7"


def test_pipelines_are_compared_on_the_draws_that_all_have(study, rows):
    # Above the mean of ITQ + NPQ, but not in this draw.
    runs = [{**each, **each["metrics"]} for each in [*rows, row("mhq", "joint", 6, 0.47)]]
    assert study.compare(runs, "AUPRC_micro", 32)[3].startswith("itq + npq")


def test_pipelines_with_fewer_draws_are_not_ranked(study, rows):
    fits = [{**each, **each["metrics"]} for each in [*rows[:14], row("sbq", "fit", 0, 0.9)]]
    table = study.rank_pipelines(fits, most=1)
    assert "itq + npq .430" in table
    assert "itq + mhq .800" in table
    assert "sbq" not in table
    assert "2 × 7" in table


def test_variants_are_means_over_draws(study, rows):
    runs = [{**each, **each["metrics"], "run": each["folder"].name} for each in rows]
    lines = study.variants_table(runs).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["itq-mhq-fit", "itq-npq-fit", "itq-npq-joint"]
    assert [cell.strip() for cell in lines[2].split("|")[2:5]] == [".200", ".800", "7"]
