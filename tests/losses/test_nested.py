"""Nested losses: their prefixes, their weights, what is refused, and how a config chooses what is nested.

That the loss is the sum over cut codes is a check of the contract, for each loss.
"""

import pytest
import torch

from deephash.functional.separated_codewords import minimal_distance
from deephash.losses.ap import AP
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.losses.classification import Classification
from deephash.losses.csq import CSQ
from deephash.losses.dtsh import DTSH
from deephash.losses.nested import Nested
from deephash.training.building import build_loss
from deephash.validation import InvalidInputError

SIZES = {"code_length": 64, "projections": 64, "classes": 10, "items": 50, "input_dim": 6}


def batch_of(items=7, length=12, classes=3):
    generator = torch.Generator().manual_seed(0)
    codes = 1.8 * torch.rand(items, length, generator=generator, dtype=torch.float64) - 0.9
    labels = torch.arange(items) % classes
    return TrainingBatch(codes, codes, codes, torch.arange(items), labels, labels[:, None] == labels)


@pytest.mark.parametrize(
    ("length", "prefixes"),
    [(64, (16, 32, 64)), (48, (16, 32, 48)), (128, (16, 32, 64, 128)), (16, (16,)), (12, (12,)), (1, (1,))],
)
def test_prefixes_are_doublings_up_to_the_code_length(length, prefixes):
    assert Nested(length, lambda bits: AP()).prefixes == prefixes


def test_each_prefix_has_the_defaults_of_its_length():
    """DTSH's margin is an eighth of the code length."""
    batch = batch_of(length=12)
    expected = sum(DTSH(margin=bits / 8)(batch.first_bits(bits)) for bits in (4, 8, 12))
    assert torch.allclose(Nested(12, lambda bits: DTSH(), [4, 8, 12])(batch), expected)


def test_its_gradient_is_that_of_its_value():
    batch = batch_of()
    loss = Nested(12, lambda bits: CSQ(bits, 3), [4, 12], [0.5, 2.0])

    def value(codes):
        return loss(TrainingBatch(codes, codes, codes, batch.positions, batch.labels))

    assert torch.autograd.gradcheck(value, (batch.codes.requires_grad_(),))


def test_shared_centres_are_as_far_apart_as_those_of_one_length():
    """Rows of Hadamard matrices differ in half of their positions; so do centres made of parts of them."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        nested = Nested(64, lambda bits, generator=generator: CSQ(bits, 10, generator))
        for bits, loss in zip(nested.prefixes, nested.losses, strict=True):
            assert minimal_distance(loss.centres) == bits // 2
            assert torch.equal(loss.centres, nested.losses[-1].centres[:, :bits])


def test_weights_of_all_prefixes_are_restored_strictly():
    def build(seed):
        generator = torch.Generator().manual_seed(seed)
        return Nested(12, lambda bits: Classification(bits, 3, generator), [4, 12])

    first, second = build(1), build(2)
    batch = batch_of()
    assert not torch.equal(first.double()(batch), second.double()(batch))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch), second(batch))
    with pytest.raises(RuntimeError, match="Missing key"):
        second.load_state_dict(Nested(12, lambda bits: Classification(bits, 3), [12]).state_dict())


class FixedSize(Loss):
    """Has proxies of codes of one length, whichever it is built for."""

    def __init__(self):
        super().__init__()
        self.proxies = torch.nn.Parameter(torch.zeros(3, 12))

    def forward(self, batch):
        return (batch.codes @ self.proxies.T).square().mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prefixes": [4, 16]}, r"prefixes=\[4, 16\]; 16 exceeds the 12 bits of the codes: leave it out"),
        ({"prefixes": [4, 8]}, r"prefixes=\[4, 8\] trains no code of all 12 bits; add 12 as the last prefix"),
        ({"prefixes": []}, "trains no code of all 12 bits"),
        ({"prefixes": [8, 4, 12]}, "expected increasing numbers, each of them once"),
        ({"prefixes": [4, 4, 12]}, "expected increasing numbers, each of them once"),
        ({"prefixes": [0, 12]}, r"prefixes=\[0, 12\]; expected whole numbers of bits, at least 1"),
        ({"prefixes": [4.5, 12]}, "expected whole numbers of bits"),
        ({"prefixes": 12}, "prefixes=12; expected a list"),
        ({"prefixes": "12"}, "prefixes='12'; expected a list"),
        ({"prefixes": [4, 12], "weights": [1]}, r"weights=\[1\]; expected 2 numbers, one for each of the prefixes"),
        ({"prefixes": [4, 12], "weights": [1, 0]}, "weights=0; expected"),
        ({"prefixes": [4, 12], "weights": 2}, "weights=2; expected a list"),
        (
            {"of": lambda bits: CSQ(bits, 5), "prefixes": [2, 12]},
            "a prefix of 2 bits: 5 classes exceed the 4 codewords",
        ),
        (
            {"of": lambda bits: FixedSize(), "prefixes": [4, 12]},
            r"FixedSize cannot be nested: its weights proxies have",
        ),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        Nested(**{"code_length": 12, "of": lambda bits: AP(), **settings})


def test_a_config_nests_all_its_other_losses(compose_config):
    chosen = ("loss=[classification,greedy_penalty,nested]", "loss.nested.prefixes=[16,64]", "loss.nested.weight=2")
    config = compose_config("method=greedyhash", *chosen, "loss.classification.label_smoothing=0.1")
    summed = build_loss(config, SIZES)
    assert summed.weights == {"classification": 2.0, "greedy_penalty": 0.2}
    for loss in summed.losses.values():
        assert isinstance(loss, Nested)
        assert loss.prefixes == (16, 64)
    first, whole = summed.losses["classification"].losses
    assert (first.classifier.in_features, whole.classifier.in_features) == (16, 64)
    assert first.label_smoothing == whole.label_smoothing == 0.1
    assert summed.requires == {"labels", "one_view"}


def test_a_config_that_nests_nothing_is_refused(compose_config):
    with pytest.raises(InvalidInputError, match=r"there is none; name it too, such as loss=\[csq,nested\]"):
        build_loss(compose_config("method=csq", "loss=nested"), SIZES)


def test_an_inner_loss_is_refused_as_it_is_alone(compose_config):
    config = compose_config("method=csq", "loss=[csq,nested]")
    with pytest.raises(InvalidInputError, match="loss=csq learns from labels"):
        build_loss(config, {**SIZES, "classes": 0})


@pytest.mark.needs("pytorch_metric_learning")
def test_metric_learning_is_nested_unless_it_has_weights_of_one_size(compose_config):
    assert build_loss(compose_config("train=joint", "loss=[metric_learning,nested]"), SIZES)
    proxies = ("_target_=pytorch_metric_learning.losses.ProxyAnchorLoss", "num_classes=10", "embedding_size=64")
    chosen = [f"++loss.metric_learning.criterion.{setting}" for setting in proxies]
    config = compose_config("train=joint", "loss=[metric_learning,nested]", *chosen)
    with pytest.raises(InvalidInputError, match=r"MetricLearning cannot be nested: its weights criterion\.proxies"):
        build_loss(config, SIZES)
