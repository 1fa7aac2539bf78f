"""Decoders against NumPy's least squares, and their errors."""

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.compression.decoded_vectors import DecodedVectors
from deephash.compression.linear_decoder import LinearDecoder, unpack_signs
from deephash.hashers.hasher import Hasher
from deephash.indexes.flat import Flat
from deephash.indexes.two_stage import TwoStage
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError

ITEMS, DIMENSION, BITS = 9000, 24, 20


@pytest.fixture(scope="module")
def coded():
    """Vectors off the origin, over two blocks, codes of ITQ and their decoder."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(1, 0.2, DIMENSION)
    vectors = torch.randn(ITEMS, DIMENSION, generator=generator) * scales + 0.3
    codes = Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(vectors).encode(vectors)
    return vectors, codes, LinearDecoder.fit(codes, vectors, BITS)


def test_fit_is_least_squares(coded):
    vectors, codes, decoder = coded
    inputs = np.hstack([np.ones((ITEMS, 1)), unpack_signs(codes, BITS).numpy()])
    solution = np.linalg.lstsq(inputs, vectors.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(decoder.offset, solution[0], atol=1e-3)
    np.testing.assert_allclose(decoder.directions, solution[1:], atol=1e-3)
    np.testing.assert_allclose(decoder.decode(codes[:50]), inputs[:50] @ solution, atol=3e-3)


def test_bits_that_never_vary_are_no_trouble(coded):
    vectors, codes, _ = coded
    decoder = LinearDecoder.fit(torch.zeros_like(codes), vectors, BITS)
    np.testing.assert_allclose(decoder.decode(torch.zeros_like(codes[:1]))[0], vectors.mean(0), atol=1e-3)


@pytest.mark.parametrize("measure", ["cosine", "inner_product"])
def test_candidates_are_ordered_by_decoded_vectors(coded, measure):
    vectors, codes, decoder = coded
    queries = vectors[:15] + 0.05
    index = Flat(codes, BITS)
    scores, _ = TwoStage(index, DecodedVectors(codes, decoder, measure), factor=6).search(codes[:15], queries, k=5)
    candidates = index.search(codes[:15], 30)[1].numpy()
    for query in range(15):
        estimates = decoder.decode(codes[candidates[query]]).double().numpy()
        values = estimates @ queries[query].double().numpy()
        values /= np.linalg.norm(estimates, axis=1) if measure == "cosine" else 1
        np.testing.assert_allclose(scores[query], np.sort(values)[::-1][:5], rtol=1e-4, atol=1e-5)


def test_lengths_are_those_of_decoded_vectors(coded):
    _, codes, decoder = coded
    expected = decoder.decode(codes[:40]).norm(dim=1)
    assert torch.allclose(decoder.lengths(unpack_signs(codes[:40], BITS)), expected, rtol=1e-4)
    wide = LinearDecoder(torch.randn(3), torch.randn(30, 3))  # more bits than dimensions
    some = pack(torch.rand(9, 30) > 0.5)
    assert torch.allclose(wide.lengths(unpack_signs(some, 30)), wide.decode(some).norm(dim=1), rtol=1e-4)
    nothing = LinearDecoder(torch.zeros(4), torch.zeros(8, 4))
    assert (nothing.lengths(torch.ones(2, 8)) > 0).all()


def test_saved_and_read(coded, tmp_path):
    decoder = coded[2]
    decoder.save(tmp_path / "decoder.safetensors")
    read = LinearDecoder.load(tmp_path / "decoder.safetensors")
    assert torch.equal(read.offset, decoder.offset)
    assert torch.equal(read.directions, decoder.directions)


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04nothing of the kind"])
def test_what_is_no_decoder_is_refused(content, tmp_path):
    path = tmp_path / "decoder.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        InvalidInputError,
        match=r"decoder.safetensors (is not readable as a decoder .*LinearDecoder.save wrote|does not exist)",
    ):
        LinearDecoder.load(path)


def test_other_sizes_are_refused(coded):
    vectors, codes, decoder = coded
    with pytest.raises(InvalidInputError, match="9000 codes and 8999 vectors; give one for each"):
        LinearDecoder.fit(codes, vectors[1:], BITS)
    with pytest.raises(InvalidInputError, match=r"expected \(d,\) and \(b, d\)"):
        LinearDecoder(torch.zeros(3), torch.zeros(8, 4))
    with pytest.raises(InvalidInputError, match=r"the decoder reads codes of 20 bits, packed as uint8 \(N, 3\)"):
        DecodedVectors(codes[:, :2], decoder)
    with pytest.raises(InvalidInputError, match="queries have 23 dimensions; expected 24"):
        decoder.weights(vectors[:, 1:])
    with pytest.raises(InvalidInputError, match="measure"):
        DecodedVectors(codes, decoder, "euclidean")


def test_the_default_dtype_is_the_users(coded):
    vectors, codes, decoder = coded
    torch.set_default_dtype(torch.float64)
    try:
        again = LinearDecoder.fit(codes, vectors, BITS)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(again.directions, decoder.directions)
