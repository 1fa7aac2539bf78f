"""Settings that only the jobs of a sweep have."""

import pytest

from deephash.command_line.programs.sweeps import defer_settings


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "method=csq,dpsh", "train.epochs=40"], ["-m", "method=csq,dpsh", "train.epochs=choice(40)"]),
        (["method=csq,dpsh", "train.optimizer.lr=0.1", "-m"], None),
        (["-m", "method=ksh,itq", "data=arrays", "data.features=a b.npy", "seed=range(3)"], None),
        (
            ["-m", "method=csq,mdshc", "encoder.hidden=[8,8]"],
            ["-m", "method=csq,mdshc", "encoder.hidden=choice([8,8])"],
        ),
        (["-m", "bits=8,16", "train.epochs=40"], ["-m", "bits=8,16", "train.epochs=choice(40)"]),
        (["-m", "method=csq", "train.epochs=40"], None),
        (["-m", "method=csq,dpsh", "train.epochs=3,4"], None),
        (["-m", "bits=8,16", "+train.epochs=40", "user_metric=[]", "projection.iterations=5"], None),
        (["-m", "method=csq,nothing=3=4", "train.epochs=40"], None),
    ],
)
def test_only_what_the_config_of_the_sweep_lacks_is_deferred(arguments, expected):
    if expected is None and "train.optimizer.lr=0.1" in arguments:
        expected = ["method=csq,dpsh", "train.optimizer.lr=choice(0.1)", "-m"]
    assert defer_settings(arguments) == (expected or arguments)


@pytest.mark.ci
def test_a_setting_reaches_the_jobs_of_a_sweep(forked, tmp_path):
    jobs = ("-m", "method=csq,dpn", "train.epochs=1", "encoder.hidden=[8]", "bits=8", "figures=false", "logger=none")
    status, _, err = forked(tmp_path, "train.py", *jobs, "hydra.sweep.dir=sweep")
    assert status == 0, err
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2


def test_a_setting_that_no_job_has_is_an_error_of_one_line(forked, tmp_path):
    status, _, err = forked(tmp_path, "train.py", "-m", "method=itq,lsh", "train.epochs=1", "logger=none")
    assert status == 2
    assert err.count("\n") == 1
    assert "train.epochs=1" in err
