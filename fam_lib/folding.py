"""Batch normalisation folded into the convolutions before it, on a private copy of a network in eval mode.

A convolution followed by BN is one convolution, with W' = W gamma / sqrt(var + eps) and
b' = (b - mean) gamma / sqrt(var + eps) + beta. Which convolution feeds which BN is watched in a forward, not
read from the architecture, and the copy must give the network's own outputs before it is used.
"""

from __future__ import annotations

import copy
import weakref
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fam_lib.capture import hooked

# Largest change of an output, as a share of the largest output; float32 rounding stays near 1e-6.
TOLERANCE = 1e-4


@torch.no_grad()
def fold_batch_norm(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy of the network without the BN layers that follow a convolution; parameters are shared.

    On a CPU the folded convolutions are in channels_last layout, in which they run faster.

    Args:
        model: network in eval mode, images -> (N, D); it stays as it is.
        images: (N, 3, H, W); the first one is used to watch the network and to compare the copy with it.

    Returns:
        The copy, or the model itself where nothing can be folded or the copy's outputs differ from its own.
    """
    if not any(_is_foldable_norm(module) for module in model.modules()):
        return model
    pairs, expected = _watch(model, images[:1])
    names = {module: name for name, module in model.named_modules()}
    twins: dict[nn.Module, nn.Module] = {}
    copied = _copy_of_tree(model, twins)
    for convolution, norm in pairs:
        _fuse(twins[convolution], norm)
        # timm's BatchNormAct2d holds the activation that follows it.
        copied.set_submodule(names[norm], getattr(twins[norm], "act", nn.Identity()))
    try:
        error = (copied(images[:1]) - expected).abs().max()
    except Exception:  # a forward that reads the attributes of its BN cannot do without it
        return model
    return copied if error <= TOLERANCE * expected.abs().max() else model


def _is_foldable_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


def _is_foldable_convolution(module: nn.Module) -> bool:
    weight = module._parameters.get("weight") if isinstance(module, nn.Conv2d) else None  # none if parametrised
    return weight is not None and weight.dtype in (torch.float32, torch.float64)


def _watch(model: nn.Module, images: Tensor) -> tuple[list[tuple[nn.Module, nn.Module]], Tensor]:
    """Convolutions and the BN each of them feeds, where both run once in a forward; and the forward's output."""
    made: dict[int, tuple[nn.Module, weakref.ref]] = {}
    runs: dict[nn.Module, int] = {}
    found: list[tuple[nn.Module, nn.Module]] = []

    def note_output(module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        made[id(output)] = (module, weakref.ref(output))  # ids are given anew, so the tensor itself is compared

    def note_input(module: nn.Module, inputs: tuple, _output: Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        convolution, output = made.get(id(inputs[0]), (None, lambda: None))
        if output() is inputs[0]:
            found.append((convolution, module))

    with ExitStack() as hooks:
        for module in model.modules():
            if _is_foldable_convolution(module):
                hooks.enter_context(hooked(module, note_output))
            elif _is_foldable_norm(module):
                hooks.enter_context(hooked(module, note_input))
        output = model(images)
    return [pair for pair in found if all(runs[module] == 1 for module in pair)], output


def _copy_of_tree(module: nn.Module, twins: dict[nn.Module, nn.Module]) -> nn.Module:
    """The same modules as new objects over the same parameters and buffers; `twins` gathers who became who."""
    if module not in twins:
        twin = twins[module] = copy.copy(module)
        # Into __dict__, past __setattr__: a wrapper's may pass the write on to the network that it wraps.
        twin.__dict__["_parameters"], twin.__dict__["_buffers"] = dict(module._parameters), dict(module._buffers)
        twin.__dict__["_modules"] = {
            name: None if child is None else _copy_of_tree(child, twins) for name, child in module._modules.items()
        }
    return twins[module]


def _fuse(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    if weight.device.type == "cpu":
        weight = nn.Parameter(weight.to(memory_format=torch.channels_last))
    convolution.weight, convolution.bias = weight, bias
