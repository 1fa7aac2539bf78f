"""`deephash compare` on real runs."""

import polars
import pytest

from deephash.metrics.confidence import wilcoxon


@pytest.fixture(scope="module")
def other_runs(tmp_path_factory, compose_config):
    """LSH under the same split, and under another."""
    from deephash.command_line.programs.train import train

    folder = tmp_path_factory.mktemp("others")
    settings = ("method=lsh", "bits=16", "figures=false", "metrics.at=[10]")
    train(compose_config(*settings), folder / "lsh")
    train(compose_config(*settings, "seed=1"), folder / "seed1")
    return folder


def test_figures_settings_and_a_paired_test(deephash, fitted_run, other_runs):
    ended = deephash("compare", fitted_run, other_runs / "lsh", other_runs / "seed1", "--json")
    assert ended.status == 0, ended.err
    compared = ended.json
    assert compared["settings"]["choices.method"] == ["itq", "lsh", "lsh"]
    assert compared["settings"]["seed"] == [0, 0, 1]
    assert "bits" not in compared["settings"]
    (test,) = compared["tests"]
    scores = [
        polars.read_parquet(run / "per_query.parquet")["mAP"].to_numpy() for run in (fitted_run, other_runs / "lsh")
    ]
    assert test["p_value"] == wilcoxon(scores[1], scores[0]).p_value < 1e-10
    assert test["difference"] == pytest.approx(scores[1].mean() - scores[0].mean())
    assert test["difference"] == pytest.approx(compared["metrics"]["mAP"][1] - compared["metrics"]["mAP"][0])
    assert test["effect"] < -0.5
    assert compared["untested"] == {str(other_runs / "seed1"): "another split"}
    shown = deephash("compare", fitted_run, other_runs / "lsh").out
    assert "mAP of 2 minus that of 1: -0." in shown
    assert "choices.method" in shown


def test_wrong_runs_are_refused(deephash, fitted_run, tmp_path):
    for arguments, words in (
        ([fitted_run], "1 run is given; compare takes at least two."),
        ([fitted_run, tmp_path / "no"], "no does not exist"),
        ([fitted_run, fitted_run, "--metric", "mAPP"], "metric='mAPP'; expected one of:"),
    ):
        ended = deephash("compare", *arguments)
        assert ended.status == 2
        assert words in ended.err
