"""Losses, miners and samplers of pytorch-metric-learning: their codes and labels, and batches of m items per class."""

import itertools
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deephash.data.batches import EpochBatches
from deephash.io.instantiation import build
from deephash.losses.batch import TrainingBatch
from deephash.losses.metric_learning import MetricLearning

losses = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")
samplers = pytest.importorskip("pytorch_metric_learning.samplers")

LABELS = torch.arange(12) % 4


def random_batch():
    codes = 1.8 * torch.rand(12, 8, generator=torch.Generator().manual_seed(0)) - 0.9
    return TrainingBatch(codes, codes, codes, torch.arange(12), labels=LABELS)


def test_triplets_of_directions_are_the_loop_s():
    batch = random_batch()
    directions = batch.codes / batch.codes.norm(dim=1, keepdim=True)
    costs = []
    for a, p, n in itertools.product(range(12), repeat=3):
        if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n]:
            near, far = (float((directions[a] - directions[other]).norm()) for other in (p, n))
            costs.append(max(near - far + 0.05, 0))
    broken = [cost for cost in costs if cost > 0]
    loss = MetricLearning(losses.TripletMarginLoss())(batch)
    assert float(loss) == pytest.approx(sum(broken) / len(broken), rel=1e-4)


def test_a_miner_chooses_what_the_criterion_sees():
    batch = random_batch()

    class FirstTriplet(torch.nn.Module):
        def forward(self, codes, labels):
            assert torch.equal(labels, LABELS)
            return torch.tensor([0]), torch.tensor([4]), torch.tensor([1])

    directions = batch.codes / batch.codes.norm(dim=1, keepdim=True)
    near, far = (float((directions[0] - directions[other]).norm()) for other in (4, 1))
    loss = MetricLearning(losses.TripletMarginLoss(margin=3), FirstTriplet())(batch)
    assert float(loss) == pytest.approx(near - far + 3, rel=1e-5)
    assert float(loss) != pytest.approx(float(MetricLearning(losses.TripletMarginLoss(margin=3))(batch)), rel=1e-3)


@pytest.mark.parametrize("miner", [None, miners.MultiSimilarityMiner(), miners.BatchHardMiner()])
@pytest.mark.parametrize(
    "criterion", [losses.ContrastiveLoss(), losses.MultiSimilarityLoss(), losses.NTXentLoss(), losses.SupConLoss()]
)
def test_its_losses_and_miners_pass_gradients(criterion, miner):
    batch = random_batch()
    batch.codes.requires_grad_()
    MetricLearning(criterion, miner)(batch).backward()
    assert bool(batch.codes.grad.isfinite().all())
    assert bool(batch.codes.grad.any())


def test_criterion_and_miner_are_chosen_on_the_command_line(compose_config):
    config = compose_config(
        "method=itq",
        "train=joint",
        "loss=metric_learning",
        "loss.metric_learning.criterion._target_=pytorch_metric_learning.losses.ContrastiveLoss",
        "+loss.metric_learning.criterion.neg_margin=0.5",
        "loss.metric_learning.miner={_target_: pytorch_metric_learning.miners.BatchHardMiner}",
        "train.order={_target_: pytorch_metric_learning.samplers.MPerClassSampler, _partial_: true, m: 4}",
    )
    settings = config.loss.metric_learning
    loss = build(OmegaConf.masked_copy(settings, [name for name in settings if name != "weight"]))
    assert isinstance(loss.criterion, losses.ContrastiveLoss)
    assert loss.criterion.neg_margin == 0.5
    assert isinstance(loss.miner, miners.BatchHardMiner)
    order = instantiate(config.train.order)
    rows = torch.tensor(list(order(labels=LABELS, length_before_new_iter=32)))
    assert torch.bincount(LABELS[rows]).tolist() == [8, 8, 8, 8]


def class_batches(seed=0, epoch=0, rank=0, processes=1):
    labels = torch.arange(96) % 6
    order = partial(samplers.MPerClassSampler, m=4, length_before_new_iter=96, batch_size=24)
    batches = EpochBatches(96, 24, seed, rank, processes, order, labels)
    batches.set_epoch(epoch)
    return labels, list(batches)


def test_a_sampler_gives_as_many_items_of_each_class():
    labels, batches = class_batches()
    assert len(batches) == 4
    for rows in batches:
        assert torch.bincount(labels[rows], minlength=6).tolist() == [4] * 6


def test_a_sampler_s_batches_follow_from_seed_and_epoch():
    torch.rand(7)
    first = torch.cat(class_batches()[1])
    assert torch.equal(first, torch.cat(class_batches()[1]))
    assert not torch.equal(first, torch.cat(class_batches(seed=1)[1]))
    assert not torch.equal(first, torch.cat(class_batches(epoch=1)[1]))
    shares = [class_batches(rank=rank, processes=2)[1] for rank in range(2)]
    assert torch.equal(torch.stack(shares[0], 0), first.view(4, 24)[:, ::2])
    assert torch.equal(torch.stack(shares[1], 0), first.view(4, 24)[:, 1::2])
