"""SCM: its eigenproblem against a plain version with the whole similarity matrix, its constraint and its bound."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deephash.codes import pack
from deephash.data.views import Views
from deephash.metrics.average_precision import average_precision
from deephash.projections.paired.cvh import CVH
from deephash.projections.paired.scm import SCM
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError

DIMENSIONS = {"image": 9, "text": 6}


def make_pairs(n=200, classes=4, seed=0):
    """Views of a pair share what their class says, and a part of their own that all classes have."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    of_class = torch.randn(classes, 4, generator=generator, dtype=torch.float64)[labels]
    common = 3 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    features = {}
    for name, d in DIMENSIONS.items():
        mixing = torch.randn(6, d, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, d, generator=generator, dtype=torch.float64) / 2
        features[name] = torch.cat([of_class, common], 1) @ mixing + noise + 5
    return Views(features), labels


def plain_similarity(labels):
    if labels.ndim == 1:
        return np.where(labels[:, None] == labels, 1.0, -1.0)
    lengths = np.sqrt(labels.sum(1))
    return 2 * (labels.astype(float) @ labels.T) / np.maximum(np.outer(lengths, lengths), 1) - 1


def plain_scm(x, y, labels, regularisation):
    """Squared agreements of the generalised eigenproblem A C_yy⁻¹ Aᵀ w = λ² C_xx w, and its w, by falling λ."""
    n = len(x)
    x, y = x - x.mean(0), y - y.mean(0)
    covariances = []
    for rows in (x, y):
        covariance = rows.T @ rows / n
        covariances.append(
            covariance + regularisation * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        )
    agreement = x.T @ plain_similarity(labels) @ y / n**2
    problem = agreement @ np.linalg.solve(covariances[1], agreement.T)
    values, vectors = scipy.linalg.eigh(problem, covariances[0])
    return values[::-1], vectors[:, ::-1], covariances


MULTI = torch.rand(200, 5, generator=torch.Generator().manual_seed(1)) < 0.4


@pytest.mark.parametrize("multi", [False, True])
def test_equal_to_plain_numpy(multi):
    pairs, labels = make_pairs()
    labels = MULTI if multi else labels
    method = SCM(DIMENSIONS, 3, regularisation=0.2).double().fit(pairs, labels=labels)
    x, y = pairs.of("image").numpy(), pairs.of("text").numpy()
    values, vectors, covariances = plain_scm(x, y, labels.numpy(), 0.2)
    np.testing.assert_allclose(method.agreements.square(), values[:3], rtol=1e-8)
    w, v = (method.view(name).directions.detach().numpy() for name in DIMENSIONS)
    np.testing.assert_allclose(np.abs(w.T @ covariances[0] @ vectors[:, :3]), np.eye(3), atol=1e-7)
    np.testing.assert_allclose(v.T @ covariances[1] @ v, np.eye(3), atol=1e-9)
    agreement = (x - x.mean(0)).T @ plain_similarity(labels.numpy()) @ (y - y.mean(0)) / len(x) ** 2
    np.testing.assert_allclose(w.T @ agreement @ v, np.diag(method.agreements), atol=1e-9)


def test_what_the_labels_leave_open_goes_by_correlation():
    """Four classes have three directions; the others are orthogonal to them and correlate across views."""
    pairs, labels = make_pairs()
    method = SCM(DIMENSIONS, 6, regularisation=1e-9).double().fit(pairs, labels=labels)
    assert (method.agreements > 0).tolist() == [True] * 3 + [False] * 3
    projections = [method.view(name)(pairs.of(name)).detach().numpy() for name in DIMENSIONS]
    for rows in projections:
        np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(6), atol=1e-6)
    rest = (projections[0].T @ projections[1] / 200)[3:, 3:]
    assert np.all(np.diff(np.diag(rest)) < 0)
    np.testing.assert_allclose(rest, np.diag(np.diag(rest)), atol=1e-6)
    assert rest[0, 0] > 0.8


def test_follows_the_labels_and_not_what_the_views_have_in_common():
    pairs, labels = make_pairs(400)
    relevance = SharedLabel(labels[:100], labels[100:])

    def score(method, k):
        method = method(DIMENSIONS, k).double().fit(pairs[100:], labels=labels[100:])
        queries = pack(method.view("image")(pairs[:100].of("image")) >= 0)
        database = pack(method.view("text")(pairs[100:].of("text")) >= 0)
        return float(average_precision(AutoEngine().rank(queries, database, Hamming(k), relevance)).mean())

    assert score(SCM, 3) > score(CVH, 3) + 0.1


def test_more_bits_than_the_smaller_view_has_are_refused():
    SCM(DIMENSIONS, 6)
    with pytest.raises(InvalidInputError, match="7 projections exceed the 6 directions of text, the smaller view"):
        SCM(DIMENSIONS, 7)


@pytest.mark.parametrize("labels", [torch.zeros(200, dtype=torch.int64), torch.ones(200, 2, dtype=torch.bool)])
def test_one_class_is_refused(labels):
    pairs, _ = make_pairs()
    with pytest.raises(InvalidInputError, match="nothing in the features of the 200 training items varies with"):
        SCM(DIMENSIONS, 2).double().fit(pairs, labels=labels)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="regularisation=0; expected a finite number above 0"):
        SCM(DIMENSIONS, 2, regularisation=0)
