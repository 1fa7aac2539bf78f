"""DHD: deep hash distillation (Jang, Gu, Ko, Kang & Cho, ECCV 2022)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive

# Shorter codes are not scaled to unit length, because their gradients would be very large.
SHORTEST = 1e-3


def cosines_of_rows(first: Tensor, second: Tensor) -> Tensor:
    """Cosine between the rows of the same number, (n, l) and (n, l) → (n,)."""
    return (functional.normalize(first, eps=SHORTEST) * functional.normalize(second, eps=SHORTEST)).sum(1)


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos between the two codes of each item, averaged over items; no gradient reaches the teacher.

    Args:
        student: floating (n, l), codes of strong changes.
        teacher: (n, l), codes of weak changes of the same items.
    """
    return (1 - cosines_of_rows(student, teacher.detach())).mean()


def proxy_cross_entropy(codes: Tensor, proxies: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the classes of an item with softmax(cos(u, p) / τ) over the proxies p.

    Args:
        codes: floating (n, l).
        proxies: (c, l), one per class.
        labels: class indices int64 (n,), or indicator bool (n, c); several classes of an item have equal shares.
        temperature: τ.

    Returns:
        A scalar, the mean over items with labels; 0 if there are none.
    """
    cosines = functional.normalize(codes, eps=SHORTEST) @ functional.normalize(proxies, eps=SHORTEST).T
    targets = (functional.one_hot(labels, len(proxies)) if labels.ndim == 1 else labels).to(cosines)
    shares = targets / targets.sum(1, keepdim=True).clamp_min(1)
    return -(shares * (cosines / temperature).log_softmax(1)).sum() / targets.any(1).sum().clamp_min(1)


def likelihood_of_bits(codes: Tensor, deviation: float) -> Tensor:
    """Binary cross-entropy of each bit with its sign, by Gaussian estimators at +1 and -1.

    The estimator at a corner c = ±1 gives g(u) = exp(-(u - c)² / 2σ²) as the likelihood of the bit c. The target is 1
    at the nearer corner and 0 at the other, so the cost of a bit is (|u| - 1)² / 2σ² - log(1 - exp(-(|u| + 1)² / 2σ²)).

    Args:
        codes: floating (n, l) in [-1, 1].
        deviation: σ.

    Returns:
        (n, l), at least 0.
    """
    size, scale = codes.abs(), 2 * deviation**2
    near, far = (size - 1).square() / scale, (size + 1).square() / scale
    return near - torch.log(-torch.expm1(-far))


@final
class DHD(Loss):
    """Deep hash distillation: codes of strongly changed items follow those of weakly changed ones, the teachers.

    Strong augmentation makes bits flip at random, which disturbs a loss that trains codes by labels. So only the codes
    of weak changes learn from labels, as neighbours of a learnt proxy of their class, and move towards hard bits. The
    codes of strong changes learn the direction of the teacher's code, which does not move towards them.
    `augmentation=weak_and_strong` makes both groups; with any other augmentation, they are changed equally.
    Known weakness: the proxies are not bits, so two classes may have proxies with the same signs. The method gains from
    changes that do not alter the class: strong noise on features helps less than changes of images.

    Shape:
        codes (n, l) of the weak changes, second codes (n, l) of the strong ones, labels (n,) or (n, c) → scalar.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the initial proxies.
        temperature: τ of the softmax over proxies; 0.2 as in the authors' code.
        distillation_weight: λ1; 0.1 as in the paper.
        quantization_weight: λ2; 0.1 as in the paper.
        deviation: σ of the Gaussian estimators; 0.5 as in the paper. Here σ is a plain number; unlike the layer
            normalisation of the paper's hash layer, the initial scale of projections is that of `Quantizer.calibrate`.

    Raises:
        InvalidInputError: temperature or deviation is not above 0, or a weight is below 0.

    References:
        Jang, Gu, Ko, Kang & Cho, "Deep hash distillation for image retrieval", ECCV 2022, Section 3; settings as in the
        authors' code.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels", "second_codes"})
    stops_gradients: ClassVar[bool] = True

    def __init__(
        self,
        code_length: int,
        classes: int,
        generator: torch.Generator | None = None,
        temperature: float = 0.2,
        distillation_weight: float = 0.1,
        quantization_weight: float = 0.1,
        deviation: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        check_positive(deviation, "deviation")
        check_weight(distillation_weight, "distillation_weight")
        check_weight(quantization_weight, "quantization_weight")
        self.temperature, self.deviation = temperature, deviation
        self.distillation_weight, self.quantization_weight = distillation_weight, quantization_weight
        # Glorot's uniform distribution. Only the directions matter.
        bound = (6 / (code_length + classes)) ** 0.5
        generator = generator or torch.Generator().manual_seed(0)
        self.proxies = nn.Parameter(bound * (2 * torch.rand(classes, code_length, generator=generator) - 1))

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Cross-entropy of the proxies, the weighted distillation, and the weighted likelihood of bits."""
        assert batch.labels is not None
        assert batch.second_codes is not None
        teacher = batch.codes
        classification = proxy_cross_entropy(teacher, self.proxies.to(teacher), batch.labels, self.temperature)
        distilled = distillation(batch.second_codes, teacher)
        quantisation = likelihood_of_bits(teacher, self.deviation).mean()
        return classification + self.distillation_weight * distilled + self.quantization_weight * quantisation
