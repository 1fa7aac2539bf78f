"""Compilation of the CPU kernels of additive codes ahead of their first use."""

import torch

from deephash.compression.additive_coder import refine_codes
from deephash.compression.asymmetric_scan import AsymmetricScan
from deephash.compression.linear_decoder import LinearDecoder


def compile_additive_kernels() -> None:
    """Compile, or load, the kernels of additive codes and of their scan, by a few random codes."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(70, 8, generator=generator)
    codes = torch.randint(0, 256, (70, 1), dtype=torch.uint8, generator=generator)
    decoder = LinearDecoder.fit(codes, vectors, 8)
    AsymmetricScan(refine_codes(vectors, codes, decoder, 1), decoder).search(vectors[:1], 3)
