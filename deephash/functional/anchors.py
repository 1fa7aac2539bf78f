"""Anchors: a few points that represent all items; kernel methods describe an item by its distances from anchors."""

import numpy as np
import torch
from torch import Tensor

from deephash.functional.principal_components import working_dtype
from deephash.functional.row_shares import broadcast_first, count_rows, gather_rows, rows_are_shared, sum_over_processes
from deephash.io.progress import track

# Pairs of a row and an anchor in a block of distances, 64 MB of float32.
BLOCK_PAIRS = 2**24
# Number of Lloyd's iterations, as few as in FAISS and published code of anchor graphs: anchors need not converge.
KMEANS_ROUNDS = 25


def random_anchors(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw distinct rows at random, among those of all processes if they share the rows.

    Args:
        features: floating (n, d).
        count: number of anchors m, at most n.
        generator: CPU generator of the draw.

    Returns:
        (m, d).
    """
    return gather_rows(features, torch.randperm(count_rows(features), generator=generator)[:count])


def kmeans_anchors(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Compute the centres of k-means clusters with FAISS on the CPU.

    Lloyd's iterations run on a sample of at most 256 rows per centre, since more rows hardly move a centre. So a
    million rows cost no more than the sample; if processes share the rows, each of them holds the sample.

    Args:
        features: floating (n, d), n >= m.
        count: number of anchors m.
        generator: CPU generator, from which the seed is drawn.

    Returns:
        (m, d) in the features' dtype; the clustering itself is in float32.
    """
    import faiss

    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    sampled, n = features, count_rows(features)
    if n > 256 * count:
        sampled = gather_rows(features, torch.randperm(n, generator=generator)[: 256 * count])
    elif rows_are_shared():
        sampled = gather_rows(features, torch.arange(n))
    kmeans = faiss.Kmeans(
        features.shape[1],
        count,
        niter=KMEANS_ROUNDS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sampled) // count + 1,
    )
    kmeans.train(sampled.detach().float().cpu().numpy())
    return broadcast_first(torch.from_numpy(np.array(kmeans.centroids)).to(features))


def squared_distances(features: Tensor, anchors: Tensor) -> Tensor:
    """Compute ‖x - a‖² of every row and anchor, differentiable in both; never below 0.

    Rows and anchors are first centred on the anchors' mean: far from the origin, x² - 2xa + a² would lose its digits to
    cancellation.

    Args:
        features: floating (n, d), so few rows that (n, m) fits in memory.
        anchors: (m, d); the result has their dtype.

    Returns:
        (n, m).
    """
    origin = anchors.detach().mean(0)
    x, a = features.to(anchors.dtype) - origin, anchors - origin
    products = torch.addmm(x.square().sum(1, keepdim=True), x, a.T, alpha=-2)
    return (products + a.square().sum(1)).clamp_min(0)


def gaussian_kernel(features: Tensor, anchors: Tensor, bandwidth: Tensor) -> Tensor:
    """Compute exp(-‖x - a‖² / 2σ²) of every row and anchor.

    With ‖x‖² and 1 appended to x, and their factors to a / σ², one matrix product gives the exponent. Two passes over
    the values then suffice; six passes would take as long as the product.

    Args:
        features: floating (n, d).
        anchors: (m, d).
        bandwidth: σ, a scalar above 0.

    Returns:
        (n, m), differentiable in all three.
    """
    # Far from the origin, x² - 2xa + a² would lose its digits to cancellation.
    origin = anchors.detach().mean(0)
    x, a = features.to(anchors.dtype) - origin, anchors - origin
    precision = bandwidth.square().reciprocal()
    left = torch.cat([x, x.square().sum(1, keepdim=True), torch.ones_like(x[:, :1])], 1)
    squared = a.square().sum(1, keepdim=True)
    right = torch.cat([a, torch.full_like(squared, -0.5), -0.5 * squared], 1) * precision
    return (left @ right.T).clamp_max(0).exp_()


def mean_squared_distance(features: Tensor, anchors: Tensor) -> float:
    """Compute the mean of ‖x - a‖² over all rows and anchors in closed form, without computing each distance.

    Args:
        features: floating (n, d).
        anchors: (m, d).
    """
    origin = anchors.double().mean(0)
    sums = torch.zeros((), dtype=torch.float64, device=features.device)
    working = working_dtype(features)
    for block in torch.split(features, max(1, BLOCK_PAIRS // features.shape[1])):
        sums += (block.to(working) - origin.to(working)).square().sum(dtype=torch.float64)
    return float(sum_over_processes(sums)) / count_rows(features) + float(
        (anchors.double() - origin).square().sum()
    ) / len(anchors)


def nearest_anchors(features: Tensor, anchors: Tensor, s: int) -> tuple[Tensor, Tensor]:
    """Find the s anchors nearest to each row, in blocks of rows.

    Args:
        features: floating (n, d).
        anchors: (m, d), m >= s.
        s: anchors per row.

    Returns:
        Squared distances, ascending, (n, s) in the anchors' dtype; and the anchors, int64 (n, s).
    """
    distances = torch.empty(len(features), s, dtype=anchors.dtype, device=features.device)
    ids = torch.empty(len(features), s, dtype=torch.int64, device=features.device)
    step = max(1, BLOCK_PAIRS // len(anchors))
    for start in track(range(0, len(features), step), "Nearest anchors"):
        rows = slice(start, start + step)
        distances[rows], ids[rows] = squared_distances(features[rows], anchors).topk(s, largest=False)
    return distances, ids


def anchor_graph_weights(rows: Tensor, anchors: Tensor, s: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute Z, the weights of each row on its s nearest anchors: exp(-‖x - u‖² / σ²), divided by their sum.

    This is the anchor graph of Liu, Wang, Kumar & Chang, ICML 2011, Eq. 2.

    Args:
        rows: floating (n, d).
        anchors: (m, d), m >= s.
        s: anchors per row.

    Returns:
        Weights (n, s) that sum to 1; anchors, int64 (n, s); and σ, the mean distance of a row from its s-th nearest
        anchor, as in the authors' code, 0 if all rows lie on their anchors.
    """
    distances, ids = nearest_anchors(rows, anchors, s)
    widths = distances[:, -1].sqrt().sum(dtype=torch.float64)
    bandwidth = (sum_over_processes(widths) / count_rows(rows)).to(distances.dtype)
    least = torch.finfo(distances.dtype).tiny
    return torch.softmax(-distances / bandwidth.square().clamp_min(least), 1), ids, bandwidth
