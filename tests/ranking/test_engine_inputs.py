"""Inputs that every engine rejects, with the message, and empty inputs that it accepts."""

import pytest
import torch
from naive_ranking import assert_equals_naive, make_case

from deephash.ranking.auto_engine import AutoEngine, select_engine
from deephash.ranking.distance import Asymmetric, Hamming, Manhattan, VariableManhattan
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.relevance import Neighbours, SharedLabel
from deephash.ranking.torch_engine import TorchEngine
from deephash.validation import InvalidInputError

ENGINE = TorchEngine()
QUERIES, DATABASE = torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(3, 2, dtype=torch.uint8)
LABELS = SharedLabel(torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))


def ids(*values):
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("queries", "database", "distance", "message"),
    [
        (QUERIES.float(), DATABASE, Hamming(16), "query codes have dtype torch.float32; packed codes are torch.uint8"),
        (QUERIES, DATABASE.bool(), Hamming(16), "database codes have dtype torch.bool; packed codes are torch.uint8"),
        (QUERIES, DATABASE, Hamming(17), r"query codes have shape \(2, 2\); codes of 17 bits are packed as \(n, 3\)"),
        (QUERIES, DATABASE[:, :1], Hamming(16), r"database codes have shape \(3, 1\); codes of 16 bits are packed"),
        (QUERIES[0], DATABASE, Hamming(16), r"query codes have shape \(2,\)"),
        (QUERIES.numpy() * 1.0, DATABASE, Hamming(16), "query codes have dtype float64; packed codes are uint8"),
        (QUERIES, DATABASE + 128, Hamming(15), "database codes have ones beyond bit 15 in their last byte"),
        (QUERIES, DATABASE.to("meta"), Hamming(16), r"database codes are a tensor that is without values \(meta\)"),
        (
            QUERIES,
            DATABASE,
            Asymmetric(16, torch.ones(5, 16, dtype=torch.int32)),
            "weights of 5 queries and there are 2 query codes",
        ),
        (
            QUERIES,
            DATABASE,
            Asymmetric(16, torch.full((2, 16), 2**30, dtype=torch.int32)),
            "the largest distance is 17179869184; rankings count up to 16777216",
        ),
    ],
)
def test_refuses_codes(queries, database, distance, message):
    for call in (
        lambda: ENGINE.rank(queries, database, distance, LABELS),
        lambda: ENGINE.search(queries, database, distance, 1),
        lambda: ENGINE.relevant_ranks(queries, database, distance, LABELS),
    ):
        with pytest.raises(InvalidInputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("relevance", "message"),
    [
        (SharedLabel(ids(0), ids(0, 0, 0)), "the relevance is of 1 queries and there are 2 query codes"),
        (SharedLabel(ids(0, 0), ids(0, 0)), "the relevance is of 2 items and there are 3 database codes"),
        (Neighbours(ids(0, 0, 0), ids(), 4), "the relevance is of 4 items and there are 3 database codes"),
        (Neighbours(ids(0, 1, 3), ids(2, 2, 0), 3), "the neighbour ids of query 1 are not ascending and unique"),
        (Neighbours(ids(0, 2, 2), ids(1, 1), 3), "the neighbour ids of query 0 are not ascending and unique"),
    ],
)
def test_refuses_relevance(relevance, message):
    for call in (ENGINE.rank, ENGINE.relevant_ranks):
        with pytest.raises(InvalidInputError, match=message):
            call(QUERIES, DATABASE, Hamming(16), relevance)


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (0, "k=0; expected a whole number of at least 1"),
        (2.0, "k=2.0; expected a whole number"),
        (True, "k=True; expected a whole number"),
        (4, "k=4 exceeds the 3 items of the database; lower k"),
    ],
)
def test_refuses_k(k, message):
    with pytest.raises(InvalidInputError, match=message):
        ENGINE.search(QUERIES, DATABASE, Hamming(16), k)


@pytest.mark.parametrize("engine", [NumbaEngine(), TorchEngine(), AutoEngine()])
@pytest.mark.parametrize(("queries", "items"), [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_empty_inputs(engine, queries, items):
    for relevance in ("label", "labels", "neighbours"):
        assert_equals_naive(engine, make_case(0, queries, items, "hamming", relevance, bits=12))
    distances, found = engine.search(QUERIES[:0], DATABASE, Hamming(16), 2)
    assert distances.shape == found.shape == (0, 2)


def test_auto_engine_follows_the_device():
    assert isinstance(select_engine(torch.device("cpu")), NumbaEngine)
    assert isinstance(select_engine(torch.device("mps")), TorchEngine)
    assert_equals_naive(AutoEngine(), make_case(4, 8, 30, "hamming", "neighbours"))


def test_manhattan_of_known_levels():
    """Levels 3 and 0 are 3 apart, though their two bits differ in both places: not the Hamming distance."""
    query, database = torch.tensor([[0b0011]], dtype=torch.uint8), torch.tensor([[0b0000], [0b1001]], dtype=torch.uint8)
    distances, found = ENGINE.search(query, database, Manhattan(2, 2), 2)
    assert distances.tolist() == [[3, 4]]
    assert found.tolist() == [[0, 1]]


def test_manhattan_of_dimensions_with_bits_of_their_own():
    """Bits 1, 0, 3 and 2, lowest first: 1 011 01 against 0 000 00 is 1 + 6 + 2."""
    distance = VariableManhattan((1, 0, 3, 2))
    assert distance.code_bits == 6
    assert distance.maximum == 1 + 0 + 7 + 3
    query, database = torch.tensor([[0b101101]], dtype=torch.uint8), torch.tensor([[0], [0b101101]], dtype=torch.uint8)
    for engine in (ENGINE, NumbaEngine()):
        distances, found = engine.search(query, database, distance, 2)
        assert distances.tolist() == [[0, 9]]
        assert found.tolist() == [[1, 0]]


@pytest.mark.parametrize("engine", [NumbaEngine(), ENGINE])
@pytest.mark.parametrize(("dimensions", "bits"), [(11, 3), (40, 5)])
def test_equal_bits_are_plain_manhattan(engine, dimensions, bits):
    case = make_case(6, 9, 50, "manhattan", "label", dimensions * bits, bits)
    codes = (case.query_codes, case.database_codes)
    variable = engine.rank(*codes, VariableManhattan((bits,) * dimensions), case.relevance)
    plain = engine.rank(*codes, Manhattan(dimensions, bits), case.relevance)
    assert torch.equal(variable.total, plain.total)
    assert torch.equal(variable.relevant, plain.relevant)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ([1, 2], "bits_per_dimension is a list; give a tuple of whole numbers"),
        ((1, 9), "bits_per_dimension holds 9; expected whole numbers from 0 to 8"),
        ((1, -1), "bits_per_dimension holds -1; expected whole numbers from 0 to 8"),
        ((True,), "bits_per_dimension holds True; expected whole numbers from 0 to 8"),
        ((0, 0), r"bits_per_dimension=\(0, 0\); give at least one dimension a bit"),
        ((), r"bits_per_dimension=\(\); give at least one dimension a bit"),
    ],
)
def test_refuses_bits_per_dimension(bits, message):
    with pytest.raises(InvalidInputError, match=message):
        VariableManhattan(bits)
