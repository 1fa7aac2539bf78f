"""The scan by float queries against a plain matrix product of decoded vectors."""

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.compression.asymmetric_scan import AsymmetricScan
from deephash.compression.code_products import ByteLengths
from deephash.compression.decoded_vectors import DecodedVectors
from deephash.compression.linear_decoder import LinearDecoder
from deephash.indexes.flat import Flat
from deephash.indexes.rescoring import FloatVectors, Int8Vectors
from deephash.validation import InvalidInputError

ITEMS, DIMENSION, BITS, QUERIES = 9000, 24, 20, 300


@pytest.fixture(scope="module")
def coded():
    """More items, and more queries, than a block has; codes of random hyperplanes."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(ITEMS, DIMENSION, generator=generator) + 0.3
    codes = pack(vectors @ hyperplanes() >= 0)
    queries = vectors[:QUERIES] + 0.2 * torch.randn(QUERIES, DIMENSION, generator=generator)
    return vectors, codes, LinearDecoder.fit(codes, vectors, BITS), queries


def hyperplanes():
    return torch.randn(DIMENSION, BITS, generator=torch.Generator().manual_seed(1))


def plain(measure, decoder, codes, queries):
    estimates, queries = decoder.decode(codes).double().numpy(), queries.double().numpy()
    products = queries @ estimates.T
    if measure == "cosine":
        products /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(estimates, axis=1)
    return products


@pytest.mark.parametrize("measure", ["cosine", "inner_product"])
def test_finds_the_largest_products(coded, measure):
    _, codes, decoder, queries = coded
    scores, ids = AsymmetricScan(codes, decoder, measure=measure, keep_lengths=False).search(queries, k=12)
    products = plain(measure, decoder, codes, queries)
    np.testing.assert_allclose(scores, np.sort(products, 1)[:, ::-1][:, :12], atol=1e-4)
    np.testing.assert_allclose(scores, np.take_along_axis(products, ids.numpy(), 1), atol=1e-4)
    assert all(len(set(row)) == 12 for row in ids.tolist())


def test_lengths_in_a_byte_are_near(coded):
    _, codes, decoder, queries = coded
    kept, computed = (AsymmetricScan(codes.numpy(), decoder, keep_lengths=keep) for keep in (True, False))
    assert (kept.item_bytes, computed.item_bytes) == (4, 3)
    near, exact = kept.search(queries.numpy(), k=10)[0], computed.search(queries, k=10)[0]
    assert float((near - exact).abs().max()) < 0.01
    lengths = ByteLengths(codes, decoder)
    truth = decoder.decode(codes).norm(dim=1)
    assert float((lengths[slice(None)] - truth).abs().max()) <= lengths.step / 2 + 1e-5


def test_equal_lengths_are_kept_too():
    decoder = LinearDecoder(torch.zeros(2), torch.eye(2))
    codes = torch.arange(4, dtype=torch.uint8)[:, None]
    scores, ids = AsymmetricScan(codes, decoder).search(torch.tensor([[1.0, 1.0]]), k=4)
    assert ids[0, 0] == 3
    np.testing.assert_allclose(scores[0], [1, 0, 0, -1], atol=1e-6)


def test_float_queries_find_more_than_codes(coded):
    vectors, codes, decoder, queries = coded
    unit = torch.nn.functional.normalize
    nearest = (unit(queries) @ unit(vectors).T).topk(10).indices

    def recall(ids):
        return float((ids[:, :, None] == nearest[:, None]).any(1).double().mean())

    by_codes = recall(Flat(codes, BITS).search(pack(queries @ hyperplanes() >= 0), 10)[1])
    by_query = recall(AsymmetricScan(codes, decoder).search(queries, 10)[1])
    rescored = AsymmetricScan(codes, decoder, FloatVectors(vectors, "cosine"), factor=20)
    assert by_codes + 0.02 < by_query
    assert by_query + 0.1 < recall(rescored.search(queries, 10)[1])


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_candidates_are_rescored(coded, kind):
    vectors, codes, decoder, queries = coded
    rescoring = FloatVectors(vectors, "cosine") if kind == "float" else Int8Vectors.of(vectors, "cosine")
    scores, ids = AsymmetricScan(codes, decoder, rescoring, factor=5).search(queries[:20], k=4)
    candidates = AsymmetricScan(codes, decoder).search(queries[:20], k=20)[1]
    for query in range(20):
        values = rescoring.scores(codes[:1], queries[query : query + 1], candidates[query : query + 1])[0]
        best = values.topk(4)
        assert torch.allclose(scores[query], best.values, atol=1e-6)
        assert ids[query].tolist() == candidates[query][best.indices].tolist()


def test_no_queries_and_all_items(coded):
    vectors, codes, decoder, queries = coded
    for rescoring in (None, FloatVectors(vectors[:50], "cosine")):
        scan = AsymmetricScan(codes[:50], decoder, rescoring)
        assert scan.search(queries[:0], k=3)[1].shape == (0, 3)
        assert sorted(scan.search(queries[:1], k=50)[1][0].tolist()) == list(range(50))


def test_what_does_not_fit_is_refused(coded):
    vectors, codes, decoder, queries = coded
    scan = AsymmetricScan(codes, decoder)
    with pytest.raises(InvalidInputError, match="k=9001; expected at most 9000"):
        scan.search(queries, k=9001)
    with pytest.raises(InvalidInputError, match="queries have 23 dimensions"):
        scan.search(queries[:, 1:])
    with pytest.raises(InvalidInputError, match="0 rows; expected at least one"):
        AsymmetricScan(codes[:0], decoder)
    with pytest.raises(InvalidInputError, match="holds 9000 items and there are 8 to score"):
        AsymmetricScan(codes, decoder, FloatVectors(vectors[:8]))
    with pytest.raises(InvalidInputError, match="factor=0"):
        AsymmetricScan(codes, decoder, factor=0)
    with pytest.raises(InvalidInputError, match="20 bits"):
        AsymmetricScan(codes[:, :1], decoder)


@pytest.mark.parametrize("measure", ["cosine", "inner_product"])
@pytest.mark.parametrize("power", [90, -90])
def test_the_order_does_not_depend_on_the_scale(coded, measure, power):
    vectors, codes, decoder, queries = coded
    expected = AsymmetricScan(codes, decoder, measure=measure).search(queries[:20], k=30)[1]
    scaled = LinearDecoder.fit(codes, vectors * 2.0**power, BITS)
    scan = AsymmetricScan(codes, scaled, measure=measure)
    assert torch.equal(scan.search(queries[:20] * 2.0**power, k=30)[1], expected)
    candidates = torch.arange(200).repeat(20, 1)
    one, other = (DecodedVectors(codes, each, measure) for each in (decoder, scaled))
    queried = one.scores(codes[:20], queries[:20], candidates), other.scores(codes[:20], queries[:20], candidates)
    assert torch.equal(queried[0].argsort(dim=1, stable=True), queried[1].argsort(dim=1, stable=True))
    assert torch.isfinite(queried[1]).all()


def test_a_vector_that_is_not_finite_ranks_last(coded):
    vectors, codes, decoder, queries = coded
    expected = AsymmetricScan(codes, decoder, FloatVectors(vectors, "cosine")).search(queries[:5], k=3)[1]
    spoilt = vectors.clone()
    spoilt[expected[:, 0], 0] = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.nan, torch.inf])
    scores, ids = AsymmetricScan(codes, decoder, FloatVectors(spoilt, "cosine")).search(queries[:5], k=3)
    assert torch.equal(ids[:, 0], expected[:, 1])
    assert torch.isfinite(scores).all()


def test_a_decoder_that_is_not_finite_is_refused(coded):
    vectors, codes, decoder, _ = coded
    with pytest.raises(InvalidInputError, match="directions contain NaN or infinity in 20 of 20 rows"):
        LinearDecoder(decoder.offset, decoder.directions * torch.nan)
    with pytest.raises(
        InvalidInputError, match=r"the vectors reach \de\+300, and float32 cannot hold their directions; divide them"
    ):
        LinearDecoder.fit(codes, vectors.double() * 1e300, BITS)
