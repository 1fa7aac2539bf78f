"""A wrong choice or name gives one line with the nearest one that exists, and correct overrides are left alone."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from deephash.command_line.programs.overrides import explain_overrides, read_flags
from deephash.command_line.programs.wrong_names import explain_failure, explain_first_job, find_nearest
from deephash.io.configuration import find_configuration_folder, list_choices


def explain(*overrides, program="train", multirun=False):
    """The line for overrides that Hydra refuses."""
    return explain_overrides(list(overrides), multirun, program) or explain_failure(
        program, list(overrides), ValueError("Hydra's own message")
    )


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["method=ITQ+CCA"], "method=ITQ+CCA is unknown; did you mean itq_cca? `deephash train --help` lists"),
        (["method=itq.yaml"], "method=itq.yaml is unknown; did you mean itq?"),
        (["method=shared/deep"], "method=shared/deep is unknown; `deephash train --help` lists the choices."),
        (["method="], "method= is unknown; `deephash"),
        (["method=3"], "method=3 is unknown; `deephash"),
        (["method=null"], "method=null is unknown; `deephash"),
        (["loss=null"], "loss=null cannot be read; to leave loss out, type ~loss."),
        (["logger=null"], "logger=null is unknown; did you mean none? Expected one of: csv, none, "),
        (["method=[itq,lsh]"], "method=[itq,lsh] gives several choices for one; choose one, or run each"),
        (["loss=[ap,balanc]"], "loss=balanc is unknown; did you mean balance?"),
        (["experiment=unsup"], "experiment=unsup is unknown; did you mean unsupervised?"),
        (["trainer=gpus"], "trainer=gpus is unknown; did you mean gpu? Expected one of: cpu, ddp, default, fsdp, gpu."),
        (
            ["hydra/launcher=submitit"],
            "hydra/launcher=submitit is unknown; install it: pip install 'deephash[submitit]'",
        ),
        (["hydra/job_logging=x"], "hydra/job_logging=x is unknown; expected one of: default, disabled, none, stdout."),
        (["+method=itq"], "+method=itq: every run has one choice of method; type method=itq."),
        (["++method=itq"], "++method=itq: every run has one choice of method; type method=itq."),
        (["+experiment=wiki"], "+experiment=wiki: every run has one choice of experiment; type experiment=wiki."),
        (["~method"], "~method: every run has one choice of method; choose another one by method=NAME."),
        (["~metho"], "~metho: there is no setting metho; did you mean method?"),
        (["~bits=3"], "~bits=3: bits is 64; type ~bits to delete it."),
        (["+bits=3"], "+bits=3: bits exists; type bits=3, without +."),
        (["+bitz=3"], "+bitz=3: there is no setting bitz; did you mean bits?"),
        (["++metrics.att=[3]"], "++metrics.att=[3]: there is no setting metrics.att; did you mean metrics.at?"),
        (["+exxperiment=wiki"], "+exxperiment=wiki: there is no setting exxperiment; did you mean experiment?"),
        (["METHOD=itq"], "METHOD=itq: there is no setting METHOD; did you mean method?"),
        (["method.x=3"], "method.x=3: method is a choice, such as method=adapthash, and has no settings itself;"),
        (
            ["index=auto"],
            "index=auto: a run ranks all items exactly and builds no index; build one of a run's database",
        ),
        (["index=mih"], "index=mih: a run ranks all items exactly and builds no index"),
        (["+index=mih"], "+index=mih: a run ranks all items exactly and builds no index"),
        (["bits.x=3"], "bits.x=3: bits is one value, 64, and has no setting x; type bits=VALUE."),
        (["zzz=3"], "zzz=3: there is no setting zzz; `deephash train --cfg job` lists the settings."),
        (["data=arrays", "data.feature=x"], "data.feature=x: data has no setting feature; did you mean data.features?"),
        (["data.features=x"], "data.features=x: data has no setting features in this run; these have it: data=arrays"),
        (
            ["train.epoch=5"],
            "train.epoch=5: train has no setting epoch; did you mean train.epochs, a setting of train=",
        ),
        (["train=stream", "reencoding.every=3"], "reencoding.every=3: reencoding has no setting every; it has: items."),
        (["reencoding=every"], "reencoding=every belongs to train=stream, which this run does not have; add train="),
        (["quantizer@foo=sbq"], "quantizer@foo=sbq: this run chooses no quantizer at foo; type quantizer=NAME, or +"),
        (["foo"], "foo cannot be read; expected name=value, such as bits=32"),
        (["bits:3"], "bits:3 cannot be read; expected name=value"),
        (["=3"], "=3 has no name; expected name=value"),
        (["hydra.run.dirr=x"], "hydra.run.dirr=x: hydra.run has no setting dirr; did you mean hydra.run.dir?"),
        (["bits=32"], "Hydra's own message (HYDRA_FULL_ERROR=1 shows where)"),
    ],
)
def test_the_line_names_the_value_and_the_nearest_name(overrides, line):
    found = explain(*overrides)
    assert found.startswith(line)
    assert len(found) < 400
    assert "\n" not in found


def test_every_job_of_a_sweep_is_explained():
    assert explain("method=lsh,itqq", multirun=True).startswith("method=itqq is unknown; did you mean itq?")
    assert explain("method=glob(zz*)", multirun=True).startswith("method=glob(zz*) matches none of adapthash, ")
    line = explain("method=itq,lsh", "projection.iterations=3", multirun=True)
    assert line.startswith("projection.iterations=3: projection has no setting iterations in this run; these have it:")
    assert explain_first_job("train", ["bitz=3,4"]).startswith("bitz=3: there is no setting bitz; did you mean bits?")
    assert explain_first_job("train", ["method=itq,lsh", "seed=range(3)", "bits=choice(8,16)"]) is None


def test_the_commands_own_choices_are_named():
    assert explain("method=itq", "run=x", program="evaluate").startswith(
        "method=itq: method is no part of this command"
    )
    assert explain("rum=x", program="evaluate").startswith("rum=x: there is no setting rum; did you mean run?")


@pytest.mark.parametrize(
    "overrides",
    [
        *(["method=itq", "bits=32"], ["loss=[ap,balance]", "train=joint"], ["train=stream", "stream=new_classes"]),
        *(["+trainer.num_nodes=4"], ["+encoder@encoder.image=mlp"], ["~loss"], ["tune=ksh", "method=ksh"]),
        # A new name is allowed if another setting refers to it.
        *(["+bitz=3", "bits=${bitz}"], ["+folder=/x"], ["hydra.searchpath=[file:///nowhere]", "method=mine"]),
    ],
)
def test_correct_overrides_are_left_alone(overrides, capsys):
    assert explain_overrides(overrides, False, "train") is None
    assert capsys.readouterr().err == ""


def test_every_choice_of_every_group_is_known():
    groups = [folder for folder in list_groups() if folder not in ("hydra", "index")]
    for group in groups:
        for choice in list_choices(group):
            assert explain_overrides([f"{group}={choice}"], False, "train") is None


def list_groups():
    with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
        from hydra.core.global_hydra import GlobalHydra

        return GlobalHydra.instance().config_loader().list_groups("")


def test_choices_of_installed_packages_are_known():
    store = ConfigStore.instance()
    store.store(group="method", name="plugged", node={"projection": {"_target_": "x.Y"}}, package="_global_")
    try:
        assert explain_overrides(["method=plugged"], False, "train") is None
        assert explain_overrides(["method=plugge"], False, "train").startswith(
            "method=plugge is unknown; did you mean plugg"
        )
        with initialize_config_dir(find_configuration_folder(), version_base="1.3"):
            assert compose("train", ["method=plugged"]).projection._target_ == "x.Y"
    finally:
        del store.repo["method"]["plugged.yaml"]


def test_a_repeated_override_is_noted(capsys):
    assert explain_overrides(["bits=3", "method=itq", "bits=5"], False, "train") is None
    assert capsys.readouterr().err == "warning: bits is given twice, by bits=3 and bits=5; the last one counts.\n"


def test_options_are_read_apart_from_overrides():
    assert read_flags(["--cfg", "job", "bits=3"]) == (None, ["bits=3"], True)
    assert read_flags(["-m", "bits=3,4"]) == (None, ["bits=3,4"], False)
    assert read_flags(["--run", "-m"])[0] == "--run and --multirun exclude each other; choose one."
    assert read_flags(["--cfg", "x"])[0].startswith("argument --cfg/-c: invalid choice: 'x' (choose from ")


@pytest.mark.parametrize(
    ("name", "nearest"), [("itqq", "itq"), ("ITQ-CCA", "itq_cca"), ("Balanc", "balance"), ("zzzz", None), ("", None)]
)
def test_nearest_names(name, nearest):
    assert find_nearest(name, ["itq", "itq_cca", "balance"]) == nearest
