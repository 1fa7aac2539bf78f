"""Predict the cost of searching binary codes from a sample of them: first the work, then the seconds.

If the k-th neighbour of a query is at distance D, multi-index hashing with m tables visits the buckets of steps 0 to D.
Step s visits those at distance ⌊s/m⌋ from the query's bucket in table s mod m (Norouzi, Punjani & Fleet, CVPR 2012). So
D determines the buckets, and the distances of substrings in a sample give the number of items in them. D decreases as
the database grows, by the law of free bits: near a query, codes are distributed as if g of the bits were free and the
others equal to the query's, so the number of items within d grows as Σ_{i ≤ d} C(g, i). Uniformly random codes have
g = b; copies of one code have g = 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import nnls
from scipy.special import gammainc, gammaln

from deephash.indexes.mih import substring_lengths
from deephash.indexes.multi_index_kernels import BUCKET_COST, CANDIDATE_COST

BITS = 64
# Number of neighbours that determine the free bits of a query; the shares of nearer ones follow from the law.
LAW_NEIGHBOURS = 50


def log_choose(n, k):
    """Return the logarithm of the binomial coefficient, of real n."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def view_words(codes):
    """View packed codes uint8 (n, 8) as uint64 (n,)."""
    return np.ascontiguousarray(codes).view(np.uint64)[:, 0]


def cut_bits(bits, tables):
    """Return the first bit and length of each substring."""
    lengths = substring_lengths(bits, tables)
    return list(zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True))


def fit_free_bits(counts):
    """Fit g by maximum likelihood, given that no distance is beyond the last, and return it with the law's shares.

    Args:
        counts: neighbours at distance 0, 1, ... D, int64 (D + 1,).

    Returns:
        g, and the share of these neighbours within each distance, float64 (D + 1,).
    """
    last = len(counts) - 1
    if last == 0:
        return 0.0, np.ones(1)
    candidates = np.arange(last, BITS + 0.25, 0.5)
    volumes = log_choose(candidates[:, None], np.arange(last + 1))
    balls = np.logaddexp.accumulate(volumes, 1)
    best = int((volumes @ counts - balls[:, -1] * counts.sum()).argmax())
    return float(candidates[best]), np.exp(balls[best] - balls[best, -1])


@dataclass(frozen=True)
class Sample:
    """Queries and a sample of the codes of the database.

    Args:
        codes: uint64 (n,), drawn as the database is.
        queries: uint64 (q,), none of them from the database.
    """

    codes: np.ndarray
    queries: np.ndarray

    @cached_property
    def counts(self):
        """Codes at each distance of each query, int64 (q, 65)."""
        return np.stack([np.bincount(np.bitwise_count(self.codes ^ one), minlength=BITS + 1) for one in self.queries])

    @cached_property
    def within(self):
        """Share of the codes of a database of any size within each distance of each query, float64 (q, 65)."""
        return self._shares_and_free_bits[0]

    @cached_property
    def free_bits(self):
        """Free bits of each query, float64 (q,)."""
        return self._shares_and_free_bits[1]

    @cached_property
    def _shares_and_free_bits(self):
        summed = self.counts.cumsum(1)
        shares, found = summed / len(self.codes), np.empty(len(self.queries))
        for row, last in enumerate((summed >= min(LAW_NEIGHBOURS, len(self.codes))).argmax(1)):
            found[row], law = fit_free_bits(self.counts[row, : last + 1])
            shares[row, : last + 1] = shares[row, last] * law
        return shares, found

    def substring_shares(self, tables):
        """Compute the share of the codes at each distance of each substring, float64 (q, m, longest + 1)."""
        pieces = cut_bits(BITS, tables)
        shares = np.empty((len(self.queries), tables, pieces[0][1] + 1))
        for row, query in enumerate(self.queries):
            differing = self.codes ^ query
            for table, (first, length) in enumerate(pieces):
                apart = np.bitwise_count((differing >> np.uint64(first)) & np.uint64(2**length - 1))
                shares[row, table] = np.bincount(apart, minlength=shares.shape[2]) / len(self.codes)
        return shares


class Uniform:
    """The exact counterpart of Sample for uniformly random codes and one query. All bits are free."""

    def __init__(self):
        self.within = np.exp(np.logaddexp.accumulate(log_choose(BITS, np.arange(BITS + 1.0))) - BITS * np.log(2))[None]
        self.free_bits = np.array([float(BITS)])

    def substring_shares(self, tables):
        """Compute the same shares as Sample, float64 (1, m, longest + 1)."""
        pieces = cut_bits(BITS, tables)
        shares = np.zeros((1, tables, pieces[0][1] + 1))
        for table, (_, length) in enumerate(pieces):
            shares[0, table, : length + 1] = np.exp(log_choose(length, np.arange(length + 1.0)) - length * np.log(2))
        return shares


def compute_distance_chances(within, items, k):
    """Return the probability that the k-th item is at each distance, float64 (q, 65), with Poisson counts."""
    reached = gammainc(k, items * within)
    reached[:, -1] = 1
    return np.diff(reached, axis=1, prepend=0)


def count_buckets(tables):
    """Return the number of buckets of each step, float64 (65,)."""
    lengths, steps = substring_lengths(BITS, tables), np.arange(BITS + 1)
    return np.array([np.exp(log_choose(lengths[step % tables], step // tables))
                     if step // tables <= lengths[step % tables] else 0 for step in steps])  # fmt: skip


def limit_steps(buckets, candidates, items):
    """Return the maximum number of steps of each query before it falls back to a scan, int64 (q,).

    Args:
        buckets: number of buckets up to the end of each step, float64 (65,).
        candidates: number of candidates of each query up to the end of each step, float64 (q, 65).
        items: codes N of the database.
    """
    before = np.pad(candidates, ((0, 0), (1, 0)))[:, :-1]
    beyond = buckets * BUCKET_COST + before * CANDIDATE_COST > items
    return np.where(beyond.any(1), beyond.argmax(1), BITS + 1)


@dataclass(frozen=True)
class Work:
    """Work of queries of multi-index hashing, each float64 (q,).

    Args:
        distance: distance of the k-th neighbour.
        buckets: number of buckets visited.
        candidates: number of codes in these buckets.
        scanned: number of codes of the fallback scan; 0 without a scan.
    """

    distance: np.ndarray
    buckets: np.ndarray
    candidates: np.ndarray
    scanned: np.ndarray


def predict_work(sample, items, k, tables, chances=None):
    """Compute the expected work of each query.

    Args:
        sample: Sample or Uniform.
        items: codes N of the database.
        k: number of neighbours.
        tables: number of substrings m.
        chances: probability of each distance of the k-th neighbour, float64 (q, 65); by default from the law of free
            bits.
    """
    chances = compute_distance_chances(sample.within, items, k) if chances is None else chances
    shares, buckets = sample.substring_shares(tables), count_buckets(tables)
    steps = np.arange(BITS + 1)
    radii, inside = steps // tables, steps // tables < shares.shape[2]
    candidates = np.zeros((len(shares), BITS + 1))
    candidates[:, inside] = items * shares[:, (steps % tables)[inside], radii[inside]]
    candidates, buckets = candidates.cumsum(1), buckets.cumsum()
    taken = limit_steps(buckets, candidates, items)[:, None]
    # A query ends with the step of the k-th neighbour's distance, or before the step at which it falls back to a scan.
    ends = np.minimum(steps + 1, taken)
    looked = np.take_along_axis(np.pad(candidates, ((0, 0), (1, 0))), ends, 1)
    # Copies of the query are in one bucket in the order of ids; the search leaves it at the copy after the k-th.
    looked[:, 0] *= np.minimum(1, (k + 1) / np.maximum(items * sample.within[:, 0], 1e-9))
    return Work(
        distance=chances @ steps,
        buckets=(chances * np.pad(buckets, (1, 0))[ends]).sum(1),
        candidates=(chances * looked).sum(1),
        scanned=items * (chances * (steps >= taken)).sum(1),
    )


def collect_work(distances, looked_at):
    """Return the work of queries that were searched.

    Args:
        distances: distances of the k-th neighbours, int64 (q,).
        looked_at: buckets, codes in them, and codes of a scan, int64 (q, 3).
    """
    return Work(distances.astype(float), *looked_at.T.astype(float))


def count_table_bytes(items, tables):
    """Return the bytes of all tables: 12 for each code, 8 for each bucket's start."""
    return tables * items * 12 + sum(8 * 2**length for length in substring_lengths(BITS, tables))


def count_kept(looked_at, k):
    """Return how many of C codes, in random order, are temporarily among the k nearest: k (1 + ln(C/k)), at most C."""
    return np.minimum(looked_at, k) * (1 + np.log(np.maximum(1, looked_at / k)))


def price(work, items, k, tables):
    """Return the components of the time of multi-index hashing, float64 (q, 6).

    The fixed cost of a query; temporary neighbours; buckets, whose cost grows by a constant whenever the tables' bytes
    double, since fewer of them are in the caches; candidates; and for a scan, temporary neighbours and codes.
    """
    far = max(0.0, np.log2(count_table_bytes(items, tables) / 2**20))
    once, scans = np.ones(len(work.scanned)), work.scanned / items
    keeping, keeping_of_scans = count_kept(work.candidates, k), scans * count_kept(items, k)
    return np.stack([once, keeping, far * work.buckets, work.candidates, keeping_of_scans, work.scanned], 1)


def fit_seconds(work, seconds):
    """Fit non-negative seconds per unit of each kind of work, with equal weights on relative errors.

    Args:
        work: float64 (measurements, kinds).
        seconds: float64 (measurements,).
    """
    return nnls(np.asarray(work) / np.asarray(seconds)[:, None], np.ones(len(seconds)))[0]
