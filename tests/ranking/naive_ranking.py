"""Slow, plain NumPy rankings that the engines must equal, and random cases to compare them on."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

from deephash.codes import pack
from deephash.ranking.distance import Asymmetric, Hamming, Manhattan, VariableManhattan
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels

KINDS = ("hamming", "manhattan", "variable manhattan", "asymmetric")


@dataclass
class Case:
    """One ranking task, with what makes it and what the engines get."""

    query_bits: np.ndarray
    database_bits: np.ndarray
    distance: object
    relevance: object
    relevant: np.ndarray

    @property
    def query_codes(self):
        return pack(torch.from_numpy(self.query_bits))

    @property
    def database_codes(self):
        return pack(torch.from_numpy(self.database_bits))


def naive_distances(case):
    """All distances, int64 (q, N), straight from the definitions."""
    q, d, distance = case.query_bits, case.database_bits, case.distance
    if isinstance(distance, Hamming):
        return (q[:, None] != d[None]).sum(-1)
    if isinstance(distance, Asymmetric):
        return ((q[:, None] != d[None]) * distance.weights.numpy()[:, None].astype(np.int64)).sum(-1)
    if isinstance(distance, VariableManhattan):
        distances, start = np.zeros((len(q), len(d)), np.int64), 0
        for bits in distance.bits_per_dimension:
            levels = [x[:, start : start + bits] @ 2 ** np.arange(bits) for x in (q, d)]
            distances += np.abs(levels[0][:, None] - levels[1][None])
            start += bits
        return distances
    powers = 2 ** np.arange(distance.bits_per_dimension)
    levels = [x.reshape(len(x), distance.dimensions, len(powers)) @ powers for x in (q, d)]
    return np.abs(levels[0][:, None] - levels[1][None]).sum(-1)


def naive_rank(case):
    distances, bins = naive_distances(case), case.distance.maximum + 1
    total, relevant = np.zeros((len(distances), bins), np.int64), np.zeros((len(distances), bins), np.int64)
    for i, row in enumerate(distances):
        for j, value in enumerate(row):
            total[i, value] += 1
            relevant[i, value] += case.relevant[i, j]
    return total, relevant


def naive_search(case, k):
    distances = naive_distances(case)
    ids = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, ids, 1), ids


def naive_ranks(case):
    """Each query's ranks of relevant items in the stable order, as a list of arrays."""
    ranks = []
    for i, row in enumerate(naive_distances(case)):
        order = np.argsort(row, kind="stable")
        ranks.append(np.flatnonzero(case.relevant[i, order]))
    return ranks


def draw_widths(rng, bits, largest):
    """Numbers of bits from 0 to `largest` that sum to `bits`."""
    widths = []
    while sum(widths) < bits:
        widths.append(min(int(rng.integers(0, largest + 1)), bits - sum(widths)))
    return tuple(widths)


def make_case(seed, queries, items, kind, relevance, bits=64, per_dimension=2, spread=0.5, classes=5):
    """A case by seed; a small spread makes nearly equal codes, and so many ties."""
    rng = np.random.default_rng(seed)
    if kind == "manhattan":
        bits = max(1, bits // per_dimension) * per_dimension
    centre = rng.random(bits) < 0.5
    query_bits, database_bits = (centre ^ (rng.random((n, bits)) < spread) for n in (queries, items))
    if kind == "hamming":
        distance = Hamming(bits)
    elif kind == "manhattan":
        distance = Manhattan(bits // per_dimension, per_dimension)
    elif kind == "variable manhattan":
        distance = VariableManhattan(draw_widths(rng, bits, per_dimension))
    else:
        distance = Asymmetric(bits, torch.from_numpy(rng.integers(0, 9, (queries, bits)).astype(np.int32)))
    if relevance in ("label", "sparse label"):
        scale = 1 if relevance == "label" else 10**12
        q, d = (scale * rng.integers(0, classes, n) for n in (queries, items))
        given, relevant = SharedLabel(torch.from_numpy(q), torch.from_numpy(d)), q[:, None] == d[None]
    elif relevance == "labels":
        q, d = (rng.random((n, 13 * classes)) < 0.05 for n in (queries, items))
        given = SharedLabels(torch.from_numpy(q), torch.from_numpy(d))
        relevant = (q[:, None] & d[None]).any(-1)
    else:
        relevant = (rng.random((queries, items)) < 0.2) & (rng.random((queries, 1)) < 0.7)
        offsets = np.concatenate([[0], relevant.sum(1).cumsum()]).astype(np.int64)
        given = Neighbours(torch.from_numpy(offsets), torch.from_numpy(np.nonzero(relevant)[1]), items)
    return Case(query_bits, database_bits, distance, given, relevant)


def cases(lengths, kinds=KINDS, largest=70):
    """Hypothesis strategy of cases whose code lengths come from `lengths`."""
    return st.builds(
        make_case,
        seed=st.integers(0, 2**32 - 1),
        queries=st.integers(0, 19),
        items=st.integers(0, largest),
        kind=st.sampled_from(kinds),
        relevance=st.sampled_from(["label", "sparse label", "labels", "neighbours"]),
        bits=lengths,
        per_dimension=st.integers(1, 5),
        spread=st.sampled_from([0.0, 0.05, 0.5]),
        classes=st.integers(1, 6),
    )


def assert_equals_naive(engine, case):
    """Every public method of the engine against the naive rankings, bit for bit."""
    codes = (case.query_codes, case.database_codes, case.distance)
    counts = engine.rank(*codes, case.relevance)
    total, relevant = naive_rank(case)
    assert counts.total.dtype == counts.relevant.dtype == torch.int64
    np.testing.assert_array_equal(counts.total.numpy(), total)
    np.testing.assert_array_equal(counts.relevant.numpy(), relevant)
    offsets, ranks = engine.relevant_ranks(*codes, case.relevance)
    assert offsets.dtype == ranks.dtype == torch.int64
    expected = naive_ranks(case)
    np.testing.assert_array_equal(offsets.numpy(), np.concatenate([[0], np.cumsum([len(r) for r in expected])]))
    np.testing.assert_array_equal(ranks.numpy(), np.concatenate([*expected, np.empty(0, np.int64)]))
    items = len(case.database_bits)
    for k in {1, max(1, items // 2), items} if items else ():
        distances, ids = engine.search(*codes, k)
        expected_distances, expected_ids = naive_search(case, k)
        np.testing.assert_array_equal(distances.numpy(), expected_distances)
        np.testing.assert_array_equal(ids.numpy(), expected_ids)


def assert_search_among_equals_naive(engine, case):
    """A search among few or most items, of which the first may all be left out."""
    items = len(case.database_bits)
    if not items or not len(case.query_bits):
        return
    rng, nearest = np.random.default_rng(items), naive_search(case, items)
    for share, first in ((0.1, 0), (0.9, 0), (0.97, items // 3)):
        allowed = rng.random(items) < share
        allowed[:first] = False
        allowed[rng.integers(first, items)] = True
        count = int(allowed.sum())
        kept = allowed[nearest[1]]
        for k in {1, count}:
            found = engine._search_among(
                case.query_codes, case.database_codes, case.distance, k, torch.from_numpy(allowed)
            )
            for ours, every in zip(found, nearest, strict=True):
                np.testing.assert_array_equal(ours.numpy(), every[kept].reshape(-1, count)[:, :k])
