"""A run of a result file is repeated by its command, and a score that differs is found."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "studies"))

import check  # noqa: E402
from result_files import FOLDER, read_results  # noqa: E402

from deephash.validation import InvalidInputError  # noqa: E402
from deephash.web.study.power import Alternative, compute_requirement  # noqa: E402


def test_one_run_of_a_sweep_keeps_its_settings():
    command = "OMP_NUM_THREADS=1 python train.py -m experiment=a 'seed=range(10,13)' bits=16,32 x.y=3 hydra.sweep.dir=b"
    settings = check.run_settings({"method": "itq", "bits": 32, "seed": 12, "mAP": 0.25})
    expected = ["train.py", "-m", "experiment=a", "seed=12", "bits=32", "x.y=3", "method=itq"]
    assert check.single_run(command, settings) == expected
    assert check.single_run(command, settings | {"seed": "13"}) is None
    assert check.single_run("python studies/satisfaction.py FOLDER", settings) is None


def test_settings_of_tuned_runs():
    run = {
        "method": "cmssh",
        "settings": "projection.step=null projection.threshold_rounds=2",
        "seed": 1,
        "image_to_text/mAP": 0.25,
    }
    expected = {"method": "cmssh", "projection.step": "null", "projection.threshold_rounds": "2", "seed": "1"}
    assert check.run_settings(run) == expected
    assert check.run_settings({"projection.anchors": 300, "seed": 1}) == {"projection.anchors": "300", "seed": "1"}
    assert check.run_settings({"system": "itq sbq 16", "seed": 1, "mAP": 0.5}) is None


@pytest.mark.parametrize(("again", "inside"), [(0.504, True), (0.506, False), (float("nan"), False)])
def test_a_figure_beyond_the_tolerance_is_found(again, inside):
    assert check.compare([0.5], [again], 0.005)[0] is inside


def test_a_mean_lies_within_the_interval_of_the_draws_and_the_tolerance():
    draws = [0.5, 0.5002]  # half the interval is 12.706 standard errors: .00127
    assert check.compare(draws, [0.5013], 0.005) == (True, ".5001 → .5013 [.4988, .5014]")
    assert not check.compare(draws, [0.5015], 0.005)[0]
    assert not check.compare([0.5, 0.6], [0.556], 0.005)[0]
    assert check.compare([0.5, 0.5], [0.5004], 0.005)[0]


def test_cells_are_runs_that_differ_only_in_their_seed_and_quick_ones_are_first():
    cells = check.find_cells(read_results("joint_best"))
    assert [run["seed"] for run in cells[0]] == list(range(10, 20))
    assert {(run["train"], run["bits"], run["quantizer"]) for run in cells[0]} == {("fit", 16, "mhq")}
    assert len(cells) == 12
    line = check.find_cells(read_results("streams_policies"))[0]
    assert {run["line"] for run in line} == {"lsh"}
    assert "method=lsh" in check.find_command(read_results("streams_policies"), line[0])
    assert "train.refit_every=null" in check.find_command(read_results("streams_policies"), line[0])


def test_a_loop_over_intervals_gives_the_interval_of_the_run():
    found = read_results("streams_refitting")
    command = check.find_command(found, next(run for run in found.select(line="itq_cca") if run["interval"] == 2500))
    assert {"train.refit_every=2500", "reencoding.items=2500"} <= set(command)


def test_every_run_has_a_command_but_those_of_whole_studies():
    without = set()
    for path in FOLDER.glob("*.json"):
        found = read_results(path.stem)
        if "benchmarks/" in found.commands[0]:  # times, which another machine does not repeat
            continue
        if not all(check.find_command(found, run) for run in found.select()):
            without.add(path.stem)
    studies = {"nested_codes", "satisfaction", "satisfaction_systems", "satisfaction_gains", "study_power"}
    assert without == studies | {"joint_map_causes"}  # whose runs are named by their folders


def test_a_run_that_fails_is_counted_and_named(monkeypatch, capsys):
    def fail(*_):
        raise InvalidInputError("no such data")

    monkeypatch.setattr(check, "rerun", fail)
    assert check.check_files(["deep_gist"], 2, None, [], check.TOLERANCE) == 2
    assert capsys.readouterr().out.count("no such data") == 2


def test_settings_may_follow_options(monkeypatch):
    found = []
    monkeypatch.setattr(sys, "argv", ["check.py", "deep_gist", "--cells", "2", "data.path=a.npz"])
    monkeypatch.setattr(check, "check_files", lambda *arguments: found.extend(arguments) or 0)
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert not ended.value.code
    assert found == [["deep_gist"], 2, None, ["data.path=a.npz"], check.TOLERANCE]


@pytest.mark.ci
def test_a_cell_of_digits_gives_the_figures_of_its_file(capsys):
    results = read_results("deep_digits")
    cell = [run for run in results.select(method="itq", bits=32) if run["seed"] < 2]
    for run in cell:
        run["precision@100"] += 0.1
    # ITQ's iterations amplify the rounding of a processor, so two draws are allowed four times the usual difference.
    assert check.check_cell(results, cell, None, [], 4 * check.TOLERANCE) is False
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["agrees", "agrees", "DIFFERS"]


@pytest.mark.ci
@pytest.mark.parametrize("name", ["deep_digits", "ksh_or_itq_bits"])
def test_the_quickest_cell_of_a_file_agrees(name, capsys):
    assert check.check_files([name], 1, None, [], check.TOLERANCE) == 0
    assert capsys.readouterr().out.count("agrees") >= 1


def test_the_size_of_a_user_study_is_that_of_its_file():
    (run,) = read_results("study_power").select(preference=0.8, icc=0.05)
    needed = compute_requirement(Alternative(run["preference"], ties=0.2, icc=run["icc"]), 0.8)
    assert needed.independent_judgements == run["independent_judgements"] == 29
    assert needed.clustered_participants == run["clustered_participants"] == 6
