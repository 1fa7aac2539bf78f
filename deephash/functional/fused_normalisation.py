"""Batch normalisation merged into the convolutions before it, for faster evaluation."""

import copy
import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_normalisation(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode whose convolutions include the batch normalisation after them.

    A normalisation with fixed statistics is a linear map of each channel, so the convolution can apply it. A pair is
    merged if both are neighbours in one module, which must apply them one after the other, as the networks of timm and
    torchvision do. The result equals that of the network up to rounding.

    Args:
        network: a network with fixed statistics; not changed.
    """
    fused = copy.deepcopy(network).eval()
    for module in fused.modules():
        children = list(module.named_children())
        for (name, layer), (next_name, following) in itertools.pairwise(children):
            if (
                isinstance(layer, nn.Conv2d)
                and isinstance(following, nn.BatchNorm2d)
                and layer.out_channels == following.num_features
            ):
                setattr(module, name, fuse_conv_bn_eval(layer, following))
                # timm's layer of normalisation includes the activation.
                activation = getattr(following, "act", None)
                setattr(module, next_name, nn.Identity() if activation is None else activation)
    return fused
