"""GIST, the spatial envelope of a scene: energies of oriented band-pass filters, averaged over a grid of blocks.

A. Oliva and A. Torralba, "Modeling the shape of the scene: a holistic representation of the spatial envelope", IJCV
42(3), 2001. Parameters and steps are those of LMgist, the authors' code. Grey is the mean of R, G and B, stretched
to [0, 255]. Its logarithm is whitened and its local contrast normalised, with a cutoff of 4 cycles per image and a
mirrored border of 5 pixels. The filters are Gabor-like transfer functions with 8 orientations at each of 4 log-spaced
scales, and use a mirrored border of 32 pixels. Magnitudes are averaged over 4 × 4 blocks.

Both discrete Fourier transforms are products with small matrices, restricted to the frequencies of a filter's support
and to the pixels inside the border. For images of 32 to 256 pixels this is faster than FFTs of the whole bordered
image, and it runs as one matrix product for a block of images.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor, check_images
from deephash.data.descriptors.gist_filters import (
    block_averages,
    fourier_matrix,
    low_pass_matrix,
    mirrored_pixels,
    on_both_sides,
    transfer_functions,
)
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_positive

PREFILTER_BORDER = 5
"""Pixels of mirrored border around the image while it is whitened."""

NEGLIGIBLE = 1e-5
"""Gain below which a transfer function counts as zero; this changes energies by less than float32 rounding."""

BLOCK_VALUES = 1 << 18
"""Spectrum values of one block of images: 2 MB, so that a block stays in a core's cache."""


def grey_stack(images: Tensor) -> Tensor:
    """Convert images to grey and stretch each to [0, 255]: uint8 (n, h, w) or (n, h, w, 3) → float32 (h, n, w)."""
    grey = images.float().mean(-1) if images.ndim == 4 else images.float()
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    # The clamp avoids a division by 0 for a constant image, which becomes 0.
    grey = 255 * (grey - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    return grey.permute(1, 0, 2).contiguous()


@dataclass(frozen=True)
class _Filter:
    """A transfer function restricted to its support: frequencies, gain, and the map back to pixels."""

    rows: slice
    columns: slice
    gain: Tensor  # (r, 1, c)
    from_rows: Tensor  # (size, r)
    from_columns: Tensor  # (c, size)


class _FilterBank:
    """The matrices of the descriptor for one image side, on one device."""

    def __init__(
        self, size: int, border: int, cutoff: float, orientations: Sequence[int], blocks: int, device: str
    ) -> None:
        self.size = size
        # Whitening needs an even side; an odd side is extended by a mirrored pixel, as in LMgist.
        bordered = size + 2 * PREFILTER_BORDER
        edge = mirrored_pixels(size, PREFILTER_BORDER, PREFILTER_BORDER)[mirrored_pixels(bordered, 0, bordered % 2)]
        low_pass = low_pass_matrix(len(edge), cutoff)
        self.white_edge = edge.to(device)
        self.low_pass = low_pass.float().to(device)

        self.side = size + 2 * border
        fourier = fourier_matrix(self.side)
        extension = torch.eye(size, dtype=torch.complex128)[mirrored_pixels(size, border, border)]
        self.analysis = (fourier @ extension).to(device, torch.complex64)
        inverse = (fourier.conj().T / self.side)[border : border + size]
        self.filters = []
        for gain in transfer_functions(self.side, orientations):
            passed = gain > NEGLIGIBLE
            rows, columns = (_find_extent(passed.any(axis)) for axis in (1, 0))
            self.filters.append(
                _Filter(
                    rows,
                    columns,
                    gain[rows, columns].float()[:, None, :].to(device),
                    inverse[:, rows].to(device, torch.complex64),
                    inverse[:, columns].T.contiguous().to(device, torch.complex64),
                )
            )
        self.averages = block_averages(size, blocks).to(device)

    def whiten(self, grey: Tensor) -> Tensor:
        """Apply logarithm, high pass and local contrast normalisation to grey images (h, n, w)."""
        image = torch.log1p(grey)[self.white_edge][:, :, self.white_edge]
        detail = image - on_both_sides(self.low_pass, image)
        contrast = on_both_sides(self.low_pass, detail**2).abs_().sqrt_()
        inside = slice(PREFILTER_BORDER, PREFILTER_BORDER + self.size)
        return (detail / (0.2 + contrast))[inside, :, inside]

    def energies(self, white: Tensor) -> Tensor:
        """Compute the mean filter magnitudes of whitened images (h, n, w): float32 (n, filters · blocks²)."""
        n = white.shape[1]
        spectrum = on_both_sides(self.analysis, white.to(torch.complex64))
        energies = []
        for support in self.filters:
            passed = spectrum[support.rows, :, support.columns] * support.gain
            columns = (support.from_rows @ passed.view(len(passed), -1)).view(self.size * n, -1)
            magnitude = (columns @ support.from_columns).abs().view(self.size, n, self.size)
            # LMgist orders blocks by columns.
            energies.append(on_both_sides(self.averages, magnitude).permute(1, 2, 0).reshape(n, -1))
        return torch.cat(energies, 1)


@lru_cache(maxsize=4)
def _build_filter_bank(
    size: int, border: int, cutoff: float, orientations: tuple[int, ...], blocks: int, device: str
) -> _FilterBank:
    """Return a cached filter bank, which is slow to build and serves any number of images."""
    return _FilterBank(size, border, cutoff, orientations, blocks, device)


def _find_extent(passed: Tensor) -> slice:
    """Return the shortest slice that contains every true entry of a vector."""
    rows = torch.nonzero(passed).flatten()
    return slice(int(rows[0]), int(rows[-1]) + 1)


@final
class Gist(Descriptor):
    """GIST features of images, 512 of them by default.

    Images must be square. With `image_size=None` they keep their size, as the 32 × 32 images of CIFAR-10 do in the
    literature on hashing; otherwise they must have the side `image_size`.

    Args:
        image_size: side in pixels to which loaders scale and crop images, 256 in the paper; None keeps their size.
        orientations_per_scale: number of orientations, from the finest to the coarsest scale.
        blocks: number of blocks along each side, over which energies are averaged.
        cutoff: frequency in cycles per image below which brightness is removed and contrast is normalised.
        border: pixels of mirrored border around the image during filtering.
        device: device of the computation. Results are deterministic on one device but differ by rounding between
            devices, so the device is not chosen automatically.

    Raises:
        InvalidInputError: a parameter out of range.

    Notes:
        On a CPU, each of torch's threads processes its own blocks of images without inner parallelism, so the features
        do not depend on the number of cores, and a busy core does not delay the others.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        image_size: int | None = None,
        orientations_per_scale: Sequence[int] = (8, 8, 8, 8),
        blocks: int = 4,
        cutoff: float = 4.0,
        border: int = 32,
        device: str = "cpu",
    ) -> None:
        for name, value in (("image_size", image_size), ("blocks", blocks)):
            if value is not None:
                check_positive(value, name)
        check_positive(cutoff, "cutoff")
        if border < 0:
            raise InvalidInputError(f"border={border!r}; expected 0 pixels or more.")
        if len(orientations_per_scale) == 0 or min(orientations_per_scale) < 1:
            raise InvalidInputError(
                f"orientations_per_scale={list(orientations_per_scale)}; expected at least one scale, each of at least "
                "one orientation, such as [8, 8, 8, 8]."
            )
        self.image_size = image_size
        self.orientations_per_scale = tuple(int(o) for o in orientations_per_scale)
        self.blocks = blocks
        self.cutoff = cutoff
        self.border = border
        self.device = device

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on."""
        return {
            "descriptor": "gist",
            "image_size": self.image_size,
            "orientations_per_scale": list(self.orientations_per_scale),
            "blocks": self.blocks,
            "cutoff": self.cutoff,
            "border": self.border,
        }

    def describe(self, images: np.ndarray) -> Tensor:
        """Compute GIST of images, ordered by scale, orientation, block column and block row.

        Args:
            images: uint8 (n, s, s) or (n, s, s, 3).

        Returns:
            float32 (n, blocks² · number of filters); a constant image gives zeros.

        Raises:
            InvalidInputError: not images, not square, a side other than `image_size`, or fewer pixels than blocks.
        """
        check_images(images)
        size = images.shape[1]
        expected = size if self.image_size is None else self.image_size
        if images.shape[1:3] != (expected, expected):
            raise InvalidInputError(
                f"images are {images.shape[2]} × {size} pixels; expected square images"
                + (": set image_size." if self.image_size is None else f" of image_size={expected}: scale them first.")
            )
        if size < self.blocks:
            raise InvalidInputError(
                f"images are {size} pixels wide; expected at least the number of blocks, {self.blocks}."
            )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            bank = _build_filter_bank(
                size, self.border, self.cutoff, self.orientations_per_scale, self.blocks, self.device
            )
            features = torch.empty(len(images), len(bank.filters) * self.blocks**2)
            step = max(1, BLOCK_VALUES // bank.side**2)
            starts = range(0, len(images), step)

            @torch.no_grad()  # gradient mode is per thread
            def block(first: int) -> None:
                pixels = torch.from_numpy(images[first : first + step]).to(self.device)
                features[first : first + step] = bank.energies(bank.whiten(grey_stack(pixels)))

            with ThreadPoolExecutor(threads if self.device == "cpu" else 1) as pool:
                for _ in track(pool.map(block, starts), "GIST features", len(starts)):
                    pass
        finally:
            torch.set_num_threads(threads)
        return features
