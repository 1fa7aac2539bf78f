"""`deephash info` on each thing that deephash writes."""

import numpy as np

from deephash.hashers.loading import load


def test_run_hasher_codes_and_index(deephash, fitted_run, digits, tmp_path):
    np.save(tmp_path / "x.npy", digits[:100])
    assert deephash("encode", fitted_run, tmp_path / "x.npy", tmp_path / "codes.npy").status == 0
    assert deephash("index", tmp_path / "codes.npy", tmp_path / "index").status == 0
    identity = load(fitted_run).identity
    run = deephash("info", fitted_run, "--json").json
    assert (run["what"], run["state"], run["method"]) == ("run", "complete", "itq")
    assert (run["hasher"]["identity"], run["hasher"]["bits"]) == (identity, 16)
    assert 0.3 < run["metrics"]["mAP"] < 0.5
    hasher = deephash("info", fitted_run / "hasher", "--json").json
    assert (hasher["what"], hasher["parts"], hasher["identity"]) == ("hasher", "Identity → ITQ → SBQ", identity)
    codes = deephash("info", tmp_path / "codes.npy", "--json").json
    assert (codes["what"], codes["rows"], codes["hasher"]) == ("codes", 100, identity)
    index = deephash("info", tmp_path / "index", "--json").json
    assert (index["what"], index["kind"], index["size"], index["hasher"]) == ("index", "flat", 100, identity)
    assert identity in deephash("info", tmp_path / "index").out


def test_anything_else_is_refused(deephash, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    for path, words in (
        (tmp_path / "x.npy", "was not written by deephash"),
        (tmp_path, "was not written by deephash"),
        ("no", "does not exist"),
    ):
        ended = deephash("info", path)
        assert ended.status == 2
        assert words in ended.err
