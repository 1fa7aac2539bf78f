"""What a real offline W&B run records."""

import json
import time

import pytest
import torch

from deephash.codes import pack
from deephash.report.diagnostics import bit_diagnostics
from deephash.report.drawing import save_figure
from deephash.report.figures import draw_bits, draw_pr_curve
from deephash.report.wandb_media import log_bits, log_pictures, log_pr_curve, log_result
from deephash.validation import InvalidInputError

RESULT = {
    "method": "itq",
    "bits": 12,
    "k": [100],
    "seed": 3,
    "split": "abc",
    "metrics": {"mAP": 0.43, "AUPRC_micro": float("nan")},
    "skipped_queries": 2,
    "seconds": {"fit": 1.5},
    "warnings": ["dead bits: 1 of 12"],
}
RECALL = torch.tensor([0.0, 0.25, 1.0])
PRECISION = torch.tensor([float("nan"), 0.75, 0.1])


@pytest.fixture(scope="module")
def diagnostics():
    bits = torch.rand(300, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    bits[:, 2] = True
    return bit_diagnostics(pack(bits), 12)


@pytest.fixture(scope="module")
def logged(tmp_path_factory, diagnostics):
    """An offline run that has logged everything: its folder, configuration and summary."""
    import wandb

    folder = tmp_path_factory.mktemp("run")
    save_figure(draw_pr_curve(RECALL, PRECISION), folder / "pr_curve.png")
    save_figure(draw_bits(diagnostics), folder / "bits.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        run = wandb.init(project="deephash-test", dir=str(folder), config={"bits": 12, "seed": 3})
        log_result(run, RESULT)
        log_pr_curve(run, RECALL, PRECISION)
        log_bits(run, diagnostics)
        names = log_pictures(run, folder)
        files = folder / "wandb" / run.dir.split("/wandb/")[-1]
        config, summary = dict(run.config), dict(run.summary)
        run.finish()
    return files, config, summary, names


def tables(files):
    found = [json.loads(path.read_text()) for path in (files / "media" / "table").rglob("*.table.json")]
    return {tuple(table["columns"]): table["data"] for table in found}


def test_configuration_and_summary(logged):
    _, config, summary, _ = logged
    assert config["method"] == "itq"
    assert config["split"] == "abc"
    assert "metrics" not in config
    assert summary["mAP"] == 0.43
    assert summary.get("AUPRC_micro") is None
    assert summary["skipped_queries"] == 2
    assert summary["seconds/fit"] == 1.5
    assert summary["warnings"] == ["dead bits: 1 of 12"]


def test_curve_is_a_table(logged):
    assert tables(logged[0])["radius", "recall", "precision"] == [[1, 0.25, 0.75], [2, 1.0, pytest.approx(0.1)]]


def test_bits_are_a_table_and_totals(logged, diagnostics):
    rows = tables(logged[0])["bit", "share of ones", "entropy", "largest |correlation|"]
    assert [row[:2] for row in rows] == [[bit, share] for bit, share in enumerate(diagnostics.ones.tolist())]
    assert rows[2][1:] == [1, 0, 0]
    others = diagnostics.correlation[1].abs().nan_to_num(0)
    others[1] = 0
    assert rows[1][3] == pytest.approx(float(others.max()))
    summary = logged[2]
    assert (summary["bits/dead"], summary["bits/unbalanced"]) == (1, 0)
    assert summary["bits/mean |correlation|"] == pytest.approx(diagnostics.mean_correlation)


def test_histograms_count_bits_and_pairs(logged):
    summary = logged[2]
    assert sum(summary["bits/share of ones"]["values"]) == 12
    assert sum(summary["bits/correlation"]["values"]) == 11 * 10 / 2


def test_pictures_that_exist_are_stored(logged):
    files, _, _, names = logged
    assert names == ["pr_curve", "bits"]
    stored = sorted(path.name for path in (files / "media" / "images").rglob("*.png"))
    assert [name.split("_")[0] for name in stored] == ["bits", "pr"]


def test_offline_run_is_on_disk(logged):
    (record,) = logged[0].parent.glob("*.wandb")
    # W&B's service, another process, may write its last records after the run has ended.
    deadline = time.monotonic() + 60
    while record.stat().st_size <= 1000 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert record.stat().st_size > 1000


def test_wrong_curve_is_refused():
    with pytest.raises(InvalidInputError, match=r"recall has shape \(3,\) and precision \(2,\)"):
        log_pr_curve(None, RECALL, PRECISION[:2])


def test_folder_without_figures_logs_nothing(tmp_path):
    assert log_pictures(None, tmp_path) == []
