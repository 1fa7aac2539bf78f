"""GIST of CIFAR-10-sized images: ours against the same filters by batched FFTs of the whole bordered image (torch.fft).

    python benchmarks/gist.py [IMAGES.npz]

The file contains the array "images"; without a file the images are random. Both run interleaved in this process on all
cores. The bar is 60,000 images of 32 × 32 in 120 s on 2 cores.
"""

import sys
import time

import numpy as np
import torch

from deephash.data.descriptors.gist import Gist, grey_stack
from deephash.data.descriptors.gist_filters import low_pass_matrix, mirrored_pixels, on_both_sides, transfer_functions

COUNT = 60_000
SAMPLE = 2_000
REPETITIONS = 5
BAR_SECONDS = 120


@torch.no_grad()
def describe_by_fft(images: np.ndarray, step: int = 50) -> torch.Tensor:
    """Compute the same features, with each filter applied to whole spectra by inverse FFTs."""
    size, border, edge = images.shape[1], 32, 5
    filters = torch.fft.ifftshift(transfer_functions(size + 2 * border, (8, 8, 8, 8)), (1, 2)).float()
    low_pass = low_pass_matrix(size + 2 * edge, 4).float()
    inner, outer = mirrored_pixels(size, edge, edge), mirrored_pixels(size, border, border)
    blocks = []
    for first in range(0, len(images), step):
        grey = torch.log1p(grey_stack(torch.from_numpy(images[first : first + step])))[inner][:, :, inner]
        detail = grey - on_both_sides(low_pass, grey)
        white = detail / (0.2 + on_both_sides(low_pass, detail**2).abs().sqrt())
        white = white[edge:-edge, :, edge:-edge].permute(1, 0, 2)[:, outer][:, :, outer]
        spectrum = torch.fft.fft2(white)
        energies = []
        for gain in filters:
            response = torch.fft.ifft2(spectrum * gain)[:, border:-border, border:-border].abs()
            energies.append(torch.nn.functional.avg_pool2d(response, size // 4).transpose(1, 2).flatten(1))
        blocks.append(torch.cat(energies, 1))
    return torch.cat(blocks)


def main() -> None:
    if len(sys.argv) > 1:
        with np.load(sys.argv[1], allow_pickle=False) as stored:
            images = stored["images"][:COUNT]
    else:
        images = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    sample, gist = images[:SAMPLE], Gist()
    difference = (gist.describe(sample) - describe_by_fft(sample)).abs().max()
    seconds: dict[str, list[float]] = {"ours": [], "torch.fft": []}
    for _ in range(REPETITIONS):
        for name, describe in (("ours", gist.describe), ("torch.fft", describe_by_fft)):
            start = time.perf_counter()
            describe(sample)
            seconds[name].append(time.perf_counter() - start)
    print(f"{SAMPLE} images, {torch.get_num_threads()} threads, largest difference {difference:.1e}")
    for name, each in seconds.items():
        print(f"  {name:10} {np.median(each):6.2f} s (min {min(each):.2f}, max {max(each):.2f})")
    ratios = np.array(seconds["torch.fft"]) / np.array(seconds["ours"])
    print(f"  ours is {np.median(ratios):.2f} times as fast (min {ratios.min():.2f}, max {ratios.max():.2f})")
    start = time.perf_counter()
    gist.describe(images)
    print(f"{len(images)} images: {time.perf_counter() - start:.1f} s (bar: {BAR_SECONDS} s for {COUNT})")


if __name__ == "__main__":
    main()
