"""Reading and replacing a layer's output, with the model left exactly as it was found.

Hooks live only inside the context managers of this module. The part of the network below the layer never
builds an autograd graph, so gradients cost one pass through the head and frozen parameters do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put the model in eval mode; every module's own training flag is restored, on error too."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, flag in flags.items():
            module.training = flag


@contextmanager
def hooked(layer: nn.Module, hook: Callable) -> Iterator[None]:
    """Attach a forward hook for the duration of the block."""
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def resolve_layer(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    """The module that a dotted name, or the module itself, stands for.

    Raises:
        ValueError: the model has no such layer; the message lists near names.
    """
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in modules.values()):
            raise ValueError(f"layer {type(layer).__name__} is not a part of the model")
        return layer
    if not layer or layer not in modules:
        from difflib import get_close_matches

        near = get_close_matches(layer, modules, n=3) or [name for name, _ in model.named_children()]
        raise ValueError(f"the model has no layer {layer!r}; did you mean one of {near}?")
    return modules[layer]


def _is_spatial(output: object) -> bool:
    return isinstance(output, Tensor) and output.dim() == 4 and output.shape[-2] * output.shape[-1] > 1


@torch.no_grad()
def last_spatial_layer(model: nn.Module, images: Tensor) -> nn.Module:
    """The module that finishes last among those with one (N, C, h, w) output larger than 1 x 1.

    A module that runs several times in a forward (a shared activation) cannot name one map and is left out;
    so are adaptive pooling layers, which change the geometry of the map.

    Raises:
        ValueError: there is no such module.
    """
    outputs: dict[nn.Module, list[bool]] = {}

    def record(module: nn.Module, _inputs: object, output: object) -> None:
        # Re-inserting keeps the dictionary in the order in which modules finish.
        outputs[module] = [*outputs.pop(module, []), _is_spatial(output)]

    candidates = [
        m for m in model.modules() if m is not model and not isinstance(m, nn.modules.pooling._AdaptiveAvgPoolNd)
    ]
    handles = [module.register_forward_hook(record) for module in candidates]
    try:
        model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    spatial = [module for module, calls in outputs.items() if calls == [True]]
    if not spatial:
        raise ValueError(
            "the model has no layer with a spatial output (N, C, h, w) larger than 1x1 for images of "
            f"{images.shape[-2]}x{images.shape[-1]}; choose larger images or name a `layer`"
        )
    return spatial[-1]


def _pick_branch(output: object, branch: int | None) -> Tensor:
    if isinstance(output, (list, tuple)):
        if branch is None or not -len(output) <= branch < len(output):
            raise ValueError(
                f"the layer returns {len(output)} tensors; choose one with branch=0..{len(output) - 1}"
                + (f", got branch={branch}" if branch is not None else "")
            )
        output = output[branch]
    elif branch is not None:
        raise ValueError(f"branch={branch} was given, but the layer returns a single {type(output).__name__}")
    if not isinstance(output, Tensor) or output.dim() != 4:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the layer's output must be a map (N, C, h, w), got {shape}")
    return output


def _with_branch(output: object, branch: int | None, replacement: Tensor) -> object:
    if branch is None:
        return replacement
    items = list(output)  # type: ignore[call-overload]
    items[branch] = replacement
    make = getattr(type(output), "_make", type(output))  # a named tuple takes its items one by one
    return make(items)


def run_with_layer(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    replace: Callable[[Tensor], Tensor] | None = None,
    branch: int | None = None,
    gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """One forward: the layer's output A, and the model's output.

    Args:
        model: the network, in eval mode.
        layer: a module of it that runs once in a forward.
        images: (N, 3, H, W).
        replace: what the rest of the network shall see in place of A; None leaves A as it is.
        branch: which tensor, where the layer returns a list of them (HRNet's stages).
        gradient: make A a leaf that requires a gradient and record the graph from there on.

    Returns:
        A (N, C, h, w), a copy no in-place operation can reach, and the output of the model.

    Raises:
        ValueError: the layer did not run, ran more than once, or returned no single map.
    """
    captured: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: object, output: object) -> object:
        if captured:
            raise ValueError("the layer runs more than once in a forward: choose one that runs once")
        activations = _pick_branch(output, branch).detach().clone()
        captured.append(activations)
        if gradient:
            # Grad mode stays on for the rest of this forward; the enclosing no_grad block restores it.
            torch.set_grad_enabled(True)
            activations.requires_grad_(True)
        elif replace is None:
            return None
        seen = activations if replace is None else replace(activations)
        # The clone lets an in-place ReLU follow a leaf that requires a gradient.
        return _with_branch(output, branch, seen.clone() if gradient else seen)

    with torch.no_grad(), hooked(layer, hook):
        output = model(images)
    if not captured:
        raise ValueError("the layer did not run in the model's forward: choose one that does")
    return captured[0], output
