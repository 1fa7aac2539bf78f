"""Linear discriminant analysis of a stream: each bit is the more probable bit of the codeword of an item's class."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.running_moments import check_half_life, decay_weights
from deephash.projections.online.base import OnlineProjection, count_classes, make_indicators
from deephash.projections.online.hcoh import check_codewords, codebook_order, draw_codebook
from deephash.validation import InvalidInputError, check_positive


def update_class_moments(
    weights: Tensor, means: Tensor, scatter: Tensor, features: Tensor, shares: Tensor, remains: float
) -> None:
    """Add items to the weighted means of their classes and to the scatter within classes, in place.

    The scatter of each class about its mean in the batch is added, and a term for the difference between this mean and
    the mean of earlier items.
    Except for rounding, the result does not depend on the batches.

    Args:
        weights: weight of each class, float64 (c,).
        means: mean of each class, float64 (c, d).
        scatter: sum over classes of Σ w (x - μ_c)(x - μ_c)ᵀ, float64 (d, d).
        features: floating (n, d).
        shares: weight of each item in each class, float64 (n, c).
        remains: factor for the weight of earlier items.
    """
    features = features.double()
    weights.mul_(remains)
    added = shares.sum(0)
    batch_means = shares.T @ features / added.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    steps = torch.where(added[:, None] > 0, batch_means - means, 0.0)
    items, classes = torch.nonzero(shares, as_tuple=True)
    centred = (features[items] - batch_means[classes]) * shares[items, classes].sqrt()[:, None]
    total = (weights + added).clamp_min(torch.finfo(torch.float64).tiny)
    rows = torch.cat([centred, steps * (weights * added / total).sqrt()[:, None]])
    scatter.addmm_(rows.T, rows, beta=remains)
    means.add_(steps * (added / total)[:, None])
    weights.add_(added)


def discriminants(
    weights: Tensor, means: Tensor, scatter: Tensor, regularisation: float, scarcity: float
) -> tuple[Tensor, Tensor]:
    """Compute the linear functions whose values are log-likelihoods of the classes, up to a common term.

    Args:
        weights: weight of each class, float64 (c,), some above 0.
        means: float64 (c, d).
        scatter: scatter within classes, float64 (d, d).
        regularisation: ridge on the covariance Σ, in units of the mean variance.
        scarcity: further ridge in the same units, multiplied by d / Σ w, for few items.

    Returns:
        directions Σ⁻¹(μ_c - μ), float64 (d, c), and offsets, float64 (c,), -∞ for classes without weight. μ is the mean
        of the classes' means.
    """
    known, d = weights > 0, len(scatter)
    covariance = scatter / weights.sum()
    variance = covariance.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    covariance.diagonal().add_((regularisation + scarcity * d / weights.sum()) * variance)
    centre = means[known].mean(0)
    centred = torch.where(known[:, None], means - centre, 0.0)
    directions = torch.cholesky_solve(centred.T, torch.linalg.cholesky(covariance))
    offsets = -0.5 * (centred * directions.T).sum(1) - centre @ directions
    return directions, offsets.masked_fill(~known, -torch.inf)


@final
class StreamingLDA(OnlineProjection):
    """Linear discriminant analysis of a stream: learns class posteriors, and from them bits of codewords.

    Each class has a codeword, a row of a Hadamard codebook, as in HCOH. Each projection is the expected bit of the
    codeword of an item's class, Σ_c p(c|x) b_c, and its sign is the more probable bit. The codewords never change, so
    codes of old items keep their meaning, even if they are never re-encoded.

    The means of the classes and the scatter within them determine the posterior by one linear system per batch, without
    a step size. All classes count the same, however often each arrived. With `prior_half_life`, their prior
    probabilities follow the recent labels: with recurring concepts, items are assigned to the classes that currently
    arrive. Old items should not be re-encoded with the current priors: choose `reencoding=never` with this setting, and
    leave it None with other policies.
    Known weakness: the posterior assumes classes of one covariance. Logits are linear in the features; a kernel map
    (`encoder=random_fourier`) makes them more accurate.

    Shape:
        features (n, d) → projections (n, k), from -1 to 1.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        regularisation: ridge on the covariance within classes, in units of the mean variance.
        scarcity: further ridge in the same units, multiplied by d and divided by the number of items, because with few
            items the covariance is uncertain.
        likelihood_power: power of the likelihoods in the posterior. A power below 1 compensates for overconfidence,
            which comes from estimating d² covariances.
        half_life: number of items after which an item counts half in means and scatter; None weighs all items equally.
        prior_half_life: number of items after which a label counts half in the priors; None gives all known classes the
            same prior.
        order: order of the Hadamard matrix, a power of two, and the maximum number of classes; None for the smallest
            that is at least k and 16.

    Attributes:
        codewords: float32 (order, k), ±1, one per class.

    Raises:
        InvalidInputError: a number is not above 0, or order is not a power of two; in `fit`, there are more classes
            than codewords, or no item of the first batch has a label.

    References:
        Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 1936; Dietterich & Bakiri,
        "Solving multiclass learning problems via error-correcting output codes", JAIR 1995; Lin, Ji, Liu & Liu,
        "Supervised online hashing via Hadamard codebook learning", ACM MM 2018, for the codebook.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    in_given_order: ClassVar[bool] = True

    codewords: Tensor
    weights: Tensor
    means: Tensor
    scatter: Tensor
    recent: Tensor
    offsets: Tensor
    log_priors: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        regularisation: float = 0.3,
        scarcity: float = 1.0,
        likelihood_power: float = 0.5,
        half_life: float | None = 4000,
        prior_half_life: float | None = None,
        order: int | None = None,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_positive(regularisation, "regularisation")
        check_positive(scarcity, "scarcity")
        check_positive(likelihood_power, "likelihood_power")
        check_half_life(half_life)
        check_half_life(prior_half_life)
        classes = codebook_order(output_dim, order)
        self.regularisation = regularisation
        self.scarcity = scarcity
        self.likelihood_power = likelihood_power
        self.half_life = half_life
        self.prior_half_life = prior_half_life
        self.order = order
        self.register_buffer("codewords", torch.zeros(classes, output_dim))
        self.register_buffer("weights", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(classes, input_dim, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(input_dim, input_dim, dtype=torch.float64))
        self.register_buffer("recent", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("offsets", torch.zeros(classes))
        self.register_buffer("log_priors", torch.zeros(classes))
        self.directions = nn.Parameter(torch.zeros(input_dim, classes))

    def forward(self, features: Tensor) -> Tensor:
        """Expected bits of the codewords of the items' classes."""
        likelihoods = features.to(self.directions.dtype) @ self.directions + self.offsets
        return torch.softmax(self.likelihood_power * likelihoods + self.log_priors, 1) @ self.codewords

    def function_weights(self) -> Tensor:
        """Return directions, offsets and priors of the classes, on which every projection depends."""
        learnt = torch.cat([self.directions.detach().flatten(), self.offsets, self.log_priors])
        return learnt[:, None].expand(-1, self.output_dim)

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.codewords.copy_(draw_codebook(len(self.codewords), self.output_dim, generator))
        for statistic in (self.weights, self.means, self.scatter, self.recent, self.log_priors):
            statistic.zero_()

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        check_codewords(count_classes(labels), len(self.codewords))
        indicators = make_indicators(labels, len(self.codewords)).double().to(features.device)
        shares = indicators / indicators.sum(1, keepdim=True).clamp_min(1)
        if not bool(self.weights.any() | shares.any()):
            raise InvalidInputError("no item of the first batch has a label; begin with a batch that has some.")
        ages, remains = decay_weights(len(features), self.half_life)
        weighted = shares * ages.to(shares)[:, None]
        update_class_moments(self.weights, self.means, self.scatter, features, weighted, remains)
        if self.prior_half_life is not None:
            ages, remains = decay_weights(len(features), self.prior_half_life)
            self.recent.mul_(remains).add_(ages.to(shares) @ shares)
            # One more item of each known class, so that none is impossible.
            smoothed = (self.recent + 1) * (self.weights > 0)
            self.log_priors.copy_((smoothed + (self.weights == 0)).log())
        directions, offsets = discriminants(self.weights, self.means, self.scatter, self.regularisation, self.scarcity)
        self.directions.copy_(directions)
        self.offsets.copy_(offsets)
