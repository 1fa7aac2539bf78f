"""Supervised hashing with kernels: the plain algorithm, its greedy objective, its two solutions, real figures."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deephash import Hasher
from deephash.affinity.label import Label
from deephash.affinity.supervision import ListedPairs
from deephash.metrics.average_precision import average_precision
from deephash.projections import ksh as ksh_module
from deephash.projections.itq import ITQ
from deephash.projections.ksh import KSH, ResidualLabels, fit_codes_to_labels, group_by_neighbours, sigmoid_direction
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError


def clusters(n=120, d=6, classes=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    centres = 2 * torch.randn(classes, d, generator=generator, dtype=torch.float64)
    return (centres[labels] + torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype), labels


def supervision(labels):
    return Label().supervise(torch.zeros(len(labels), 1), labels)


def smooth(x):
    return np.tanh(x / 2)  # = 2 / (1 + exp(-x)) - 1


def plain_sigmoid(kernel, residual, start):
    """Nesterov's method with a doubled Lipschitz constant, every product computed again."""

    def cost(a):
        return -smooth(kernel @ a) @ residual @ smooth(kernel @ a)

    before, now, t_before, t_now, lipschitz, last = start, start, 0.0, 1.0, 1.0, cost(start)
    for _ in range(500):
        v = now + (t_before - 1) / t_now * (now - before)
        y = smooth(kernel @ v)
        gradient = -kernel.T @ ((residual @ y) * (1 - y**2))
        while True:
            z = v - gradient / lipschitz
            if cost(z) <= cost(v) + gradient @ (z - v) + lipschitz / 2 * (z - v) @ (z - v):
                break
            lipschitz *= 2
        before, now, t_before, t_now = now, z, t_now, (1 + np.sqrt(1 + 4 * t_now**2)) / 2
        change, last = abs(cost(now) - last), cost(now)
        if change / len(kernel) <= 1e-2:
            return now
    return now


def plain_ksh(kernel, similarity, bits):
    """Algorithm 1 with the n × n residual matrix written out."""
    n = len(kernel)
    residual, directions = bits * similarity, []
    for _ in range(bits):
        _, vectors = scipy.linalg.eigh(kernel.T @ residual @ kernel, kernel.T @ kernel)
        spectral = vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1])
        spectral *= np.sqrt(n) / np.linalg.norm(kernel @ spectral)
        other = plain_sigmoid(kernel, residual, spectral)
        codes = [np.where(kernel @ a >= 0, 1.0, -1.0) for a in (spectral, other)]
        fits = [y @ residual @ y for y in codes]
        better = int(fits[1] > fits[0])
        directions.append((spectral, other)[better])
        residual = residual - np.outer(codes[better], codes[better])
    return np.stack(directions, 1), np.square(residual).sum() / n**2 / bits**2


def centred_kernel(features, anchors=15):
    squared = (features[:, None] - features[None, :anchors]).square().sum(2)
    kernel = torch.exp(-squared / (2 * squared.mean()))
    return kernel - kernel.mean(0)


def test_agrees_with_the_plain_algorithm():
    features, labels = clusters()
    kernel = centred_kernel(features)
    group, among = group_by_neighbours(supervision(labels))
    directions, _, losses = fit_codes_to_labels(kernel, group, among, 6, rounds=500)
    similarity = np.where(labels[:, None] == labels[None], 1.0, -1.0)
    expected, loss = plain_ksh(kernel.numpy(), similarity, 6)
    np.testing.assert_allclose(directions.numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert float(losses[-1]) == pytest.approx(loss, rel=1e-9)


def test_module_is_the_centred_kernel_map_of_training_items():
    features, labels = clusters()
    method = KSH(6, 5, anchors=15).double().fit(features, affinity=supervision(labels))
    anchors = method.kernel.centres.detach()
    assert all(bool((features == anchor).all(1).any()) for anchor in anchors)
    squared = (features[:, None] - anchors[None]).square().sum(2)
    assert float(method.kernel.bandwidth.detach()) ** 2 == pytest.approx(float(squared.mean()), rel=1e-9)
    kernel = torch.exp(-squared / (2 * squared.mean()))
    expected = (kernel - kernel.mean(0)) @ method.weights.detach()
    assert torch.allclose(method(features), expected, atol=1e-9)
    codes = (expected >= 0).double() * 2 - 1
    similarity = torch.where(labels[:, None] == labels[None], 1.0, -1.0).double()
    assert float(method.losses[-1]) == pytest.approx(float((codes @ codes.T / 5 - similarity).square().mean()))


def test_greedy_objective_never_rises_with_bits():
    features, labels = clusters(200, dtype=torch.float32)
    losses = KSH(6, 16, anchors=40).fit(features, affinity=supervision(labels)).losses
    assert bool((losses.diff() <= 0).all())
    assert float(losses[-1]) < 0.6 * float(losses[0])


def test_the_better_of_spectral_and_smoothed_is_kept(monkeypatch):
    features, labels = clusters(200)
    kernel = centred_kernel(features, 30)
    group, among = group_by_neighbours(supervision(labels))
    _, kept, losses = fit_codes_to_labels(kernel, group, among, 8)
    assert bool(kept.any())
    monkeypatch.setattr(ksh_module, "sigmoid_direction", lambda kernel, residual, start, rounds: -start)
    _, none_kept, spectral = fit_codes_to_labels(kernel, group, among, 8)
    assert not bool(none_kept.any())
    assert float(losses[-1]) < float(spectral[-1])
    assert float(losses[0]) <= float(spectral[0])


@pytest.mark.parametrize("few", [64, 2], ids=["few groups", "many groups"])
def test_residual_is_that_of_the_whole_matrix(monkeypatch, few):
    monkeypatch.setattr(ksh_module, "FEW_GROUPS", few)
    labels = clusters()[1]
    generator = torch.Generator().manual_seed(1)
    codes = torch.where(torch.rand(3, 120, generator=generator) < 0.5, 1.0, -1.0).double()
    group, among = group_by_neighbours(supervision(labels))
    residual = ResidualLabels(group, among.double(), codes, bits=8)
    whole = 8 * torch.where(labels[:, None] == labels, 1.0, -1.0).double() - codes.T @ codes
    y = torch.randn(120, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(residual.product(residual.weight_sums(residual.sums(y))), whole @ y)
    assert residual.quadratic_form(y) == pytest.approx(float(y @ whole @ y))


def test_gradient_steps_are_as_many_as_in_the_authors_program():
    assert KSH(6, 3).rounds == 500


def test_gradient_steps_lower_the_smoothed_objective():
    features, labels = clusters()
    kernel = centred_kernel(features)
    residual = torch.where(labels[:, None] == labels[None], 4.0, -4.0).double()
    group, among = group_by_neighbours(supervision(labels))
    held = ResidualLabels(group, among.double(), torch.zeros(0, len(labels), dtype=torch.float64), bits=4)
    start = torch.randn(15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def cost(a):
        y = torch.tanh(kernel @ a / 2)
        return float(-y @ residual @ y)

    assert cost(sigmoid_direction(kernel, held, start, rounds=50)) < cost(start) - 100


def test_items_with_the_same_neighbours_are_one_group():
    labels = torch.tensor([2, 0, 2, 1, 0])
    group, among = group_by_neighbours(supervision(labels))
    assert among.shape == (3, 3)
    assert torch.equal(among[group][:, group] > 0, labels[:, None] == labels[None])
    several = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    group, among = group_by_neighbours(supervision(several))
    assert among.shape == (3, 3)
    assert torch.equal(among[group][:, group] > 0, (several.float() @ several.float().T) > 0)
    pairs = ListedPairs(torch.tensor([[0, 1], [1, 2]]), 4)
    group, among = group_by_neighbours(pairs)
    assert torch.equal(among[group][:, group] > 0, pairs.among(torch.arange(4)))


def test_pairs_and_labels_of_the_same_neighbours_give_the_same_bits():
    features, labels = clusters(80)
    rows, columns = torch.nonzero(labels[:, None] == labels[None], as_tuple=True)
    pairs = ListedPairs(torch.stack([rows, columns], 1), 80)
    one = KSH(6, 5, anchors=10).double().fit(features, affinity=pairs)
    other = KSH(6, 5, anchors=10).double().fit(features, affinity=supervision(labels))
    assert torch.allclose(one(features), other(features), atol=1e-9)


def test_anchors_are_at_most_the_items():
    features, labels = clusters(40)
    method = KSH(6, 3).double().fit(features, affinity=supervision(labels))
    assert method.anchors == 40
    assert method.weights.shape == (40, 3)


def test_bad_settings_and_affinities_are_refused(monkeypatch):
    with pytest.raises(InvalidInputError, match="anchors=0; expected a whole number of at least 1"):
        KSH(6, 3, anchors=0)
    with pytest.raises(InvalidInputError, match="rounds=0; expected a whole number of at least 1"):
        KSH(6, 3, rounds=0)
    with pytest.raises(InvalidInputError, match="selection='best'"):
        KSH(6, 3, selection="best")
    features, labels = clusters(40)
    monkeypatch.setattr(ksh_module, "MAX_GROUPS", 3)
    with pytest.raises(
        InvalidInputError, match="the affinity distinguishes 4 groups of training items, and KSH stores a matrix"
    ):
        KSH(6, 3).fit(features, affinity=supervision(labels))


@pytest.mark.data
def test_figures_on_real_features(cifar10_gist):
    """1,000 labelled images, 16 bits; published: KSH .244, ITQ .16, searching all 59,000."""
    features, labels, _ = cifar10_gist
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    query, train, database = order[:500], order[500:1500], order[500:15500]
    relevance = SharedLabel(labels[query], labels[database])

    def score(projection):
        hasher = Hasher(projection, SBQ(16))
        hasher.fit(features[train], affinity=Label().supervise(features[train], labels[train]))
        counts = AutoEngine().rank(
            hasher.encode(features[query]), hasher.encode(features[database]), hasher.distance, relevance
        )
        return float(average_precision(counts).mean())

    ksh = KSH(512, 16)
    assert 0.225 < score(ksh) < 0.28
    assert bool((ksh.losses.diff() < 0).all())
    assert score(ITQ(512, 16)) < 0.19
