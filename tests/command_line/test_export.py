"""`deephash export` of a real run."""

import numpy as np
import pytest
import torch

from deephash.hashers.loading import load

ONNX = pytest.mark.needs("onnx", "onnxscript", "onnxruntime")


@pytest.mark.parametrize("ending", [".pt", ".pt2", pytest.param(".onnx", marks=ONNX)])
def test_exported_program_gives_the_runs_codes(ending, deephash, fitted_run, digits, tmp_path):
    out = tmp_path / f"itq{ending}"
    ended = deephash("export", fitted_run, out)
    assert ended.status == 0, ended.err
    assert "features float32 (n, 784) to codes uint8 (n, 2)" in ended.out
    assert "on 2,048 rows of the run's data" in ended.out
    features = torch.from_numpy(digits[:300])
    expected = load(fitted_run).encode(features)
    if ending == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        codes = torch.from_numpy(session.run(None, {"features": features.numpy()})[0])
    elif ending == ".pt2":
        codes = torch.export.load(out).module()(features)
    else:
        with pytest.warns(FutureWarning, match="deprecated"):
            program = torch.jit.load(out)
        codes = program(features)
    assert torch.equal(codes, expected)


def test_own_features_and_wrong_endings(deephash, fitted_run, digits, tmp_path):
    np.save(tmp_path / "x.npy", digits[:50])
    ended = deephash("export", fitted_run, tmp_path / "itq.pt", "--check-on", tmp_path / "x.npy")
    assert "on 50 rows of" in ended.out
    ended = deephash("export", fitted_run / "hasher", tmp_path / "again.pt")
    assert "on 2,048 rows of random numbers" in ended.out
    ended = deephash("export", fitted_run, tmp_path / "itq.bin")
    assert ended.status == 2
    assert "expected one of: .onnx, .pt, .pt2" in ended.err
