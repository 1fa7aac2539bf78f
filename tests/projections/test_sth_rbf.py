"""STH from known neighbours with kernel machines, against plain parts, and on real features."""

import numpy as np
import pytest
import torch

from deephash.affinity.label import Label
from deephash.affinity.laplacian_eigenmap import balanced_bits, build_affinity_graph, smoothest_vectors
from deephash.codes import pack
from deephash.metrics.average_precision import average_precision
from deephash.projections.sth_rbf import STHRBF
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError


def labelled(n=240, d=6, classes=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = 2 * torch.randn(classes, d, generator=generator, dtype=torch.float64)
    return (centres[labels] + torch.randn(n, d, generator=generator, dtype=torch.float64) + 4).to(dtype), labels


def fitted(features, labels, bits=5, **settings):
    affinity = Label().supervise(features, labels)
    return STHRBF(features.shape[1], bits, **settings).double().fit(features, affinity=affinity)


def test_projections_equal_to_machines_of_scikit_learn():
    from sklearn.svm import SVC

    features, labels = labelled()
    sth = fitted(features, labels, cost=2.0, width=0.7)
    bits = balanced_bits(
        smoothest_vectors(build_affinity_graph(features, Label().supervise(features, labels)), features, 5)
    )
    squared = torch.cdist(features, features).square().mean()
    gamma = 1 / (2 * 0.7**2 * float(squared))
    held_out = features + 0.1
    for j in range(5):
        machine = SVC(C=2.0, gamma=gamma).fit(features.numpy(), bits[:, j].numpy())
        expected = machine.decision_function(held_out.numpy())
        np.testing.assert_allclose(sth(held_out)[:, j].detach(), expected, atol=5e-3)


def test_first_bits_tell_classes_apart():
    features, labels = labelled()
    bits = fitted(features, labels, 3)(features) >= 0
    codes = torch.stack([bits[labels == label].double().mean(0).round() for label in range(4)])
    assert len(codes.unique(dim=0)) == 4
    assert float((bits == codes[labels].bool()).double().mean()) > 0.9


def test_multi_labels_and_an_item_without_one():
    features, labels = labelled(120)
    several = torch.nn.functional.one_hot(labels, 4).bool()
    several[::10, 0] = True
    several[5] = False
    assert bool((fitted(features, several, 6)(features).std(0) > 0).all())


def test_more_items_than_are_used_are_drawn():
    features, labels = labelled()
    sth = fitted(features, labels, items=100)
    assert sth.support.shape == (100, 6)
    assert len({tuple(row) for row in sth.support.tolist()} & {tuple(row) for row in features.tolist()}) == 100
    assert sth.items == 100
    assert fitted(features, labels, items=1000).items == 240


def test_bad_settings_and_data_are_refused():
    features, labels = labelled()
    with pytest.raises(InvalidInputError, match="items=0; expected a whole number of at least 1"):
        STHRBF(6, 4, items=0)
    for name in ("cost", "width"):
        with pytest.raises(InvalidInputError, match=f"{name}=-1; expected a finite number above 0"):
            STHRBF(6, 4, **{name: -1})
    with pytest.raises(InvalidInputError, match="9 projections exceed the 8 directions of a graph of 10 items"):
        fitted(features[:10], labels[:10], 9)
    alike = torch.ones_like(features)
    with pytest.raises(InvalidInputError, match="all 240 training items are the same"):
        fitted(alike, labels)


@pytest.mark.data
def test_retrieval_on_real_features_reaches_its_published_line(cifar10_gist):
    features, labels, _ = cifar10_gist
    rows = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    train, queries, database = rows[:1000], rows[1000:1500], rows[2000:12000]
    affinity = Label().supervise(features[train], labels[train])
    truth = Label().relevance(features[queries], labels[queries], features[database], labels[database])
    for bits, published in ((16, 0.235), (64, 0.200)):
        sth = STHRBF(512, bits).fit(features[train], affinity=affinity)
        with torch.no_grad():
            codes = [pack(sth(features[part]) >= 0) for part in (queries, database)]
        score = float(average_precision(AutoEngine().rank(*codes, Hamming(bits), truth)).nanmean())
        assert published - 0.015 < score < published + 0.08
