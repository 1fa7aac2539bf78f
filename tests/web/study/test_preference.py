"""Statistics of judgements: known values, plain NumPy versions, and error rates in simulations."""

import itertools

import numpy as np
import pytest
from scipy import stats

from deephash.validation import InvalidInputError
from deephash.web.study.metric_agreement import measure_agreement, order_signs, weighted_tau
from deephash.web.study.power import (
    Alternative,
    compute_requirement,
    decided_power,
    needed_judgements,
    needed_participants,
    sign_test_power,
    simulated_power,
)
from deephash.web.study.preference import (
    average_ratings,
    clustered_interval,
    estimate_preference,
    intraclass_correlation,
    sign_flip_p_values,
)
from deephash.web.study.records import Judgement


def judgement(session, preferred, ratings=(3, 3), query=0):
    return Judgement(session, query, "side_by_side", preferred, preferred, ratings, None, 1.0)


def generator():
    return np.random.default_rng(0)


def test_known_interval_and_test():
    """15 of 20: Wilson's interval worked out by its formula, the sign test by counting."""
    judgements = [judgement(place % 4, 1 if place < 15 else -1) for place in range(20)]
    judgements += [judgement(place, 0) for place in range(4)]
    found = estimate_preference(judgements, "all", generator())
    assert (found.participants, found.judgements, found.first, found.neither, found.second) == (4, 24, 15, 4, 5)
    z, n, share = 1.959963984540054, 20, 0.75
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert found.wilson == pytest.approx((middle - half, middle + half))
    counted = sum(len(list(itertools.combinations(range(20), wins))) for wins in range(15, 21)) / 2**20
    assert found.p_value == pytest.approx(2 * counted)
    assert found.p_value == pytest.approx(0.0414, abs=1e-4)


def test_nothing_decided_has_no_share():
    found = estimate_preference([judgement(1, 0), judgement(2, 0)], "all", generator())
    assert (found.neither, found.share, found.wilson, found.p_value, found.icc) == (2, None, None, None, None)


def test_sign_flips_are_all_of_few_participants():
    nets = np.array([3, -1, 2, 0, 4])
    sums = [abs(np.dot(signs, nets)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean([one >= abs(nets.sum()) for one in sums])
    assert sign_flip_p_values(nets[:, None], generator())[0] == pytest.approx(expected)
    # Five who agree cannot be significant at .05; six can.
    assert sign_flip_p_values(np.full((5, 1), 9), generator())[0] == 2 / 2**5
    assert sign_flip_p_values(np.full((6, 1), 9), generator())[0] == 2 / 2**6


def test_drawn_flips_come_near_all():
    nets = generator().integers(-3, 6, (13, 1))
    codes = np.arange(2**13)[:, None] >> np.arange(13) & 1
    expected = (np.abs((1 - 2 * codes) @ nets[:, 0]) >= abs(nets.sum())).mean()
    assert sign_flip_p_values(nets, generator())[0] == pytest.approx(expected, abs=0.015)


def test_participants_are_resampled_whole():
    """Participants who are each of one mind: the interval is theirs, not that of their many judgements."""
    judgements = [judgement(session, 1 if session < 12 else -1) for session in range(20) for _ in range(50)]
    found = estimate_preference(judgements, "all", generator())
    assert found.share == 0.6
    spread = np.sqrt(0.6 * 0.4 / 20)
    assert found.clustered == pytest.approx((0.6 - 1.96 * spread, 0.6 + 1.96 * spread), abs=0.02)
    assert found.wilson[1] - found.wilson[0] < 0.07
    assert found.p_value < 1e-9
    assert found.clustered_p_value > 0.4
    assert found.icc == pytest.approx(1.0)


def test_interval_covers_as_often_as_it_says():
    draw = np.random.default_rng(3)
    covered = 0
    for _ in range(80):
        wins = draw.binomial(10, draw.beta(6, 4, 40)).astype(float)
        low, high = clustered_interval(wins, np.full(40, 10.0), draw)
        covered += low <= 0.6 <= high
    assert covered / 80 >= 0.86


def test_one_participant_has_no_interval_by_participants():
    found = estimate_preference([judgement(1, 1), judgement(1, -1)], "all", generator())
    assert (found.clustered, found.icc) == (None, None)
    assert found.clustered_p_value == 1


@pytest.mark.parametrize("true", [0.0, 0.2, 0.5])
def test_intraclass_correlation_is_recovered(true):
    draw = np.random.default_rng(1)
    shares = 0.6 if true == 0 else draw.beta(0.6 * (1 / true - 1), 0.4 * (1 / true - 1), 3000)
    wins = draw.binomial(12, shares, 3000).astype(float)
    assert intraclass_correlation(wins, np.full(3000, 12.0)) == pytest.approx(true, abs=0.03)


def test_ratings_are_means_with_intervals():
    judgements = [judgement(session, 1, (4, 2 + session % 2)) for session in range(12)]
    judgements.append(Judgement(3, 0, "interleaved", 1, None, None, 5, 1.0))
    first, second, difference, mixed = average_ratings(judgements, generator())
    assert (first.rated, first.mean, first.interval) == ("first", 4.0, (4.0, 4.0))
    assert (second.mean, difference.mean, mixed.mean, mixed.ratings) == (2.5, 1.5, 5.0, 1)
    assert mixed.interval is None
    assert second.interval[0] < 2.5 < second.interval[1]
    assert difference.interval == pytest.approx((4 - second.interval[1], 4 - second.interval[0]), abs=0.05)


def test_tau_is_scipys():
    draw = np.random.default_rng(5)
    gains, judged = draw.integers(0, 6, 40) / 6, draw.integers(-2, 3, 40) / 2
    found = measure_agreement("mAP", "preference", gains, judged, generator())
    assert found.tau == pytest.approx(stats.kendalltau(gains, judged).statistic)
    assert found.queries == 40
    # A sample that holds queries several times, as the list of their values.
    weights = draw.multinomial(40, np.full(40, 1 / 40), 3).astype(float)
    expected = [
        stats.kendalltau(np.repeat(gains, times), np.repeat(judged, times)).statistic for times in weights.astype(int)
    ]
    assert weighted_tau(order_signs(gains), order_signs(judged), weights) == pytest.approx(expected)


def test_queries_without_a_metric_are_left_out():
    gains = np.array([0.1, np.nan, 0.3, 0.2])
    found = measure_agreement("mAP", "rating", gains, np.array([1.0, 9.0, 3.0, 2.0]), generator())
    assert (found.queries, found.tau) == (3, pytest.approx(1.0))
    assert measure_agreement("mAP", "rating", gains, np.ones(4), generator()).tau is None
    assert measure_agreement("mAP", "rating", np.full(4, np.nan), np.ones(4), generator()).tau is None


def test_exact_power_is_counted():
    """Every number of wins, by SciPy's own test."""
    for decided, share in ((9, 0.7), (30, 0.65), (61, 0.6)):
        wins = np.arange(decided + 1)
        rejected = [stats.binomtest(int(one), decided).pvalue <= 0.05 for one in wins]
        expected = stats.binom.pmf(wins, decided, share)[rejected].sum()
        assert decided_power(np.array([decided]), share, 0.05)[0] == pytest.approx(expected)
    assert decided_power(np.arange(6), 0.9, 0.05).tolist() == [0.0] * 6


def test_needed_judgements_have_the_power_and_fewer_do_not():
    # .6 against .5 at .05 with power .8: the normal approximation gives 194, the exact test's last dip lies at 203.
    for ties, power in ((0.0, 0.8), (0.3, 0.9)):
        sought = Alternative(0.6, ties=ties)
        fewest = needed_judgements(sought, power)
        assert all(sign_test_power(more, sought) >= power for more in range(fewest, fewest + 80))
        assert sign_test_power(fewest - 1, sought) < power
    assert 194 < needed_judgements(Alternative(0.6), 0.8) < 215


def test_power_with_ties_is_that_of_simulated_studies():
    draw = np.random.default_rng(2)
    sought = Alternative(0.7, ties=0.4)
    decided = draw.binomial(60, 0.6, 1500)
    wins = draw.binomial(decided, 0.7)
    p_values = [stats.binomtest(int(won), int(of)).pvalue for won, of in zip(wins, decided, strict=True)]
    assert sign_test_power(60, sought) == pytest.approx(np.mean(np.array(p_values) <= 0.05), abs=0.025)


def test_simulated_level_is_kept_whatever_the_correlation():
    """Without a preference the sign-flip test finds one in 5 % of studies; the sign test in many more."""
    for icc in (0.0, 0.3):
        assert simulated_power(Alternative(0.5 + 1e-9, icc=icc), 20) == pytest.approx(0.05, abs=0.02)
    draw = np.random.default_rng(4)
    wins = draw.binomial(20, draw.beta(0.5 * (1 / 0.3 - 1), 0.5 * (1 / 0.3 - 1), (20, 500))).sum(0)
    assert np.mean([stats.binomtest(int(one), 400).pvalue <= 0.05 for one in wins]) > 0.3


def test_likeness_costs_participants():
    alone = needed_participants(Alternative(0.65, ties=0.2), 0.8)
    alike = needed_participants(Alternative(0.65, ties=0.2, icc=0.1), 0.8)
    # Sign flips of few participants have coarse p-values, and need some more than the exact test's 5.7.
    assert 0 <= alone - needed_judgements(Alternative(0.65, ties=0.2), 0.8) / 20 <= 3
    # The design effect of 16 decided judgements each, 1 + 15 · .1.
    assert alike == pytest.approx(2.5 * alone, rel=0.25)
    found = compute_requirement(Alternative(0.65, ties=0.2, icc=0.1), 0.8, participants=alike)
    assert found.clustered_participants == alike
    assert found.reached >= 0.8


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"preference": 0.5}, "preference=0.5"),
        ({"preference": float("nan")}, "preference=nan"),
        ({"preference": 0.6, "ties": 1.0}, "ties=1.0"),
        ({"preference": 0.6, "icc": -0.1}, "icc=-0.1"),
        ({"preference": 0.6, "judgements": 0}, "judgements=0"),
        ({"preference": 0.6, "level": 0.0}, "level=0.0"),
        ({"preference": 0.501}, "choose a larger preference"),
    ],
)
def test_what_cannot_be_found_is_refused(settings, named):
    with pytest.raises(InvalidInputError, match=named):
        compute_requirement(Alternative(**settings), 0.8)
