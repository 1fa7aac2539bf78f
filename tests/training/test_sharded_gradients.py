"""Gradients of two kinds of weights are clipped as one vector, as torch clips those of one kind."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from deephash.training.sharded_gradients import clip_norm, has_sharded


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def weights_with_gradients():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.zeros(shape, requires_grad=True) for shape in ((4, 3), (5,), (2, 2), (7,))]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)
    weights[3].grad = None
    return weights


def clip_values(weights, most):
    torch.nn.utils.clip_grad_value_(weights, most, foreach=False)  # As joint training does.


@pytest.mark.parametrize("most", [0.5, 100.0])
@pytest.mark.parametrize(
    ("clip", "clip_wholes"),
    [(clip_norm, torch.nn.utils.clip_grad_norm_), (clip_values, torch.nn.utils.clip_grad_value_)],
    ids=["norm", "value"],
)
def test_parts_and_wholes_are_clipped_as_torch_clips_wholes(one_process, most, clip, clip_wholes):
    expected, mixed = weights_with_gradients(), weights_with_gradients()
    for place in (0, 2):
        gradient = mixed[place].grad
        mixed[place] = distribute_tensor(mixed[place].detach(), one_process, [Shard(0)]).requires_grad_()
        mixed[place].grad = distribute_tensor(gradient, one_process, [Shard(0)])
    assert (has_sharded(expected), has_sharded(mixed)) == (False, True)
    clip_wholes(expected, most)
    clip(mixed, most)
    for one, other in zip(expected[:3], mixed[:3], strict=True):
        found = other.grad.full_tensor() if isinstance(other.grad, DTensor) else other.grad
        assert torch.allclose(found, one.grad)
    assert mixed[3].grad is None


def test_nothing_to_clip_is_no_error():
    clip_norm([torch.zeros(2, requires_grad=True)], 1.0)
