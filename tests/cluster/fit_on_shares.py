"""One process of several: fits methods on its share of the digits; the first process saves them.

Called as `fit_on_shares.py RANK WORLD RENDEZVOUS OUTPUT`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from deephash.data.mnist5k import read_mnist_digits
from deephash.data.views import Views
from deephash.functional.principal_components import BLOCK_ROWS
from deephash.functional.row_shares import row_shares
from deephash.functional.shares import get_share
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.projections.agh import AGH
from deephash.projections.itq import ITQ
from deephash.projections.itq_cca import ITQCCA
from deephash.projections.paired.cvh import CVH
from deephash.projections.pcah import PCAH
from deephash.projections.sdh import SDH
from deephash.projections.sgh import SGH
from deephash.projections.sh import SH
from deephash.quantizers.sbq import SBQ


def digits():
    """Features float32 (15000, 196), each pixel of four, and labels; in an order that gives shares all classes but one.

    Each digit is there as it is, mirrored, and upside down. The class 9 comes last, so that shares differ in the
    classes they see.
    """
    images, labels = read_mnist_digits()
    images = images.reshape(-1, 28, 28)
    images, labels = np.concatenate([images, images[:, :, ::-1], images[:, ::-1]]), np.tile(labels, 3)
    order = np.random.default_rng(0).permutation(len(images))
    order = order[np.argsort(labels[order] == 9, kind="stable")]
    pixels = images[order].reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    # Numbers that sum exactly, as whole ones do, would hide in which order they are summed.
    pixels /= 255
    return torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels[order])


def methods(features, labels, rows):
    """Each method, fitted on some rows."""
    some, own = features[rows.start : rows.stop], labels[rows.start : rows.stop]
    kernels = [kind(196, 24, anchors=100) for kind in (AGH, SGH, SDH)]
    projections = [*(kind(196, 24) for kind in (PCAH, ITQ, SH, ITQCCA)), *kernels]
    fitted = {type(each).__name__: Hasher(each, SBQ(24)).fit(some, labels=own) for each in projections}
    pairs = Views({"image": some[:, :100], "text": some[:, 100:]})
    fitted["CVH"] = CrossModalHasher(CVH(pairs.dimensions, 24), {"image": SBQ(24), "text": SBQ(24)}).fit(pairs)
    return fitted


def main(rank, world, rendezvous, output):
    torch.set_num_threads(1)
    rank, world = int(rank), int(world)
    features, labels = digits()
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
        with row_shares():
            fitted = methods(features, labels, get_share(len(features), rank, world, BLOCK_ROWS))
        dist.destroy_process_group()
    else:
        fitted = methods(features, labels, range(len(features)))
    for name, hasher in fitted.items():
        assert hasher.fits_on_shares
        hasher.save(Path(output) / f"{name}-{rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
