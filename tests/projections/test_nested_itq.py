"""Nested ITQ against a plain NumPy version, ITQ itself, and the prefixes of its codes on real vectors."""

import numpy as np
import pytest
import torch

from deephash.codes import pack
from deephash.functional.principal_components import principal_components
from deephash.functional.procrustes import random_orthogonal
from deephash.indexes.flat import Flat
from deephash.projections.itq import ITQ
from deephash.projections.nested_itq import NestedITQ, missing_metric_root
from deephash.validation import InvalidInputError


def features_of(n=500, d=12, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(0.5, -0.5, d, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    return ((torch.randn(n, d, generator=generator, dtype=torch.float64) * spread) @ basis + 2).to(dtype)


def plain_nested_itq(features, bits, shortest, block, iterations, generator):
    """The same steps, with whole matrices: principal components by SVD, a root for each block, codes held whole."""
    centred = features - features.mean(0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    variances = singular**2 / len(features)
    right = right.T * np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    components = centred @ right
    metric, columns = np.zeros((len(variances), len(variances))), []
    ends = [*range(shortest, bits, block), bits]
    for first, last in zip([0, *ends], ends, strict=False):
        r = min(last, len(variances))
        lacking = last / variances[:r].sum() * np.eye(r) - metric[:r, :r]
        eigenvalues, axes = np.linalg.eigh(lacking)
        root = axes @ np.diag(np.sqrt(np.maximum(eigenvalues, 0))) @ axes.T
        turned = components[:, :r] @ root
        z = random_orthogonal(r, generator).numpy()[:, : last - first]
        for _ in range(iterations):
            left, _, other = np.linalg.svd(turned.T @ np.where(turned @ z >= 0, 1.0, -1.0), full_matrices=False)
            z = left @ other
        for w in (root @ z).T:
            w = w / np.sqrt((components[:, :r] @ w).var())
            metric[:r, :r] += np.outer(w, w)
            columns.append(right[:, :r] @ w)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(
    ("bits", "shortest", "block"), [(1, 8, 8), (8, 8, 8), (12, 4, 4), (11, 5, 3), (30, 12, 8), (7, 2, 1)]
)
def test_equal_to_plain_numpy(bits, shortest, block):
    features = features_of()
    expected = plain_nested_itq(features.numpy(), bits, shortest, block, 5, torch.Generator().manual_seed(7))
    fitted = NestedITQ(12, bits, shortest, block, 5).double().fit(features, generator=torch.Generator().manual_seed(7))
    np.testing.assert_allclose(fitted.directions.detach().numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("bits", [4, 10, 12])
def test_first_block_is_the_code_of_itq_of_its_length(bits):
    features = features_of()
    nested = NestedITQ(12, 12, shortest=bits).double().fit(features, generator=torch.Generator().manual_seed(3))
    itq = ITQ(12, bits, 20).double().fit(features, generator=torch.Generator().manual_seed(3))
    assert torch.equal(nested(features)[:, :bits] >= 0, itq(features) >= 0)


def test_projections_have_unit_variance_and_the_metric_comes_near_its_target():
    features = features_of(3000)
    nested = NestedITQ(12, 96).double().fit(features)
    variances = nested(features).detach().var(0, correction=0)
    assert torch.allclose(variances, torch.ones(96, dtype=torch.float64), atol=1e-6)
    _, components, spread = principal_components(features, 12)
    directions = components.T @ nested.directions.detach()
    metric = directions @ directions.T
    target = 96 / spread.sum() * torch.eye(12, dtype=torch.float64)
    separate = 96 / 12 * torch.diag(1 / spread)  # of blocks of components of their own
    assert float((separate - target).norm() / target.norm()) > 0.5
    assert float((metric - target).norm() / target.norm()) < 0.15


def test_what_the_metric_has_in_excess_is_not_taken_away():
    variances = torch.tensor([4.0, 1.0], dtype=torch.float64)
    metric = torch.diag(torch.tensor([10.0, 0.1], dtype=torch.float64))
    root = missing_metric_root(metric, variances, 2)
    assert torch.allclose(root, torch.diag(torch.tensor([0.0, 0.3], dtype=torch.float64).sqrt()))


def test_bad_settings_and_equal_rows_are_refused():
    with pytest.raises(InvalidInputError, match="block=0; expected a whole number of at least 1"):
        NestedITQ(12, 8, block=0)
    with pytest.raises(InvalidInputError, match=r"shortest=1\.5; expected a whole number of at least 1"):
        NestedITQ(12, 8, shortest=1.5)
    with pytest.raises(InvalidInputError, match="iterations=0; expected a whole number of at least 1"):
        NestedITQ(12, 8, iterations=0)
    with pytest.raises(InvalidInputError, match="the 9 training rows are all equal; give rows that differ"):
        NestedITQ(12, 8).fit(torch.ones(9, 12))


def test_a_block_is_lowered_to_the_directions_of_few_rows():
    fitted = NestedITQ(12, 16).fit(features_of(4))
    assert (fitted.shortest, fitted.block) == (3, 3)
    assert fitted(features_of(4).float()).shape == (4, 16)


def recall(codes, queries, truth, bits):
    ids = Flat(pack(codes[:, :bits]), bits).search(pack(queries[:, :bits]), 100)[1]
    return float((ids[:, :, None] == truth[:, None, :]).any(1).float().mean())


def test_prefixes_find_as_many_neighbours_as_codes_of_their_length(real_data):
    with np.load(real_data / "siftsmall.npz") as data:
        base, queries = torch.from_numpy(data["base"][:4000]).float(), torch.from_numpy(data["base"][4000:4500]).float()
    truth = torch.cdist(queries, base).topk(10, largest=False).indices
    nested = NestedITQ(128, 192).fit(base)
    own = {bits: ITQ(128, bits).fit(base) for bits in (64, 128)}
    with torch.no_grad():
        codes, query_codes = nested(base) >= 0, nested(queries) >= 0
        alone = {bits: recall(itq(base) >= 0, itq(queries) >= 0, truth, bits) for bits, itq in own.items()}
        # A prefix of ITQ's own longer code is a poor code, so the test can fail.
        cut = recall(own[128](base) >= 0, own[128](queries) >= 0, truth, 64)
    assert cut < 0.9 * alone[64]
    prefixes = {bits: recall(codes, query_codes, truth, bits) for bits in (64, 128, 192)}
    assert all(prefixes[bits] > 0.95 * alone[bits] for bits in alone)
    assert prefixes[192] > prefixes[128]
