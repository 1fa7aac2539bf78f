"""The compiled correlation of signs against a plain matrix product."""

import pytest
import torch

from deephash.functional.procrustes import random_orthogonal
from deephash.functional.sign_flips import sign_flips
from deephash.projections.itq import sign_correlation


def plain(projections, rotation):
    signs = torch.where(projections.double() @ rotation.double() >= 0, 1.0, -1.0).double()
    return projections.double().T @ signs


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 3), (333, 8), (1001, 13), (4100, 24)])
def test_equal_to_the_plain_product_over_a_sequence_of_rotations(n, k):
    generator = torch.Generator().manual_seed(0)
    projections = torch.randint(-50, 51, (n, k), generator=generator).float()
    rotation = random_orthogonal(k, generator)
    threads = torch.get_num_threads()
    with sign_flips(projections) as flips:
        for _ in range(6):
            step = 0.05 * torch.randn(k, k, generator=generator, dtype=torch.float64)
            rotation = rotation @ torch.linalg.matrix_exp(step - step.T)
            expected = plain(projections, rotation)
            torch.testing.assert_close(flips(rotation), expected, atol=100 * n * 1e-6, rtol=1e-5)
            torch.testing.assert_close(
                sign_correlation(projections, rotation), expected, atol=100 * n * 1e-6, rtol=1e-5
            )
    assert torch.get_num_threads() == threads


def test_zero_is_positive():
    projections = torch.tensor([[0.0, 0.0], [1.0, -1.0], [1.0, 1.0]])
    rotation = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
    expected = torch.tensor([[2.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    assert torch.equal(plain(projections, rotation), expected)
    assert torch.equal(sign_correlation(projections, rotation), expected)
    with sign_flips(projections) as flips:
        flips(-rotation)
        assert torch.equal(flips(rotation), expected)


def test_rows_are_summed_in_the_same_order_by_any_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    projections = torch.randn(3000, 16, generator=generator)
    rotations = [random_orthogonal(16, generator) for _ in range(3)]
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        with sign_flips(projections) as flips:
            results.append([flips(rotation).clone() for rotation in rotations])
    torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for result in results[1:] for one, other in zip(results[0], result, strict=True))
