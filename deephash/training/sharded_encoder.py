"""Training with an encoder whose weights, gradients and optimiser state are sharded over processes (FSDP)."""

from typing import Any, cast

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from deephash.hashers.hasher_views import get_views
from deephash.training.constraints import gather_whole
from deephash.training.joint_module import JointModule
from deephash.validation import InvalidInputError


def shard_weights(encoder: nn.Module) -> None:
    """Shard an encoder's weights over the processes.

    An element of an `nn.Sequential` whose weights include a matrix is gathered only while it computes. The other
    weights are gathered while the encoder computes.
    """
    from torch.distributed.fsdp import fully_shard

    stages = [stage for module in encoder.modules() if isinstance(module, nn.Sequential) for stage in module]
    for stage in reversed(stages):  # Inner stages first.
        if any(weight.ndim > 1 for weight in stage.parameters()):
            fully_shard(stage)
    fully_shard(encoder)


class ShardedEncoder(DDPStrategy):
    """Lightning's DDP, except that the encoders of joint training are fully sharded (FSDP2).

    Each process holds a share of an encoder's weights, gradients and optimiser state, and all weights of the stage that
    is being computed. During validation, each process holds a complete copy of the weights. Checkpoints and the saved
    hasher contain complete weights, as with other trainers.

    References:
        Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", VLDB 2023.
    """

    def _setup_model(self, model: nn.Module) -> Any:
        if not isinstance(model, JointModule):
            return super()._setup_model(model)
        if any(isinstance(callback, WeightAveraging) for callback in cast(Any, model.trainer).callbacks):
            raise InvalidInputError(
                "trainer=fsdp cannot average weights, because the copy is not sharded; remove WeightAveraging from "
                "trainer.callbacks, or choose trainer=ddp."
            )
        sharded = set()
        for part in get_views(model.hasher).values():
            if any(weight.requires_grad for weight in part.encoder.parameters()):
                shard_weights(part.encoder)
                sharded |= {id(weight) for weight in part.encoder.parameters()}
        names = [name for name, weight in model.named_parameters() if id(weight) in sharded]
        if not any(weight.requires_grad and id(weight) not in sharded for weight in model.parameters()):
            return model
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)  # type: ignore[no-untyped-call]
        return super()._setup_model(model)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return complete weights."""
        return {name: gather_whole(value) for name, value in super().lightning_module_state_dict().items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return complete moments of the gradients."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        moments = {
            key: {name: gather_whole(value) for name, value in entry.items()} for key, entry in state["state"].items()
        }
        return {**state, "state": moments}

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Load complete moments, and shard them like their weights."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            moments = {
                key: {name: shard_like(weights[int(key)], value) for name, value in entry.items()}
                for key, entry in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})


def shard_like(weight: Tensor, value: Any) -> Any:
    """Shard a complete tensor of a weight's shape like the weight; return other values unchanged."""
    if isinstance(weight, DTensor) and isinstance(value, Tensor) and value.shape == weight.shape:
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
    return value
