"""Area, lag and forgetting, by hand."""

import math

import pytest

from deephash.training.stream_metrics import area, forgetting, lags, summarise_stream

SEEN = [100, 200, 300, 400, 500, 600]


def test_area_is_the_mean_by_trapezoids():
    assert area([100, 200, 400], [0.0, 1.0, 1.0]) == pytest.approx((50 + 200) / 300)
    assert area([100], [0.3]) == 0.3


def test_lag_is_the_way_to_the_level_that_a_phase_comes_to():
    # After 200 it falls, and comes back to .8 at 400: 95 % of the level .8.
    assert lags(SEEN, [0.8, 0.8, 0.4, 0.78, 0.8, 0.8], [200]) == [200.0]
    assert lags(SEEN, [0.8, 0.8, 0.8, 0.2, 0.3, 0.4], [200, 300]) == [100.0, 300.0]
    assert lags(SEEN, [0.8] * 6, []) == []


def test_forgetting_is_of_classes_that_are_gone():
    per_class = [[0.9, None], [0.7, 0.5], [0.4, 0.6]]
    assert forgetting(per_class, [False, True]) == pytest.approx(0.5)
    assert forgetting(per_class, [True, True]) == pytest.approx((0.5 - 0.1) / 2)
    assert math.isnan(forgetting([[None, 0.1]], [True, True]))


def test_summary():
    history = [
        {
            "seen": at,
            "mAP": 0.5,
            "per_class": [0.5],
            "prequential_precision": 0.4,
            "reencoded_items": at,
            "reencoded_bytes": 4 * at,
        }
        for at in SEEN
    ]
    metrics = summarise_stream(history, [], [True])
    assert metrics["mAP"] == metrics["area"] == 0.5
    assert math.isnan(metrics["lag"])
    assert metrics["reencoded_bytes"] == 2400
