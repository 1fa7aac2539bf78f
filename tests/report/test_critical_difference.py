"""The critical-difference diagram against figures of scikit-posthocs 0.17.1, and its groups against a plain search."""

from itertools import combinations

import numpy as np
import polars
import pytest

from deephash.report.critical_difference import (
    LINE,
    Ranking,
    draw_critical_differences,
    find_groups,
    rank_lines,
    stack_intervals,
)

# mAP · 1000 of methods a to f (rows) in ten draws.
SCORES = [
    [290, 308, 259, 334, 320, 288, 298, 301, 294, 292],
    [257, 313, 271, 350, 301, 285, 267, 306, 278, 317],
    [269, 279, 233, 333, 272, 261, 276, 255, 285, 259],
    [270, 245, 214, 272, 236, 262, 249, 264, 260, 258],
    [248, 265, 226, 256, 230, 235, 223, 271, 225, 233],
    [228, 244, 211, 239, 219, 219, 237, 212, 229, 226],
]
# posthoc_wilcoxon(SCORES, p_adjust="holm"), above the diagonal.
P_VALUES = [
    *(0.64453125, 0.029296875, 0.029296875, 0.029296875, 0.029296875, 0.109375, 0.029296875, 0.029296875),
    *(0.029296875, 0.146484375, 0.05859375, 0.029296875, 0.16796875, 0.029296875, 0.09765625),
]
# critical_difference_diagram: bars from x to x at y, and texts at x, y.
BARS = [(1.5, 1.9, -1), (1.9, 3.1, -2), (3.1, 4.8, -1), (4.8, 5.8, -2)]
TEXTS = [
    *((1.49, -3, "a (1.50)"), (1.49, -4, "b (1.90)"), (1.49, -5, "c (3.10)")),
    *((5.81, -5, "(3.90) d"), (5.81, -4, "(4.80) e"), (5.81, -3, "(5.80) f")),
]


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    rows = [
        {"method": name, "quantizer": "sbq", "settings": "", "bits": 16, "seed": seed, "split": "", "mAP": score / 1000}
        for name, scores in zip("abcdef", SCORES, strict=True)
        for seed, score in enumerate(scores)
    ]
    names, *rest = rank_lines(polars.DataFrame(rows), "mAP", LINE)
    return Ranking("example", [name.removesuffix(" · sbq") for name in names], *rest)


def test_ranks_and_p_values_are_those_of_scikit_posthocs(ranking):
    assert ranking.names == list("abcdef")
    assert ranking.mean_ranks == pytest.approx([1.5, 1.9, 3.1, 3.9, 4.8, 5.8])
    assert ranking.friedman_p == pytest.approx(1.7980374959436196e-07)
    assert ranking.pairs[np.triu_indices(6, 1)] == pytest.approx(P_VALUES)
    assert np.array_equal(ranking.pairs, ranking.pairs.T)


def test_diagram_is_that_of_scikit_posthocs(ranking):
    (axes,) = draw_critical_differences([ranking], "mAP").axes
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert [(*line.get_xdata(), line.get_ydata()[0]) for line in bars] == [pytest.approx(bar) for bar in BARS]
    texts = [(*text.get_position(), text.get_text()) for text in axes.texts]
    assert [text[2] for text in texts] == [text[2] for text in TEXTS]
    assert [text[:2] for text in texts] == [pytest.approx(text[:2]) for text in TEXTS]
    elbows = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == 3]
    for elbow, (x, y, _), rank in zip(elbows, texts, ranking.mean_ranks, strict=True):
        assert elbow == [[x, y], [rank, y], [rank, 0]]


def test_one_bar_connects_all_names_if_friedmans_test_finds_no_difference(ranking):
    same = Ranking(ranking.title, ranking.names, ranking.mean_ranks, ranking.blocks, 0.05, ranking.pairs, [])
    (axes,) = draw_critical_differences([same], "mAP").axes
    (bar,) = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert bar.get_xdata() == pytest.approx([1.5, 5.8])


@pytest.mark.parametrize("seed", range(30))
def test_groups_are_the_maximal_ones_of_all_subsets(seed):
    generator = np.random.default_rng(seed)
    members = int(generator.integers(1, 8))
    similar = np.triu(generator.random((members, members)) < generator.uniform(0.2, 0.9), 1)
    similar |= similar.T
    complete = [
        frozenset(subset)
        for size in range(2, members + 1)
        for subset in combinations(range(members), size)
        if all(similar[i, j] for i, j in combinations(subset, 2))
    ]
    maximal = {group for group in complete if not any(group < other for other in complete)}
    found = find_groups(similar)
    assert len(found) == len(maximal)
    assert set(found) == maximal


def test_intervals_that_touch_are_on_different_levels():
    assert stack_intervals([(1, 2), (2, 3), (2.5, 4), (3.5, 5), (6, 7)]) == [0, 1, 0, 1, 0]
    assert stack_intervals([]) == []
