"""The choice of an index by measurements: recall by distance, and the fastest kind that reaches it."""

import pytest
import torch

import deephash
from deephash.indexes import build_index, choose_index
from deephash.indexes.choose_index import measure_recall
from deephash.validation import InvalidInputError

FASTEST_FIRST = {"faiss_ivf": 1.0, "flat": 2.0, "mih": 3.0, "faiss_hnsw": 4.0}


@pytest.fixture
def small(monkeypatch):
    """Trials of inverted lists alone, on a sample of few codes, with times that the test decides."""
    monkeypatch.setattr(choose_index, "SAMPLE", 600)
    monkeypatch.setattr(choose_index, "APPROXIMATE", {"faiss_ivf": "probes"})
    monkeypatch.setattr(build_index, "MIN_CODES_FOR_TABLES", 1000)
    times = dict(FASTEST_FIRST)
    measure = choose_index.measure_search
    monkeypatch.setattr(
        choose_index, "measure_search", lambda index, queries: (measure(index, queries)[0], times[index.kind])
    )
    return times


def real_recall(index, codes, seed=0):
    """Recall of an index, compared bit by bit with all codes, for the queries of the choice."""
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[: choose_index.QUERIES]
    bits = torch.from_numpy(__import__("numpy").unpackbits(codes.numpy(), axis=1)).float()
    distances = torch.cdist(bits[order], bits, p=1).sort(1).values[:, :11].long()
    found = index.search(codes[order], 11)[0]
    return float((found[:, 1:] <= distances[:, 10:]).double().mean())


def test_recall_counts_ties_by_distance():
    nearest = torch.tensor([[0, 1, 2, 2], [0, 3, 3, 9]])
    assert measure_recall(nearest, nearest) == 1
    assert measure_recall(torch.tensor([[0, 2, 2, 2], [0, 3, 9, 9]]), nearest) == 1
    assert measure_recall(torch.tensor([[0, 1, 2, 3], [3, 3, 65, 65]]), nearest) == pytest.approx(3 / 6)


def test_the_fastest_kind_that_reaches_the_recall_is_chosen(small, clustered_codes):
    codes = clustered_codes(3000, 64, 0)
    index = deephash.index(codes, "auto", recall=0.9)
    assert index.kind == "faiss_ivf"
    assert real_recall(index, codes) >= 0.9
    chosen = [trial for trial in index.choice.trials if trial.note.startswith("chosen")]
    assert [(trial.kind, trial.codes, trial.settings) for trial in chosen] == [
        ("faiss_ivf", 3000, {"probes": index.probes})
    ]
    assert chosen[0].recall == pytest.approx(real_recall(index, codes))
    again = deephash.index(codes, "auto", recall=0.9).choice
    assert [(t.kind, t.settings, t.codes, t.recall, t.note) for t in again.trials] == [
        (t.kind, t.settings, t.codes, t.recall, t.note) for t in index.choice.trials
    ]
    lines = str(again).splitlines()
    assert lines[0].split()[:4] == ["kind", "setting", "codes", "recall"]
    assert len(lines) == 1 + len(again.trials)
    assert len(set(map(len, (line.rpartition("  ")[0] for line in lines)))) == 1


def test_a_slower_kind_or_one_that_misses_neighbours_is_not_chosen(small, clustered_codes, monkeypatch):
    codes = clustered_codes(3000, 64, 0)
    small["faiss_ivf"] = 2.5
    assert deephash.index(codes, "auto", recall=0.5).kind == "flat"
    small["mih"] = 1.5
    assert deephash.index(codes, "auto", recall=0.5).kind == "mih"
    small.update(FASTEST_FIRST)
    monkeypatch.setattr(choose_index, "measure_recall", lambda found, nearest: 0.94)
    index = deephash.index(codes, "auto", recall=0.95)
    assert index.kind == "flat"
    assert {trial.note for trial in index.choice.trials} == {"chosen, exact", "exact", "sample, misses neighbours"}
    monkeypatch.setattr(choose_index, "MAX_BUILD_SECONDS", 0.0)
    index = deephash.index(codes, "auto", recall=0.5)
    assert index.kind == "flat"
    assert any("a build of all would take" in trial.note for trial in index.choice.trials)


def test_exact_kinds_alone_are_tried_at_full_recall(clustered_codes, monkeypatch, tmp_path):
    monkeypatch.setattr(build_index, "MIN_CODES_FOR_TABLES", 1000)
    codes = clustered_codes(3000, 64, 0)
    index = deephash.index(codes, "auto")
    assert [trial.kind for trial in index.choice.trials] == ["flat", "mih"]
    assert [trial.note for trial in index.choice.trials].count("chosen, exact") == 1
    assert deephash.index(codes[:5], "auto", recall=0.5).kind == "flat"
    index.save(tmp_path)
    assert deephash.load_index(tmp_path).choice is None


def test_a_kind_without_its_package_is_left_out(clustered_codes, monkeypatch):
    build = build_index.build_index

    def build_without(kind, *arguments):
        if kind == "usearch":
            raise InvalidInputError("kind=usearch needs the package usearch")
        return build(kind, *arguments)

    monkeypatch.setattr(build_index, "build_index", build_without)
    index = deephash.index(clustered_codes(800, 64, 0), "auto", recall=0.8)
    assert {trial.kind for trial in index.choice.trials} == {"flat", "faiss_ivf", "faiss_hnsw"}


@pytest.mark.parametrize("recall", [0, 1.5, -1, True, "high", float("nan")])
def test_other_recalls_are_refused(clustered_codes, recall):
    with pytest.raises(InvalidInputError, match=r"recall=.*; expected a number above 0 and at most 1"):
        deephash.index(clustered_codes(20, 64, 0), "auto", recall=recall)


def test_a_recall_needs_auto(clustered_codes):
    with pytest.raises(InvalidInputError, match=r"recall=0.9 is for kind='auto'"):
        deephash.index(clustered_codes(20, 64, 0), "mih", recall=0.9)
