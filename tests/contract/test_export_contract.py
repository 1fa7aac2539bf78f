"""Every method and quantiser can be exported, and the program gives its codes, bit for bit."""

import pytest
import torch
from packaging.version import Version

from deephash.codes import unpack
from deephash.export import packed_program
from deephash.export.export_hasher import export_hasher
from deephash.export.formats import FORMATS
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.quantizers.vbq import VBQ
from deephash.validation import InvalidInputError


def fitted(projection_class, quantizer, sample):
    hasher = Hasher(projection_class(16, quantizer.projection_dim), quantizer)
    given = sample.supervision(projection_class) | sample.supervision(type(quantizer))
    return hasher.fit(sample.features, **given)


def test_every_projection_is_exported(projection_class, sample, tmp_path):
    hasher = fitted(projection_class, SBQ(5), sample)
    try:
        done = export_hasher(hasher, sample.features, tmp_path / "program.pt2")
    except InvalidInputError as refusal:
        if Version(torch.__version__) < Version("2.13") and "Constraints violated" in str(refusal):
            pytest.skip(
                f"torch {torch.__version__} exports {projection_class.__name__} for a fixed number of rows only"
            )
        raise
    assert (done.rows, done.differing_bits) == (len(sample.features), 0)
    program = FORMATS["torch_export"].load(tmp_path / "program.pt2")
    assert torch.equal(program(sample.features[:7]), hasher.encode(sample.features[:7]))


def test_every_quantizer_is_exported(quantizer_class, sample, tmp_path):
    hasher = fitted(ITQ, quantizer_class(12), sample)
    done = export_hasher(hasher, sample.features, tmp_path / "program.pt")
    assert (done.rows, done.differing_bits) == (len(sample.features), 0)


@pytest.mark.needs("onnx", "onnxscript", "onnxruntime")
def test_onnx_of_several_bits_a_projection(sample, tmp_path):
    hasher = fitted(ITQ, VBQ(12), sample)
    export_hasher(hasher, sample.features, tmp_path / "program.onnx")
    program = FORMATS["onnx"].load(tmp_path / "program.onnx")
    differing = unpack(program(sample.features), 12) != unpack(hasher.encode(sample.features), 12)
    assert differing.float().mean() <= 1e-4


def test_a_program_with_other_codes_is_not_kept(sample, tmp_path, monkeypatch):
    hasher = fitted(ITQ, SBQ(5), sample)
    monkeypatch.setattr(packed_program, "PLACES", packed_program.PLACES[::-1])
    with pytest.raises(InvalidInputError, match=r"bits of the torchscript program differ from the hasher's"):
        export_hasher(hasher, sample.features, tmp_path / "program.pt")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_traced_gives_the_reason(sample, tmp_path):
    hasher = fitted(ITQ, SBQ(5), sample)
    hasher.quantizer.quantize = lambda projections: projections >= (0 if projections.sum() > 0 else 1)
    with pytest.raises(InvalidInputError, match=r"ITQ with SBQ cannot be exported as torch_export \(.+\); choose"):
        export_hasher(hasher, sample.features, tmp_path / "program.pt2")
    assert list(tmp_path.iterdir()) == []
