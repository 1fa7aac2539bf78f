"""IMH: its eigenproblem against the whole matrix of items, its regressions and cuts, samples of many pairs, Wiki."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deephash.data.views import Views
from deephash.projections.paired.imh import IMH, graph_laplacian
from deephash.validation import InvalidInputError

NEIGHBOURS, SMOOTHNESS, RIDGE = 3, 0.7, 0.02


def plain_imh(pairs, k):
    """Costs (k,), values (n, k), and the predictions of each view, by the matrices of all items."""
    n = len(pairs)
    problem, views = np.zeros((n, n)), []
    for name in ("image", "text"):
        x = pairs.of(name).numpy()
        x = x - x.mean(0)
        x /= np.sqrt((x**2).sum(1).mean())
        distances = ((x[:, None] - x) ** 2).sum(2)
        np.fill_diagonal(distances, np.inf)
        graph = np.zeros((n, n))
        for i in range(n):
            graph[i, np.argsort(distances[i])[:NEIGHBOURS]] = 1
        graph = np.maximum(graph, graph.T)
        hat = x @ np.linalg.solve(x.T @ x + RIDGE * n * np.eye(x.shape[1]), x.T)
        problem += SMOOTHNESS * (np.diag(graph.sum(1)) - graph) - hat
        views.append(hat)
    # The constant vector out of the way.
    costs, values = scipy.linalg.eigh(problem + 1e6 * np.ones((n, n)) / n)
    return costs[:k], values[:, :k], [hat @ values[:, :k] for hat in views]


def fit(pairs, k=6, **settings):
    given = {"neighbours": NEIGHBOURS, "smoothness": SMOOTHNESS, "regularisation": RIDGE, **settings}
    return IMH(pairs.dimensions, k, **given).double().fit(pairs)


def test_values_and_predictions_are_those_of_the_whole_matrix(noisy_pairs):
    pairs, _ = noisy_pairs()
    method = fit(pairs)
    costs, values, predictions = plain_imh(pairs, 6)
    assert np.allclose(method.costs, costs, atol=1e-9)
    signs = np.sign(values[np.abs(values).argmax(0), range(6)])
    for name, predicted in zip(("image", "text"), predictions, strict=True):
        found = method.view(name)(pairs.of(name)).detach().numpy()
        plain = predicted * signs
        # The lower of the two middle values, so that a margin of an item is 0.
        assert np.allclose(found, plain - np.sort(plain, 0)[(len(plain) - 1) // 2], atol=1e-7)
    medians = np.median(values * signs, 0)
    assert np.array_equal(method.learnt_codes, values * signs >= medians)


def test_bits_are_balanced_and_differ(noisy_pairs):
    pairs, _ = noisy_pairs(300)
    method = fit(pairs)
    for name in ("image", "text"):
        bits = method.view(name)(pairs.of(name)) >= 0
        assert np.allclose(bits.double().mean(0), 0.5, atol=0.01)
        signs = bits.double() * 2 - 1
        assert float((signs.T @ signs / 300).fill_diagonal_(0).abs().max()) < 0.95
    assert np.allclose(method.learnt_codes.double().mean(0), 0.5, atol=0.01)
    assert "learnt_codes" not in method.state_dict()


def test_a_smoother_graph_counts_for_more(noisy_pairs):
    """The more the graphs weigh, the more often neighbours share bits, and the less well features predict values."""
    pairs, _ = noisy_pairs()
    text = pairs.of("text")
    distances = torch.cdist(text, text).fill_diagonal_(float("inf"))
    nearest = distances.argsort(1)[:, :NEIGHBOURS]

    def shared(method):
        codes = method.learnt_codes
        return float((codes[:, None] == codes[nearest]).double().mean())

    assert shared(fit(pairs, smoothness=100.0)) > shared(fit(pairs, smoothness=1e-4)) + 0.03


def test_laplacian_sums_the_squares_of_differences_over_edges_of_both_views():
    neighbours = [torch.tensor([[1], [0], [1]]), torch.tensor([[1], [2], [1]])]
    y = np.array([1.0, 3.0, 7.0])
    edges = [(0, 1), (1, 2), (0, 1), (1, 2)]
    assert y @ (graph_laplacian(neighbours) @ y) == sum((y[i] - y[j]) ** 2 for i, j in edges)


def test_order_of_the_pairs_does_not_matter(noisy_pairs):
    pairs, _ = noisy_pairs()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    one, other = fit(pairs), fit(pairs[order])
    for name in ("image", "text"):
        rows = pairs.of(name)
        assert torch.allclose(one.view(name)(rows), other.view(name)(rows), atol=1e-7)
    assert torch.equal(one.learnt_codes[order], other.learnt_codes)


def test_longer_codes_than_both_views_have_dimensions_up_to_what_the_graph_gives(noisy_pairs):
    pairs, _ = noisy_pairs(40)
    method = fit(pairs, 38)
    assert all(bool((method.view(name)(pairs.of(name)).std(0) > 0).all()) for name in ("image", "text"))
    with pytest.raises(InvalidInputError, match="39 projections exceed the 38 directions of the graph of 40 training"):
        fit(pairs, 39)


def test_of_many_pairs_a_sample_is_fitted_on(noisy_pairs):
    pairs, _ = noisy_pairs(200)
    drawn = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:90]
    method, alone = fit(pairs, most_pairs=90), fit(pairs[drawn])
    for name in ("image", "text"):
        assert torch.equal(method.view(name)(pairs.of(name)), alone.view(name)(pairs.of(name)))
    assert method.learnt_codes is None
    assert alone.learnt_codes is not None


def test_bad_input_is_refused(noisy_pairs):
    pairs, _ = noisy_pairs(8)
    with pytest.raises(InvalidInputError, match="neighbours=8 of 8 training pairs; lower it, or give more pairs"):
        fit(pairs, 2, neighbours=8)
    same = Views({"image": torch.ones(8, 7, dtype=torch.float64), "text": pairs.of("text")})
    with pytest.raises(InvalidInputError, match="all 8 training items are the same in image; give data that vary"):
        fit(same, 2)
    for name in ("neighbours", "most_pairs"):
        with pytest.raises(InvalidInputError, match=f"{name}=0; expected a whole number of at least 1"):
            fit(pairs, 2, **{name: 0})
    for name in ("smoothness", "regularisation"):
        with pytest.raises(InvalidInputError, match=f"{name}=0; expected a finite number above 0"):
            fit(pairs, 2, **{name: 0})


@pytest.mark.data
def test_wiki_scores(wiki_scores):
    scores = np.array([wiki_scores(IMH, bits) for bits in (16, 64)])
    assert (scores > [[0.18, 0.145], [0.2, 0.16]]).all(), scores


@pytest.mark.parametrize("distinct", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_items_that_repeat_each_other_are_fitted(distinct, seed):
    """Their eigenvalues repeat, which exhausts a small basis of Lanczos' method in some versions of SciPy."""
    generator = torch.Generator().manual_seed(seed)
    rows = {name: torch.randn(60, d, generator=generator) for name, d in {"image": 12, "text": 8}.items()}
    pairs = Views({name: view[torch.arange(60) % distinct] for name, view in rows.items()})
    projection = IMH(pairs.dimensions, 6).fit(pairs)
    for name in pairs.names:
        assert bool(torch.isfinite(projection.view(name)(pairs.of(name))).all())
