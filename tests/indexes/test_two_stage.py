"""Two stages against NumPy: the same candidates, scored and ordered by hand."""

import numpy as np
import pytest
import torch

import deephash
from deephash.indexes.rescoring import FloatVectors, Int8Vectors, Margins
from deephash.indexes.two_stage import TwoStage
from deephash.validation import InvalidInputError

ITEMS, DIMENSION, QUERIES = 1500, 32, 20


def sign_codes(vectors):
    return torch.from_numpy(np.packbits(vectors.numpy() >= 0, axis=1, bitorder="little"))


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ITEMS, DIMENSION, generator=generator), torch.randn(QUERIES, DIMENSION, generator=generator)


def plain(measure, query, items):
    """Scores of one query's items in float64, and whether more is nearer."""
    query, items = query.astype(np.float64), items.astype(np.float64)
    if measure == "euclidean":
        return np.sqrt(((items - query) ** 2).sum(1)), False
    products = items @ query
    if measure == "inner_product":
        return products, True
    return products / np.linalg.norm(items, axis=1) / np.linalg.norm(query), True


@pytest.mark.parametrize("measure", ["cosine", "euclidean", "inner_product"])
@pytest.mark.parametrize("kept", ["float32", "float16", "array", "int8"])
def test_candidates_are_ordered_by_their_vectors(measure, kept, vectors):
    database, queries = vectors
    rescoring = {
        "float32": lambda: FloatVectors(database, measure),
        "float16": lambda: FloatVectors(database.half(), measure),
        "array": lambda: FloatVectors(database.numpy(), measure),
        "int8": lambda: Int8Vectors.of(database, measure),
    }[kept]()
    stored = {
        "float16": lambda: database.half().float(),
        "int8": lambda: rescoring.values.float() * rescoring.scale,
    }.get(kept, lambda: database)()
    index = deephash.index(sign_codes(database), "flat")
    codes = sign_codes(queries)
    scores, ids = TwoStage(index, rescoring, factor=7).search(codes, queries, k=5)
    candidates = index.search(codes, 35)[1].numpy()
    for query in range(QUERIES):
        values, more = plain(measure, queries[query].numpy(), stored.numpy()[candidates[query]])
        order = np.argsort(-values if more else values)[:5]
        assert ids[query].tolist() == candidates[query][order].tolist()
        np.testing.assert_allclose(scores[query], values[order], rtol=1e-4, atol=1e-5)


def test_int8_is_near_the_vectors(vectors):
    database, _ = vectors
    kept = Int8Vectors.of(database)
    assert kept.values.dtype == torch.int8
    steps = (kept.values.float() * kept.scale - database).abs() / kept.scale
    assert float(steps.max()) <= 0.5 + 1e-4
    assert Int8Vectors.of(torch.zeros(3, 4)).values.count_nonzero() == 0


def test_margins_cost_what_the_query_says(vectors):
    database, queries = vectors
    index = deephash.index(sign_codes(database), "flat")
    codes = sign_codes(queries)
    scores, ids = TwoStage(index, Margins(index.codes, DIMENSION), factor=10).search(codes, queries, k=10)
    candidates = index.search(codes, 100)[1].numpy()
    bits = database.numpy() >= 0
    for query in range(QUERIES):
        margins = queries[query].numpy()
        weights = np.round(np.abs(margins) * (255 / np.abs(margins).max()))
        costs = ((bits[candidates[query]] != (margins >= 0)) * weights).sum(1)
        order = np.lexsort((candidates[query], costs))[:10]
        assert scores[query].tolist() == costs[order].tolist()
        assert ids[query].tolist() == candidates[query][order].tolist()
    # A query's scores are its own, whatever it is asked with.
    alone = TwoStage(index, Margins(index.codes, DIMENSION)).search(codes[:1], queries[:1], k=10)
    assert torch.equal(alone[0], scores[:1])


def test_all_candidates_give_the_exact_neighbours_and_blocks_change_nothing(vectors, monkeypatch):
    database, queries = vectors
    index = deephash.index(sign_codes(database), "mih")
    search = TwoStage(index, FloatVectors(database), factor=ITEMS)
    ids = search.search(sign_codes(queries), queries, k=10)[1]
    exact = torch.cdist(queries, database).argsort(1)[:, :10]
    assert torch.equal(ids, exact)
    monkeypatch.setattr("deephash.indexes.two_stage.BLOCK_BYTES", 1)
    assert torch.equal(search.search(sign_codes(queries).numpy(), queries.numpy(), k=10)[1], ids)
    empty = search.search(sign_codes(queries)[:0], queries[:0], k=3)
    assert empty[0].shape == empty[1].shape == (0, 3)


def test_what_an_approximate_index_misses_stays_missing(vectors):
    database, queries = vectors
    index = deephash.index(sign_codes(database), "faiss_multi_hash", hashes=2, flips=0)
    codes = sign_codes(queries)
    missing = (index.search(codes, 5)[1] < 0).sum(1)
    assert int(missing.max()) > 0
    for measure, away in (("euclidean", np.inf), ("cosine", -np.inf)):
        scores, ids = TwoStage(index, FloatVectors(database, measure), factor=1).search(codes, queries, k=5)
        assert torch.equal((ids < 0).sum(1), missing)
        assert (scores[ids < 0] == away).all()
        assert (ids[:, 1:] < 0).int().diff(dim=1).ge(0).all(), "at the end"


def test_refusals(vectors):
    database, queries = vectors
    index = deephash.index(sign_codes(database), "flat")
    codes = sign_codes(queries)
    with pytest.raises(InvalidInputError, match="measure='dot'; expected one of: cosine, euclidean, inner_product"):
        FloatVectors(database, "dot")
    with pytest.raises(InvalidInputError, match=r"expected .N, d. of a floating dtype"):
        FloatVectors(database.to(torch.int8))
    with pytest.raises(InvalidInputError, match=r"expected .N, d. of int8"):
        Int8Vectors(database, torch.ones(DIMENSION))
    with pytest.raises(InvalidInputError, match=r"scale has shape \(3,\)"):
        Int8Vectors(database.to(torch.int8), torch.ones(3))
    with pytest.raises(InvalidInputError, match="holds 1500 items and there are 9 to score"):
        TwoStage(index, FloatVectors(database[:9]))
    with pytest.raises(InvalidInputError, match="factor=0"):
        TwoStage(index, FloatVectors(database), factor=0)
    search = TwoStage(index, FloatVectors(database))
    with pytest.raises(InvalidInputError, match="queries have 31 dimensions; expected 32"):
        search.search(codes, queries[:, :31])
    with pytest.raises(InvalidInputError, match="20 query codes and 19 queries"):
        search.search(codes, queries[:19])
    with pytest.raises(InvalidInputError, match="k=1501 exceeds the 1500 items"):
        search.search(codes, queries, k=1501)
    with pytest.raises(InvalidInputError, match="margins have 32 dimensions; expected 30"):
        TwoStage(index, Margins(index.codes, 30)).search(codes, queries)


@pytest.fixture(scope="module")
def spoilt():
    """Forty vectors, of which every tenth holds what is no number, and a query next to the vector 1."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(40, 8, generator=generator)
    for row, value in ((0, np.nan), (10, np.inf), (20, -np.inf), (30, np.nan)):
        vectors[row, row % 8] = value
    return vectors, vectors[1:2] + 0.01


@pytest.mark.parametrize("measure", ["cosine", "euclidean", "inner_product"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_vectors_that_are_not_finite_rank_last(measure, dtype, spoilt):
    vectors, query = spoilt
    index = deephash.index(torch.zeros(40, 1, dtype=torch.uint8), "flat")
    search = TwoStage(index, FloatVectors(vectors.to(dtype), measure), factor=40)
    scores, ids = search.search(torch.zeros(1, 1, dtype=torch.uint8), query, k=40)
    assert ids[0, -4:].tolist() == [0, 10, 20, 30]
    away = np.inf if measure == "euclidean" else -np.inf
    assert (scores[0, -4:] == away).all()
    assert torch.isfinite(scores[0, :-4]).all()
    assert measure == "inner_product" or ids[0, 0] == 1


def test_what_half_precision_cannot_hold_ranks_last(spoilt):
    """As `vectors.half()` leaves them: beyond 65,504 is infinite."""
    vectors = spoilt[0].nan_to_num(0, 0, 0)
    vectors[7] *= 1e5
    index = deephash.index(torch.zeros(40, 1, dtype=torch.uint8), "flat")
    search = TwoStage(index, FloatVectors(vectors.half(), "inner_product"), factor=40)
    assert search.search(torch.zeros(1, 1, dtype=torch.uint8), vectors[7:8], k=40)[1][0, -1] == 7


class Missing:
    """An index that finds two candidates of four."""

    size = next_id = 4

    def search(self, codes, k):
        return torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[3, 1, -1, -1]])


def test_a_candidate_that_cannot_be_compared_comes_before_those_not_found():
    vectors = torch.tensor([[1.0], [np.nan], [1.0], [2.0]])
    search = TwoStage(Missing(), FloatVectors(vectors, "cosine"))
    scores, ids = search.search(torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 1), k=4)
    assert ids.tolist() == [[3, 1, -1, -1]]
    assert scores.tolist() == [[1.0, -np.inf, -np.inf, -np.inf]]


@pytest.mark.parametrize("measure", ["cosine", "euclidean", "inner_product"])
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(10.0**power, torch.float32 if abs(power) < 40 else torch.float64) for power in (25, -25, -38, 150, -300, 300)],
)
def test_the_order_does_not_depend_on_the_scale(measure, scale, dtype, vectors):
    database, queries = vectors[0][:200], vectors[1]
    index = deephash.index(torch.zeros(200, 1, dtype=torch.uint8), "flat")
    codes = torch.zeros(QUERIES, 1, dtype=torch.uint8)
    expected = TwoStage(index, FloatVectors(database, measure), factor=200).search(codes, queries, k=20)[1]
    if measure == "inner_product" and abs(np.log10(scale)) > 290:
        queries = queries.double()  # A product beyond float64 has no place in it.
    else:
        queries = queries.to(dtype) * scale
    found = TwoStage(index, FloatVectors(database.to(dtype) * scale, measure), factor=200)
    assert torch.equal(found.search(codes, queries, k=20)[1], expected)


def test_margins_of_any_scale(vectors):
    database, queries = vectors
    index = deephash.index(sign_codes(database), "flat")
    search, codes = TwoStage(index, Margins(index.codes, DIMENSION)), sign_codes(queries)
    expected = search.search(codes, queries, k=10)
    for scale in (2.0**120, 2.0**-120):
        scores, ids = search.search(codes, queries * scale, k=10)
        assert torch.equal(ids, expected[1])
        assert torch.equal(scores, expected[0])
    assert search.search(codes, (queries * 1e-4).half(), k=10)[0].max() < 255 * DIMENSION


def test_int8_vectors_beyond_float32_are_refused(vectors):
    with pytest.raises(InvalidInputError, match="scale has values beyond float32; divide the vectors"):
        Int8Vectors.of(vectors[0].double() * 1e300)


def test_vectors_in_the_order_of_the_ids_fit_an_index_that_changes():
    """Vectors are appended in the order of `add`; those of removed items stay."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 16)).astype(np.float32)
    codes = np.packbits(vectors > 0, axis=1, bitorder="little")
    index = deephash.index(codes[:40], "mih")
    early = TwoStage(index, FloatVectors(vectors[:40], "cosine"), factor=4)
    index.add(codes[40:])
    index.remove(range(5, 20))
    index.compact()
    _, ids = TwoStage(index, FloatVectors(vectors, "cosine"), factor=4).search(codes[35:50], vectors[35:50], k=1)
    assert ids[:, 0].tolist() == list(range(35, 50))
    with pytest.raises(InvalidInputError, match="there are 40 to score"):
        early.search(codes[:1], vectors[:1], k=1)
