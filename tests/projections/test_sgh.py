"""Scalable graph hashing: the whole graph without its matrix, bits one after another, a plain NumPy version."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deephash import Hasher
from deephash.metrics.average_precision import average_precision
from deephash.projections.itq import ITQ
from deephash.projections.lsh import LSH
from deephash.projections.sgh import SGH, sequential_directions, transformed_features
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 5 + torch.randn(300, 8, generator=generator(), dtype=torch.float64) * torch.linspace(2, 0.5, 8)


def unit_length(features):
    centred = features - features.mean(0)
    return centred / centred.norm(dim=1, keepdim=True)


def plain_kernel(x, anchors):
    squared = ((x[:, None] - anchors[None]) ** 2).sum(2)
    kernel = np.exp(-squared / (2 * squared.mean()))
    return kernel - kernel.mean(0)


def plain_graph(x):
    """The n × n matrix S̃ = P Qᵀ that the paper's transformed features stand for, with ρ = 2."""
    e = np.e
    shrunk = np.exp(-(x**2).sum(1, keepdims=True) / 2)
    common = [np.sqrt(2 * (e**2 - 1) / (e * 2)) * shrunk * x, np.sqrt((e**2 + 1) / e) * shrunk]
    one = np.ones((len(x), 1))
    return np.concatenate([*common, one], 1) @ np.concatenate([*common, -one], 1).T


def plain_sgh(kernel, graph, bits, order):
    """Algorithm 1 with the residual c S̃ - Σ b bᵀ written out as an n × n matrix."""
    codes, directions = np.zeros((bits, len(kernel))), np.zeros((bits, kernel.shape[1]))
    for bit in order:
        codes[bit] = 0
        residual = bits * graph - codes.T @ codes
        _, vectors = scipy.linalg.eigh(kernel.T @ residual @ kernel, kernel.T @ kernel)
        directions[bit] = vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1])
        codes[bit] = np.where(kernel @ directions[bit] >= 0, 1, -1)
    return directions.T, codes


def test_agrees_with_a_plain_version():
    x = unit_length(FEATURES).numpy()
    kernel, graph = plain_kernel(x, x[:20]), plain_graph(x)
    order = [*range(6), *torch.randperm(6, generator=generator()).tolist()]
    expected, _ = plain_sgh(kernel, graph, 6, order)
    transformed = transformed_features(torch.from_numpy(x))
    aligned = torch.from_numpy(kernel).T @ transformed
    found = sequential_directions(torch.from_numpy(kernel), aligned @ aligned.T, 6, 1, generator())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_transformed_features_stand_for_the_similarities():
    x = unit_length(FEATURES)
    similarity = torch.exp(-(x[:, None] - x[None]).square().sum(2) / 2)
    transformed = transformed_features(x)
    product = transformed @ transformed.T
    np.testing.assert_allclose((product - 1).numpy(), plain_graph(x.numpy()), atol=1e-12)
    error = (product / 2 - similarity).abs()
    # The chord meets the exponential at t = ±1: inner products ±1, the item itself and its opposite.
    assert torch.allclose(error.diagonal(), torch.zeros(300, dtype=torch.float64), atol=1e-12)
    opposite = transformed_features(-x)
    assert torch.allclose((transformed * opposite).sum(1) / 2, torch.exp(torch.tensor(-2.0).double()).expand(300))
    assert 0.2 < float(error.max()) < 0.206
    # Of shorter items the lengths enter as well.
    short = 0.3 * x
    similarity = torch.exp(-(short[:, None] - short[None]).square().sum(2) / 2)
    transformed = transformed_features(short)
    assert float((transformed @ transformed.T / 2 - similarity).abs().max()) < 0.557


def test_module_is_the_centred_kernel_map_of_items_of_length_1():
    method = SGH(8, 5, anchors=20).double().fit(FEATURES)
    x = unit_length(FEATURES)
    anchors = method.kernel.centres.detach()
    assert all(bool(torch.isclose(x, anchor, atol=1e-12).all(1).any()) for anchor in anchors)
    expected = torch.from_numpy(plain_kernel(x.numpy(), anchors.numpy())) @ method.weights.detach()
    found = method(FEATURES).detach()
    assert torch.allclose(found, expected, atol=1e-9)
    assert torch.allclose(found.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found.square().mean(0), torch.ones(5, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(method(FEATURES.mean(0) + 3 * (FEATURES - FEATURES.mean(0))), found, atol=1e-9)


def graph_error(method, features):
    """‖Σ b bᵀ / c - S̃‖² / n²."""
    codes = (method(features) >= 0).double() * 2 - 1
    graph = torch.from_numpy(plain_graph(unit_length(features).numpy()))
    return float((codes @ codes.T / method.output_dim - graph).square().mean())


def test_codes_fit_the_graph_better_with_more_bits_and_than_random_ones():
    errors = [graph_error(SGH(8, bits, anchors=40).double().fit(FEATURES), FEATURES) for bits in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < graph_error(LSH(8, 32).double().fit(FEATURES), FEATURES) - 0.005


def test_a_second_pass_changes_the_bits_and_keeps_their_number():
    x = unit_length(FEATURES).numpy()
    kernel = torch.from_numpy(plain_kernel(x, x[:20]))
    aligned = kernel.T @ transformed_features(torch.from_numpy(x))
    one, two = (sequential_directions(kernel, aligned @ aligned.T, 6, rounds, generator()) for rounds in (1, 2))
    assert one.shape == two.shape == (20, 6)
    assert not torch.allclose(one, two)


def test_anchors_are_at_most_the_items():
    method = SGH(8, 3).double().fit(FEATURES[:40])
    assert method.anchors == 40
    assert method.weights.shape == (40, 3)
    assert method.kernel_mean.shape == (40,)


def test_an_item_at_the_mean_has_a_value():
    method = SGH(8, 3, anchors=20).double().fit(FEATURES)
    assert bool(method(FEATURES.mean(0, keepdim=True)).isfinite().all())


def test_bad_settings_and_data_are_refused():
    with pytest.raises(InvalidInputError, match="anchors=0; expected a whole number of at least 1"):
        SGH(8, 3, anchors=0)
    with pytest.raises(InvalidInputError, match="rounds=0; expected a whole number of at least 1"):
        SGH(8, 3, rounds=0)
    with pytest.raises(InvalidInputError, match="selection='best'"):
        SGH(8, 3, selection="best")
    with pytest.raises(InvalidInputError, match="all 5 training items are the same"):
        SGH(8, 3).fit(FEATURES[:1].expand(5, 8))


@pytest.mark.data
def test_figures_on_real_features(cifar10_gist):
    """Between LSH and ITQ; .160 / .168 at 32 / 64 bits over all 59,000, as a plain version finds too."""
    features, labels, _ = cifar10_gist
    order = torch.randperm(len(features), generator=generator())
    query, database = order[:500], order[500:15500]
    relevance = SharedLabel(labels[query], labels[database])

    def score(projection):
        hasher = Hasher(projection, SBQ(32)).fit(features[database])
        counts = AutoEngine().rank(
            hasher.encode(features[query]), hasher.encode(features[database]), hasher.distance, relevance
        )
        return float(average_precision(counts).mean())

    found = score(SGH(512, 32))
    assert 0.15 < found < 0.18
    assert score(LSH(512, 32)) + 0.01 < found < score(ITQ(512, 32)) + 0.005
