"""`deephash study`: its analysis of a log, its power, its errors."""

import importlib
import json
import sys

import polars
import pytest

import deephash as package
from deephash.web.study.design import StudyDesign
from deephash.web.study.log import StudyLog
from deephash.web.study.records import GivenAnswer, ShownItem, StudiedRun, Study, Trial
from deephash.web.study.session_number import format_session


@pytest.fixture(scope="module")
def other_run(tmp_path_factory, compose_config):
    """A run of LSH on the data and split of `fitted_run`."""
    from deephash.command_line.programs.train import train

    folder = tmp_path_factory.mktemp("other") / "lsh"
    train(compose_config("method=lsh", "bits=16", "figures=false", "metrics.at=[10]"), folder)
    return folder


@pytest.fixture(scope="module")
def judged(fitted_run, other_run, tmp_path_factory):
    """A log of 12 participants, who prefer the run that has the higher mAP for a query, but for every fifth judgement.

    Returns:
        The log's path, and the judgements, as query → preferences.
    """
    runs = tuple(StudiedRun(folder.name, "title", package.load(folder).identity) for folder in (fitted_run, other_run))
    path = tmp_path_factory.mktemp("judged") / "study.sqlite"
    one, other = (polars.read_parquet(folder / "per_query.parquet") for folder in (fitted_run, other_run))
    gains = sorted(zip((one["mAP"] - other["mAP"]).to_list(), one["query"].to_list(), strict=True))
    # ITQ is the better for nearly all queries; of those that judge here it is so for half.
    gains = [*gains[:7], *gains[-8:]]
    assert gains[6][0] < 0 < gains[7][0]
    preferences, judgement = {}, 0
    with StudyLog.create(path, Study(StudyDesign(mode="side_by_side"), runs, "split", "text")) as log:
        for participant in range(12):
            session = log.add_session()
            for place in range(5):
                gain, query = gains[(participant + 3 * place) % 15]
                judgement += 1
                preferred = 0 if judgement % 5 == 0 else (1 if gain > 0 else -1)
                preferences.setdefault(query, []).append(preferred)
                left = judgement % 2
                sides = tuple((ShownItem(run, run),) for run in (left, 1 - left))
                log.show(session, Trial(place, query, "side_by_side", sides))
                choice = {0: "none", 1: "left", -1: "right"}[preferred * (1 if left == 0 else -1)]
                ratings = (3 + preferred, 3) if left == 0 else (3, 3 + preferred)
                log.answer(session, place, GivenAnswer(choice, (), ratings, 4.0))
    return path, preferences


def test_analysis_is_that_of_the_judgements(deephash, judged, fitted_run, other_run):
    from scipy import stats

    path, preferences = judged
    given = [one for found in preferences.values() for one in found]
    found = deephash("study", "analyse", path, "--run", other_run, "--run", fitted_run, "--json").json
    (whole,) = found["preferences"]
    assert (whole["participants"], whole["judgements"]) == (12, 60)
    assert [whole[name] for name in ("first", "neither", "second")] == [given.count(one) for one in (1, 0, -1)]
    assert {one["rated"]: one["mean"] for one in found["ratings"]}["first less second"] == pytest.approx(
        sum(given) / 60
    )
    # The order in which the folders are given does not matter: they are told by their hashers.
    one, other = (
        polars.read_parquet(folder / "per_query.parquet").filter(polars.col("query").is_in(list(preferences)))
        for folder in (fitted_run, other_run)
    )
    assert one["query"].equals(other["query"])
    means = [sum(preferences[query]) / len(preferences[query]) for query in one["query"]]
    by_metric = {(entry["metric"], entry["judged"]): entry for entry in found["agreements"]}
    for metric in ("mAP", "precision@10"):
        gain = (one[metric] - other[metric]).round(12).to_list()
        for kind in ("preference", "rating"):
            assert by_metric[metric, kind]["tau"] == pytest.approx(stats.kendalltau(gain, means).statistic)
    assert by_metric["mAP", "preference"]["tau"] > 0.5
    low, high = by_metric["mAP", "preference"]["interval"]
    assert 0 < low < by_metric["mAP", "preference"]["tau"] < high


def test_tables_show_it(deephash, judged, fitted_run, other_run):
    ended = deephash("study", "analyse", judged[0], "--run", fitted_run, "--run", other_run)
    assert (ended.status, ended.err) == (0, "")
    for part in ("title (run)", "title (lsh)", "sign-flip test, p", "first less second", "precision@10", "left list"):
        assert part in ended.out
    assert "give --run" in deephash("study", "analyse", judged[0]).out


def test_other_runs_are_refused(deephash, judged, fitted_run):
    ended = deephash("study", "analyse", judged[0], "--run", fitted_run, "--run", fitted_run)
    assert ended.status == 2
    assert "are not both runs of this study, which compares run and lsh" in ended.err
    assert "give both" in deephash("study", "analyse", judged[0], "--run", fitted_run).err


def test_session_is_deleted_by_its_number(deephash, judged, tmp_path):
    path = tmp_path / "copy.sqlite"
    path.write_bytes(judged[0].read_bytes())
    with StudyLog.read(path) as log:
        number = log.judgements()[0].session
    ended = deephash("study", "delete", path, format_session(number))
    assert ended.out == f"session {format_session(number)} is deleted, with 5 answers\n"
    with StudyLog.read(path) as log:
        assert len(log.judgements()) == 55
    assert "is not in the study" in deephash("study", "delete", path, str(number)).err
    assert "expected 12 digits" in deephash("study", "delete", path, "7").err
    # As it is printed, without quotes.
    with StudyLog.read(path) as log:
        number = log.judgements()[0].session
    assert deephash("study", "delete", path, *format_session(number).split()).status == 0
    with StudyLog.read(path) as log:
        assert len(log.judgements()) == 50
    ended = deephash("study", "delete", path, "0000", "0000", "0000")
    assert (ended.status, "session='0000 0000 0000'; expected 12 digits" in ended.err) == (2, True)


@pytest.mark.parametrize("contents", [None, b"no database", b""])
def test_what_is_no_log_is_one_line(deephash, tmp_path, contents):
    path = tmp_path / "study.sqlite"
    if contents is not None:
        path.write_bytes(contents)
    for command in (("analyse", path), ("delete", path, "123456789012")):
        ended = deephash("study", *command)
        assert (ended.status, ended.out) == (2, "")
        assert str(path) in ended.err
        assert ended.err.count("\n") == 1


def test_log_without_answers_is_one_line(deephash, tmp_path):
    runs = (StudiedRun("one", "one", "a"), StudiedRun("two", "two", "b"))
    StudyLog.create(tmp_path / "study.sqlite", Study(StudyDesign(), runs, "split", "text")).close()
    ended = deephash("study", "analyse", tmp_path / "study.sqlite")
    assert ended.status == 2
    assert "holds no answer yet" in ended.err


def test_power_is_shown(deephash):
    found = deephash("study", "power", "--preference", ".7", "--ties", ".2", "--participants", "5", "--json").json
    from deephash.web.study.power import Alternative, needed_judgements, sign_test_power

    sought = Alternative(0.7, ties=0.2)
    assert found["independent_judgements"] == needed_judgements(sought, 0.8)
    assert found["reached"] == pytest.approx(sign_test_power(100, sought))
    table = deephash("study", "power", "--preference", ".7", "--icc", ".2").out
    assert "sign flips, simulated" in table
    ended = deephash("study", "power", "--preference", ".4")
    assert ended.status == 2
    assert ended.err == "error: preference=0.4; expected a number above 0.5 and below 1.\n"


@pytest.fixture
def served(monkeypatch):
    """What would be served, noted instead."""
    pytest.importorskip("fastapi", reason="needs pip install 'deephash[demo]'")
    calls = []
    server = importlib.import_module("deephash.web.study.study_server")
    monkeypatch.setattr(server, "serve_study", lambda *arguments: calls.append(arguments))
    return calls


def test_settings_reach_the_server(deephash, served, fitted_run, tmp_path):
    log = tmp_path / "log"
    ended = deephash("study", "serve", fitted_run, fitted_run, "--log", log, "--mode", "interleaved", "--pool", "7")
    assert (ended.status, ended.err) == (0, "")
    design = StudyDesign(mode="interleaved", pool=7)
    assert served[0][:6] == ([fitted_run, fitted_run], log, design, "", "127.0.0.1", 8000)


def test_other_addresses_are_warned_of(deephash, served, fitted_run, tmp_path):
    ended = deephash("study", "serve", fitted_run, fitted_run, "--log", tmp_path / "log", "--host", "0.0.0.0")
    assert ended.err.startswith("warning: anyone who can reach 0.0.0.0 port 8000 sees items of these data")


@pytest.mark.needs("fastapi")
@pytest.mark.parametrize(
    ("setting", "named"), [("--mode=blind", "mode='blind'"), ("--depth=0", "depth=0"), ("--seed=-1", "seed=-1")]
)
def test_wrong_settings_are_one_line(deephash, fitted_run, tmp_path, setting, named):
    ended = deephash("study", "serve", fitted_run, fitted_run, "--log", tmp_path / "log", setting)
    assert ended.status == 2
    assert named in ended.err
    assert not (tmp_path / "log").exists()


@pytest.mark.needs("fastapi")
def test_one_run_is_one_line(deephash, fitted_run, tmp_path):
    ended = deephash("study", "serve", fitted_run, "--log", tmp_path / "log", "--port", "0")
    assert ended.status == 2
    assert "runs=1; expected two" in ended.err


def test_missing_library_names_the_extra(deephash, fitted_run, tmp_path, monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("deephash.web.demo.", "deephash.web.study.study_server"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    ended = deephash("study", "serve", fitted_run, fitted_run, "--log", tmp_path / "log")
    assert ended.status == 2
    assert "pip install 'deephash[demo]'" in ended.err


def test_json_is_json(deephash, judged):
    assert json.loads(deephash("study", "analyse", judged[0], "--json").out)["agreements"] == []
