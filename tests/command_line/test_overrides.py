"""Overrides that Hydra cannot parse are reported with the form to type."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deephash.command_line.programs.overrides import explain_other_mode, explain_unreadable, run_hydra


@pytest.mark.parametrize(
    "path",
    [
        *("/tmp/a=b.npy", "/tmp/a#b.npy", "/tmp/a[1].npy", "/tmp/a,b.npy", "/tmp/ä.npy", "/tmp/日本 x.npy", "/tmp/{x}"),
        *("/tmp/(x).npy", "'/tmp/a", '/tmp/a"b.npy', "/tmp/a'b\"c.npy", "/tmp/x&y|z;.npy", "C:\\data, new\\x.npy"),
    ],
)
def test_the_form_to_type_gives_the_path(path):
    line = explain_unreadable(f"data.features={path}")
    assert line.startswith(f"data.features={path} ")
    (typed,) = shlex.split(line.rpartition("type: ")[2])
    assert explain_unreadable(typed) is None
    assert OverridesParser.create().parse_override(typed).value() == path


@pytest.mark.parametrize(
    "argument",
    [
        *("bits=32", "data.features=/tmp/a b.npy", "+x.y=[1,2]", "~data.descriptor", "-m", "--help", "user_metric=[]"),
        *(
            "trainer.callbacks=[{_target_: x.Y, decay: 0.9}]",
            'data.features="/tmp/a=b.npy"',
            "+encoder@encoder.image=mlp",
        ),
    ],
)
def test_what_can_be_read_is_left_alone(argument):
    assert explain_unreadable(argument) is None


def test_sweeps_need_their_flag():
    assert explain_unreadable("seed=range(3)", multirun=True) is None
    assert explain_unreadable("seed=range(3)").startswith(
        "seed=range(3) has several values; add -m for a sweep over them"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["train.epochs=5"],
            "train.epochs is a setting of train=joint, and this run has train=fit; choose train=joint,",
        ),
        (["method=itq", "+train.optimizer.lr=1"], "train.optimizer is a setting of train=joint, and this run has"),
        (
            ["-m", "bits=8,16", "train.epochs=1,2"],
            "train.epochs is a setting of train=joint, and this run has train=fit",
        ),
        (["train.batch_size=5"], "train.batch_size is a setting of train=joint or train=stream, and this run has"),
        (
            ["train=joint", "train.capacity=5"],
            "train.capacity is a setting of train=stream, and this run has train=joint",
        ),
    ],
)
def test_a_setting_of_another_mode_names_that_mode(arguments, line):
    assert explain_other_mode([*arguments, "logger=none"]).startswith(line)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["train=joint", "train.epochs=5"], ["method=dpsh", "train.epochs=5"], ["train=stream", "train.batch_size=5"]),
        # The experiment sweeps over fit and joint, and has settings of both.
        ["experiment=joint_auprc", "train=fit", "train.epochs=5"],
        *(["-m", "method=itq,dpsh", "train.epochs=5"], ["-m", "experiment=joint_auprc", "train.capacity=5"]),
        # Hydra and the runner explain these.
        *(["train.epoch=5"], ["method=itk", "train.epochs=5"], ["seed=a=b", "train.epochs=5"]),
        *(["protocol.train=100"], ["resume=x", "train.epochs=5"], ["--help"]),
    ],
)
def test_other_settings_of_training_are_left_alone(arguments):
    assert explain_other_mode(arguments) is None


def test_a_sweep_may_have_settings_of_another_mode(monkeypatch):
    ran = []
    monkeypatch.setattr("sys.argv", ["train.py", "-m", "train=fit,joint", "+train.epochs=5"])
    run_hydra(lambda: ran.append(True), explain_other_mode)
    assert ran


def test_statuses(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py", "data.features=a=b.npy"])
    with pytest.raises(SystemExit) as ended:
        run_hydra(lambda: pytest.fail("it was run"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: data.features=a=b.npy cannot be read")
    for given, expected in ((1, 2), (2, 2), (130, 130)):
        monkeypatch.setattr("sys.argv", ["train.py", "bits=3"])
        with pytest.raises(SystemExit) as ended:
            run_hydra(lambda code=given: exit_with(code))
        assert ended.value.code == expected


def exit_with(code):
    raise SystemExit(code)
