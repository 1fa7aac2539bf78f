"""Ties and relevance on the page agree with the scores that the runs stored for the same queries."""

import polars
import pytest

from deephash.web.demo.served_run import load_runs

pytest.importorskip("fastapi", reason="needs pip install 'deephash[demo]'")

from fastapi.testclient import TestClient

from deephash.web.demo.demo_application import build_application

BALL = ("method=itq", "bits=12", "truth=epsilon_ball", "protocol=five_way_small")
RUNS = {
    "labels": ("method=lsh", "bits=12", "protocol=five_way_small"),
    "epsilon ball": BALL,
    "validation queries": (*BALL, "score=validation"),
    "regions": ("method=pcah", "quantizer=mhq", "bits=12", "protocol=five_way_small"),
    "learnt codes": ("method=cmfh", "bits=12", "metrics.database_codes=learnt"),
}


def precision_at_10(ties):
    """Tie-aware: where a tie is cut, the share of it that is taken counts."""
    taken = hits = 0
    for tie in ties:
        used = min(tie["items"], 10 - taken)
        hits += tie["relevant"] * used / tie["items"]
        taken += used
    return hits / 10


@pytest.mark.parametrize("name", RUNS)
def test_precision_of_each_query_is_the_runs(name, make_run, request):
    data = ()
    if name == "learnt codes":
        data = ("data=wiki", f"data.path={request.getfixturevalue('real_data') / 'wiki.npz'}")
    folder = make_run("run", *RUNS[name], *data)
    scores = polars.read_parquet(folder / "per_query.parquet").with_row_index()
    client = TestClient(build_application(load_runs([folder])), base_url="http://localhost")
    (run,) = client.get("/api/runs").json()["runs"]
    checked = 0
    for row in scores.gather_every(len(scores) // 12).iter_rows(named=True):
        asking, _, searched = row.get("direction", "").partition("_to_")
        asked = {"row": row["query"], "asking": asking, "searched": searched, "k": 10}
        answer = client.get("/api/runs/0/neighbours", params=asked).json()
        assert answer["relevant"] == row["relevant"]
        assert answer["size"] == run["database"][searched]
        if row["precision@10"] is not None:
            assert precision_at_10(answer["ties"]) == pytest.approx(row["precision@10"], abs=1e-9)
            checked += 1
    assert checked > 8
