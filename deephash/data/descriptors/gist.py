"""GIST, the spatial envelope of a scene: energies of oriented band-pass filters, averaged over a grid of blocks.

A. Oliva and A. Torralba, "Modeling the shape of the scene: a holistic representation of the spatial envelope", IJCV
42(3), 2001. Parameters and steps are those of the authors' LMgist: grey = mean of R, G and B, stretched to [0, 255];
logarithm, whitening and local contrast normalisation below 4 cycles an image, with a border of 5 pixels; mirrored
borders of 32 pixels; 4 scales of 8 log-spaced Gabor-like transfer functions; magnitudes averaged over 4 × 4 blocks.

An image is filtered where its filter is not zero: both discrete Fourier transforms are products with small matrices
that hold just the frequencies of a filter's support and just the pixels inside the border. On images of 32 to 256
pixels that is faster than FFTs of the whole bordered image, and it runs as one matrix product for a block of images.
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
    mirrored,
    on_both_sides,
    transfer_functions,
)
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_positive

PREFILTER_BORDER = 5
"""Pixels of mirrored border around the image while it is whitened."""

NEGLIGIBLE = 1e-5
"""Gain below which a transfer function counts as zero; energies change by less than float32's rounding does already."""

BLOCK_VALUES = 1 << 18
"""Spectrum values of one block of images: 2 MB, so that a block stays in a core's cache."""


def grey_stack(images: Tensor) -> Tensor:
    """Convert images to grey and stretch each to [0, 255]: uint8 (n, h, w) or (n, h, w, 3) → float32 (h, n, w)."""
    grey = images.float().mean(-1) if images.ndim == 4 else images.float()
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    # A constant image has nothing to stretch: the clamp leaves it at 0.
    grey = 255 * (grey - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    return grey.permute(1, 0, 2).contiguous()


@dataclass(frozen=True)
class _Filter:
    """A transfer function on its support: its frequencies, its gain, and the map back to pixels."""

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
        # Whitening wants an even side; the odd pixel is mirrored behind the border, as LMgist does it.
        bordered = size + 2 * PREFILTER_BORDER
        edge = mirrored(size, PREFILTER_BORDER, PREFILTER_BORDER)[mirrored(bordered, 0, bordered % 2)]
        low_pass = low_pass_matrix(len(edge), cutoff)
        self.white_edge = edge.to(device)
        self.low_pass = low_pass.float().to(device)

        self.side = size + 2 * border
        fourier = fourier_matrix(self.side)
        extension = torch.eye(size, dtype=torch.complex128)[mirrored(size, border, border)]
        self.analysis = (fourier @ extension).to(device, torch.complex64)
        inverse = (fourier.conj().T / self.side)[border : border + size]
        self.filters = []
        for gain in transfer_functions(self.side, orientations):
            passed = gain > NEGLIGIBLE
            rows, columns = (_extent(passed.any(axis)) for axis in (1, 0))
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
        for each in self.filters:
            passed = spectrum[each.rows, :, each.columns] * each.gain
            columns = (each.from_rows @ passed.view(len(passed), -1)).view(self.size * n, -1)
            magnitude = (columns @ each.from_columns).abs().view(self.size, n, self.size)
            # LMgist counts blocks down the columns.
            energies.append(on_both_sides(self.averages, magnitude).permute(1, 2, 0).reshape(n, -1))
        return torch.cat(energies, 1)


@lru_cache(maxsize=4)
def _filter_bank(
    size: int, border: int, cutoff: float, orientations: tuple[int, ...], blocks: int, device: str
) -> _FilterBank:
    """Return a cached filter bank, which is slow to build and serves any number of images."""
    return _FilterBank(size, border, cutoff, orientations, blocks, device)


def _extent(passed: Tensor) -> slice:
    """Return the shortest slice that contains every true entry of a vector."""
    where = torch.nonzero(passed).flatten()
    return slice(int(where[0]), int(where[-1]) + 1)


@final
class Gist(Descriptor):
    """GIST features of images, 512 of them by default.

    Images are taken at their own size, as CIFAR-10's 32 × 32 are in the literature on hashing, where `image_size` is
    None and they are square; else they must come scaled to `image_size`.

    Args:
        image_size: side in pixels to which loaders scale and crop images, 256 in the paper; None keeps their size.
        orientations_per_scale: orientations from the finest scale to the coarsest.
        blocks: blocks along each side, over which energies are averaged.
        cutoff: cycles an image below which brightness is removed and contrast evened out.
        border: pixels of mirrored border around the image while it is filtered.
        device: where it is computed. On one device results are the same each time; between devices they differ by
            rounding, which is why this does not choose by itself.

    Raises:
        InvalidInputError: a parameter out of its range.

    Notes:
        On a CPU each of torch's threads takes blocks of images of its own, with no parallel loops inside: an image's
        features do not depend on the number of cores, and cores that are busy elsewhere hold up nothing.
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
            InvalidInputError: not images, not square, not of `image_size`, or fewer pixels than blocks.
        """
        check_images(images)
        size = images.shape[1]
        expected = size if self.image_size is None else self.image_size
        if images.shape[1:3] != (expected, expected):
            raise InvalidInputError(
                f"images are {images.shape[2]} × {size} pixels; GIST takes square ones"
                + (": give image_size." if self.image_size is None else f" of image_size={expected}: scale them first.")
            )
        if size < self.blocks:
            raise InvalidInputError(f"images are {size} pixels wide; expected at least the {self.blocks} blocks.")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            bank = _filter_bank(size, self.border, self.cutoff, self.orientations_per_scale, self.blocks, self.device)
            features = torch.empty(len(images), len(bank.filters) * self.blocks**2)
            step = max(1, BLOCK_VALUES // bank.side**2)
            starts = range(0, len(images), step)

            @torch.no_grad()  # which is each thread's own
            def block(first: int) -> None:
                pixels = torch.from_numpy(images[first : first + step]).to(self.device)
                features[first : first + step] = bank.energies(bank.whiten(grey_stack(pixels)))

            with ThreadPoolExecutor(threads if self.device == "cpu" else 1) as pool:
                for _ in track(pool.map(block, starts), "GIST features", len(starts)):
                    pass
        finally:
            torch.set_num_threads(threads)
        return features
