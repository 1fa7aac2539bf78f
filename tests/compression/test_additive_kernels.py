"""Compilation ahead: afterwards, encoding and scanning compile nothing."""

import torch

from deephash.compression.additive_coder import AdditiveCoder
from deephash.compression.additive_kernels import compile_additive_kernels
from deephash.compression.asymmetric_scan import AsymmetricScan
from deephash.compression.descent_kernel import descend
from deephash.compression.scan_kernels import scan_tiles
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.ranking.numba_vectors import SHUFFLES


def test_nothing_is_left_to_compile():
    compile_additive_kernels()
    used = (descend, scan_tiles) if SHUFFLES else (descend,)
    before = [len(kernel.signatures) for kernel in used]
    vectors = torch.randn(300, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coder = AdditiveCoder(Hasher(ITQ(24, 20), SBQ(20)).fit(vectors)).fit(vectors)
    for measure in ("cosine", "inner_product"):
        AsymmetricScan(coder.encode(vectors), coder.decoder, measure=measure).search(vectors[:7], 5)
    assert min(before) > 0
    assert before == [len(kernel.signatures) for kernel in used]
