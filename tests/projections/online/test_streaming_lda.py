"""The posterior of the classes, from moments of a stream, decides the bits of the codewords."""

import numpy as np
import pytest
import torch

from deephash.projections.online.streaming_lda import StreamingLDA, discriminants, update_class_moments
from deephash.validation import InvalidInputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.randint(4, (600,), generator=seeded())
CENTRES = 2 * torch.randn(4, 10, generator=seeded(1), dtype=torch.float64)
FEATURES = 3 + CENTRES[LABELS] + torch.randn(600, 10, generator=seeded(2), dtype=torch.float64)
MULTI_LABELS = torch.rand(600, 6, generator=seeded(3)) < 0.3


def streamed(labels=LABELS, size=100, rows=slice(None), **settings):
    stream = StreamingLDA(10, 16, **settings).double()
    for i, (x, y) in enumerate(zip(FEATURES[rows].split(size), labels[rows].split(size), strict=True)):
        stream.partial_fit(x, y, seeded(9) if i == 0 else None)
    return stream


def moments_of(shares):
    """Weighted means of the classes and the scatter within them, in one pass over all items, in NumPy."""
    x, w = FEATURES.numpy(), shares.numpy()
    means = np.zeros((w.shape[1], 10))
    scatter = np.zeros((10, 10))
    for c in np.flatnonzero(w.sum(0)):
        means[c] = w[:, c] @ x / w[:, c].sum()
        centred = x - means[c]
        scatter += (centred * w[:, c, None]).T @ centred
    return w.sum(0), means, scatter


@pytest.mark.parametrize("labels", [LABELS, MULTI_LABELS], ids=["labels", "multi-labels"])
@pytest.mark.parametrize("half_life", [None, 150.0])
@pytest.mark.parametrize("size", [37, 600])
def test_statistics_are_those_of_all_items(labels, half_life, size):
    stream = streamed(labels, size, half_life=half_life)
    indicators = torch.nn.functional.one_hot(labels).double() if labels.ndim == 1 else labels.double()
    shares = indicators / indicators.sum(1, keepdim=True).clamp_min(1)
    if half_life is not None:
        shares = shares * torch.exp2(-torch.arange(599, -1, -1, dtype=torch.float64) / half_life)[:, None]
    weights, means, scatter = moments_of(shares)
    c = len(weights)
    np.testing.assert_allclose(stream.weights[:c], weights, atol=1e-9)
    np.testing.assert_allclose(stream.means[:c], means, atol=1e-9)
    np.testing.assert_allclose(stream.scatter, scatter, atol=1e-7)
    assert not bool(stream.weights[c:].any())


def test_moments_of_a_class_that_was_absent_stay():
    weights, means, scatter = torch.zeros(3).double(), torch.zeros(3, 10).double(), torch.zeros(10, 10).double()
    shares = torch.nn.functional.one_hot(LABELS % 2, 3).double()
    update_class_moments(weights, means, scatter, FEATURES, shares, 1.0)
    before = means.clone()
    update_class_moments(weights, means, scatter, FEATURES[LABELS == 0], shares[LABELS == 0], 0.5)
    assert torch.equal(means[1:], before[1:])
    assert float(weights[1]) == pytest.approx(0.5 * int((LABELS % 2 == 1).sum()))


def test_projections_are_expected_bits_of_the_posterior():
    stream = streamed(likelihood_power=1.0, scarcity=1e-12, regularisation=1e-12, half_life=None)
    weights, means, scatter = moments_of(torch.nn.functional.one_hot(LABELS).double())
    inverse = np.linalg.inv(scatter / weights.sum())
    gaps = FEATURES.numpy()[:, None] - means
    exponents = -0.5 * np.einsum("ncd,de,nce->nc", gaps, inverse, gaps)
    posterior = np.exp(exponents - exponents.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    np.testing.assert_allclose(stream(FEATURES).detach(), posterior @ stream.codewords[:4].numpy(), atol=1e-6)
    right = (stream(FEATURES) >= 0) == (stream.codewords[LABELS] > 0)
    assert float(right.double().mean()) > 0.95


def test_classes_count_the_same_however_often_they_arrive():
    weights, means, scatter = (torch.as_tensor(x) for x in moments_of(torch.nn.functional.one_hot(LABELS).double()))
    many = torch.tensor([9.0, 1, 1, 1], dtype=torch.float64) * weights
    balanced = discriminants(weights, means, scatter / weights.sum(), 0.3, 1e-12)
    frequent = discriminants(many, means, scatter / weights.sum() * many.sum() / weights.sum(), 0.3, 1e-12)
    assert torch.allclose(balanced[0], frequent[0], atol=1e-6)
    assert torch.allclose(balanced[1], frequent[1], atol=1e-6)


def test_priors_follow_recent_labels():
    order = torch.cat([torch.nonzero(LABELS < 2).flatten(), torch.nonzero(LABELS >= 2).flatten()])
    followed = streamed(rows=order, prior_half_life=30.0, size=50)
    even = streamed(rows=order, size=50)
    assert torch.equal(followed.directions, even.directions)
    assert not bool(even.log_priors.any())
    assert bool((followed.log_priors[:2] + 2 < followed.log_priors[2:4].min()).all())
    middle = CENTRES[[0, 2]].mean(0, keepdim=True) + 3
    likelihoods = even.likelihood_power * (middle @ even.directions + even.offsets)
    nearest = torch.softmax(likelihoods + followed.log_priors, 1) @ followed.codewords
    assert torch.allclose(followed(middle), nearest)


def test_codewords_stay_and_old_codes_keep_their_meaning():
    stream = StreamingLDA(10, 16).double()
    stream.partial_fit(FEATURES[:300], LABELS[:300], seeded(9))
    words, old = stream.codewords.clone(), stream(FEATURES) >= 0
    for rows in torch.arange(300, 600).split(50):
        stream.partial_fit(FEATURES[rows], LABELS[rows])
    assert torch.equal(stream.codewords, words)
    assert float((old == (stream(FEATURES) >= 0)).double().mean()) > 0.97


def test_items_of_one_class_get_its_codeword():
    stream = StreamingLDA(10, 16).double()
    stream.partial_fit(FEATURES[:50], torch.ones(50, dtype=torch.int64))
    assert torch.equal(stream(FEATURES), stream.codewords[1].expand(600, -1))


def test_identical_items_are_no_error():
    stream = StreamingLDA(10, 16).double()
    stream.partial_fit(torch.ones(40, 10).double(), LABELS[:40])
    assert bool(stream(FEATURES).isfinite().all())


def test_refusals():
    with pytest.raises(InvalidInputError, match="no item of the first batch has a label; begin with a batch that has"):
        StreamingLDA(10, 16).partial_fit(FEATURES[:20], torch.zeros(20, 3, dtype=torch.bool))
    with pytest.raises(InvalidInputError, match="40 classes exceed the 16 codewords; give order=64"):
        StreamingLDA(10, 16).partial_fit(FEATURES[:40], torch.arange(40))
    with pytest.raises(InvalidInputError, match="order=12; expected a power of two"):
        StreamingLDA(10, 16, order=12)
    for name in ("regularisation", "scarcity", "likelihood_power", "half_life", "prior_half_life"):
        with pytest.raises(InvalidInputError, match=f"{name.removeprefix('prior_')}=0"):
            StreamingLDA(10, 16, **{name: 0})
