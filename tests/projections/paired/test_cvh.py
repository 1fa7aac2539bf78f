"""CVH: canonical pairs against SciPy's generalised eigenproblem, bits beyond the smaller view, Wiki."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deephash.data.views import Views
from deephash.functional.pair_covariances import pair_covariances
from deephash.projections.paired.cvh import CVH
from deephash.validation import InvalidInputError

RIDGE = 1e-4


def plain_covariances(pairs):
    rows = [pairs.of(name).numpy() for name in ("image", "text")]
    image, text = (x - x.mean(0) for x in rows)
    n, ridged = len(image), []
    for x in (image, text):
        covariance = x.T @ x / n
        ridged.append(covariance + RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    return *ridged, image.T @ text / n


def directions_of(method):
    return [method.view(name).directions.detach().numpy() for name in ("image", "text")]


def test_covariances_over_several_blocks_are_those_of_all_rows():
    generator = torch.Generator().manual_seed(0)
    first, second = (100 + torch.randn(9000, d, generator=generator, dtype=torch.float64) for d in (3, 2))
    mean, other_mean, joint = pair_covariances(first, second)
    rows = np.concatenate([first, second], 1)
    assert np.allclose(np.concatenate([mean, other_mean]), rows.mean(0))
    assert np.allclose(joint, np.cov(rows.T, bias=True), atol=1e-12)


def test_directions_solve_the_generalised_eigenproblem(noisy_pairs):
    pairs, _ = noisy_pairs()
    method = CVH(pairs.dimensions, 3).double().fit(pairs)
    own, other, cross = plain_covariances(pairs)
    swapped = np.block([[np.zeros_like(own), cross], [cross.T, np.zeros_like(other)]])
    values, vectors = scipy.linalg.eigh(swapped, scipy.linalg.block_diag(own, other))
    assert np.allclose(method.correlations, values[::-1][:3], atol=1e-10)
    # SciPy gives both halves together unit length; here each has.
    plain = vectors[:, ::-1][:, :3] * 2**0.5
    found = np.concatenate(directions_of(method))
    assert np.allclose(found, plain * np.sign((found * plain).sum(0)), atol=1e-8)


def test_larger_view_goes_on_where_the_smaller_has_no_directions_left(noisy_pairs):
    pairs, _ = noisy_pairs()
    method = CVH(pairs.dimensions, 7).double().fit(pairs)
    own, other, cross = plain_covariances(pairs)
    image, text = directions_of(method)
    assert np.allclose(image.T @ own @ image, np.eye(7), atol=1e-9)
    assert np.allclose(text[:, :3].T @ other @ text[:, :3], np.eye(3), atol=1e-9)
    assert np.allclose(image.T @ cross @ text, np.diag(method.correlations)[:, :7], atol=1e-9)
    assert (method.correlations[:3] > 0.1).all()
    assert float(method.correlations[3:].abs().max()) == float(np.abs(text[:, 3:]).max()) == 0
    shorter = CVH(pairs.dimensions, 5).double().fit(pairs)
    assert np.array_equal(directions_of(shorter)[0], image[:, :5])
    with pytest.raises(InvalidInputError, match="8 projections exceed the 7 directions of the larger view"):
        CVH(pairs.dimensions, 8)


def test_order_of_the_views_does_not_matter(noisy_pairs):
    pairs, _ = noisy_pairs()
    swapped = Views({name: pairs.of(name) for name in ("text", "image")})
    one, other = (CVH(given.dimensions, 5).double().fit(given) for given in (pairs, swapped))
    for first, second in zip(directions_of(one), directions_of(other), strict=True):
        assert np.allclose(np.abs(first[:, :3]), np.abs(second[:, :3]), atol=1e-9)
        assert np.allclose(first * np.sign(first[:1] * second[:1] + 1e-300), second, atol=1e-9)


def test_signs_of_a_pair_turn_together(noisy_pairs):
    pairs, _ = noisy_pairs()
    method = CVH(pairs.dimensions, 3).double().fit(pairs)
    image, text = (method.view(name)(pairs.of(name)) for name in ("image", "text"))
    assert torch.allclose((image * text).mean(0), method.correlations, atol=1e-9)


def test_scale_of_a_view_does_not_matter(noisy_pairs):
    pairs, _ = noisy_pairs()
    larger = Views({"image": 1000 * pairs.of("image"), "text": pairs.of("text") / 1000})
    one, other = (CVH(given.dimensions, 7).double().fit(given) for given in (pairs, larger))
    for name in ("image", "text"):
        assert torch.allclose(one.view(name)(pairs.of(name)), other.view(name)(larger.of(name)), atol=1e-8)


def test_shares_that_sum_to_one_and_a_constant_feature_are_no_trouble(noisy_pairs):
    pairs, _ = noisy_pairs()
    image = pairs.of("image").softmax(1)
    image[:, 2] = 0.25
    method = CVH(pairs.dimensions, 7).double().fit(Views({"image": image, "text": pairs.of("text").softmax(1)}))
    assert all(bool(tensor.isfinite().all()) for tensor in method.state_dict().values())
    assert float(method.correlations[0]) > 0.5


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="regularisation=0; expected a finite number above 0"):
        CVH({"image": 4, "text": 3}, 2, regularisation=0)


@pytest.mark.data
def test_wiki_scores_as_plain_canonical_correlations_do(wiki_scores):
    image_to_text, text_to_image = wiki_scores(CVH, 8)
    assert image_to_text == pytest.approx(0.190, abs=1e-3)
    assert text_to_image == pytest.approx(0.186, abs=1e-3)
