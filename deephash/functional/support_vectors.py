"""Support vector machines, one per bit, which extend bits of training items to new items."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from deephash.functional.anchors import gaussian_kernel
from deephash.functional.principal_components import working_dtype
from deephash.io.progress import track

# Upper limits: the loss is piecewise quadratic, so Newton's last step reaches the minimum exactly.
NEWTON_ROUNDS = 50
CONJUGATE_ROUNDS = 100
STEP_HALVINGS = 20
# Gradient at the minimum, relative to that at 0, that the rounding of each precision allows.
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}


def linear_svm(features: Tensor, bits: Tensor, cost: float) -> tuple[Tensor, Tensor]:
    """Fit hyperplanes that separate the items whose bit is 1 from the others, one per bit.

    Each minimises ½‖w‖² + C Σ max(0, 1 - t (wᵀx + β))² with t = ±1, the loss of LIBLINEAR; β is not penalised. All are
    solved together by Newton's method in the primal (Chapelle 2007), so that most of the work is matrix products for
    all bits. Nothing is random, and the order of rows does not matter.

    Args:
        features: floating (n, d).
        bits: bool (n, b).
        cost: C > 0, relative to the features' scale.

    Returns:
        Weights w (d, b) and bias β (b,), such that w x + β >= 0 predicts 1. A bit that is the same for all items has
        weight 0 and bias ±1.

    References:
        Chapelle, "Training a support vector machine in the primal", Neural Computation 2007; Fan et al., "LIBLINEAR",
        JMLR 2008.
    """
    dtype = working_dtype(features)
    mean = features.mean(0, dtype=dtype)
    centred = features.to(dtype) - mean
    weights = torch.zeros(features.shape[1], bits.shape[1], dtype=dtype, device=features.device)
    ones = bits.sum(0)
    varying = torch.nonzero((ones > 0) & (ones < len(bits))).flatten()
    bias = torch.where(ones > 0, 1, -1).to(dtype)
    if len(varying):
        targets = torch.where(bits[:, varying], 1, -1).to(dtype)
        solution = _minimise_by_newton(centred, targets, cost)
        weights[:, varying] = solution[:-1]
        bias[varying] = solution[-1] - mean @ solution[:-1]
    return weights, bias


def _minimise_by_newton(centred: Tensor, targets: Tensor, cost: float) -> Tensor:
    """Minimise the squared hinge losses of centred rows (n, d) and targets ±1 (n, b): weights above bias (d + 1, b)."""
    precondition = _build_preconditioner(centred, cost)
    solution = torch.zeros(centred.shape[1] + 1, targets.shape[1], dtype=centred.dtype, device=centred.device)
    margins = torch.zeros_like(targets)
    # Bits that have not converged; the columns of the others are dropped.
    active = torch.arange(targets.shape[1], device=centred.device)
    first: Tensor | None = None
    for _ in track(range(NEWTON_ROUNDS), "SVM"):
        signs, current, values = targets[:, active], solution[:, active], margins[:, active]
        slack = (1 - signs * values).clamp_min_(0)
        gradient = _multiply_transposed(centred, slack * signs).mul_(-2 * cost)
        gradient[:-1] += current[:-1]
        norms = gradient.norm(dim=0)
        first = norms if first is None else first
        unfinished = norms > TOLERANCES[centred.dtype] * first[active]
        if not bool(unfinished.any()):
            break
        keep = torch.nonzero(unfinished).flatten()
        active, signs, current, values = active[keep], signs[:, keep], current[:, keep], values[:, keep]
        slack, gradient = slack[:, keep], gradient[:, keep]
        step = _solve_newton_steps(centred, (slack > 0).to(centred.dtype), gradient, cost, precondition)
        along = torch.addmm(step[-1:], centred, step[:-1])
        size = _choose_step_sizes(current, step, signs * values, signs * along, gradient, cost)
        solution[:, active] = current + size * step
        margins[:, active] = values + size * along
        if not bool((size > 0).any()):
            break
    return solution


def _multiply_transposed(centred: Tensor, values: Tensor) -> Tensor:
    """Compute [X 1]ᵀ V, (d + 1, b)."""
    return torch.cat([centred.T @ values, values.sum(0, keepdim=True)])


def _build_preconditioner(centred: Tensor, cost: float) -> Tensor:
    """Invert the Hessian with every item at half its weight, (d + 1, d + 1), which is close to each bit's."""
    n, d = centred.shape
    hessian = torch.zeros(d + 1, d + 1, dtype=torch.float64, device=centred.device)
    hessian[:d, :d] = cost * (centred.T @ centred).double()
    hessian[:d, :d].diagonal().add_(1)
    hessian[d, d] = cost * n
    return torch.cholesky_inverse(torch.linalg.cholesky(hessian)).to(centred.dtype)


def _solve_newton_steps(centred: Tensor, active: Tensor, gradient: Tensor, cost: float, precondition: Tensor) -> Tensor:
    """Compute Newton's steps -H⁻¹ g of all bits, H = [I 0; 0 0] + 2 C [X 1]ᵀ A [X 1], A the items within the margin."""
    step = torch.zeros_like(gradient)
    residual = -gradient
    scaled = precondition @ residual
    direction, power = scaled.clone(), (residual * scaled).sum(0)
    start = residual.norm(dim=0)
    tiny = torch.finfo(gradient.dtype).tiny
    # Far from the minimum an approximate step suffices; near it the set of active items no longer changes.
    tolerance = max(1e-3, TOLERANCES[gradient.dtype]) if gradient.dtype == torch.float32 else 1e-8
    for _ in range(CONJUGATE_ROUNDS):
        product = _multiply_transposed(centred, torch.addmm(direction[-1:], centred, direction[:-1]).mul_(active))
        product.mul_(2 * cost)
        product[:-1] += direction[:-1]
        rate = power / (direction * product).sum(0).clamp_min(tiny)
        step += rate * direction
        residual -= rate * product
        if bool((residual.norm(dim=0) <= tolerance * start).all()):
            break
        scaled = precondition @ residual
        previous, power = power, (residual * scaled).sum(0)
        direction = scaled + power / previous.clamp_min(tiny) * direction
    return step


def _choose_step_sizes(
    current: Tensor, step: Tensor, margins: Tensor, along: Tensor, gradient: Tensor, cost: float
) -> Tensor:
    """Return the largest step of 1, ½, ¼ ... that lowers each bit's loss enough; 0 if none does."""
    slope = (gradient * step).sum(0)
    size = torch.ones_like(slope)

    def rise(size: Tensor) -> Tensor:
        ahead, behind = (1 - margins - size * along).clamp_min_(0), (1 - margins).clamp_min_(0)
        # The difference of squares as a product: the difference of two nearly equal sums would lose its digits.
        hinge = ((ahead - behind) * (ahead + behind)).sum(0, dtype=torch.float64)
        norm = (size * (current[:-1] * step[:-1]).sum(0) + size.square() * step[:-1].square().sum(0) / 2).double()
        return norm + cost * hinge

    for _ in range(STEP_HALVINGS):
        short = rise(size) > 1e-4 * size * slope
        if not bool(short.any()):
            return size
        size = torch.where(short, size / 2, size)
    return torch.where(short, torch.zeros_like(size), size)


def rbf_svm(features: Tensor, bits: Tensor, cost: float, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Fit support vector machines with the Gaussian kernel exp(-‖x - y‖² / 2σ²), one per bit, with LIBSVM.

    The kernel matrix is computed once for all bits and takes 8 n² bytes, 200 MB for 5,000 items; bits are distributed
    over torch's number of threads.

    Args:
        features: floating (n, d).
        bits: bool (n, b).
        cost: C > 0.
        bandwidth: σ > 0.

    Returns:
        Dual coefficients (n, b), 0 except for support vectors, and bias (b,), such that k(x, features) α + β >= 0
        predicts 1. A bit that is the same for all items has coefficients 0 and bias ±1.
    """
    import numpy as np
    from sklearn.svm import SVC

    kernel = gaussian_kernel(features, features, features.new_tensor(bandwidth)).cpu().double().numpy()
    dual = np.zeros(bits.shape)
    bias = np.where(bits.any(0).cpu().numpy(), 1.0, -1.0)
    targets = bits.cpu().numpy()

    def solve(j: int) -> tuple[int, Any]:
        if targets[:, j].all() or not targets[:, j].any():
            return j, None
        return j, SVC(C=cost, kernel="precomputed", cache_size=100).fit(kernel, targets[:, j])

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for j, machine in track(threads.map(solve, range(bits.shape[1])), "SVM", total=bits.shape[1]):
            if machine is not None:
                dual[machine.support_, j] = machine.dual_coef_[0]
                bias[j] = machine.intercept_[0]
    return torch.from_numpy(dual).to(features), torch.from_numpy(bias).to(features)
