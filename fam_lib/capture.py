"""Reading and replacing a layer's output, with the model left exactly as it was found.

Hooks live only inside the context managers of this module. The part of the network below the layer never
builds an autograd graph, so gradients cost one pass through the head and frozen parameters do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from fam_lib.precision import float32_as


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put the model in eval mode, with float32 as IEEE has it; both are as before afterwards, on error too.

    Every module's own training flag is restored.
    """
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with float32_as("ieee"):
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


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """The dotted name of a module of the model; the model itself has the empty name."""
    return next(name for name, module in model.named_modules() if module is layer)


def _is_spatial(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[-2] * shape[-1] > 1


def _is_tokens(shape: tuple[int, ...]) -> bool:
    # Of one image: (1, T, D), or (T, 1, D) where the sequence comes first. Channel attention has (1, 1, C).
    return len(shape) == 3 and sum(side > 1 for side in shape) > 1


def _has_proportions(map_size: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a stride leads from the image to the map, up to one cell: h = H / stride and w = W / stride."""
    (h, w), (height, width) = map_size, image_size
    return (h - 1) / height <= (w + 1) / width and (w - 1) / width <= (h + 1) / height


def _output_shapes(model: nn.Module, images: Tensor) -> dict[nn.Module, list[tuple[int, ...]]]:
    """The shapes of each module's outputs, () for one that is no tensor, in the order in which modules finish."""
    shapes: dict[nn.Module, list[tuple[int, ...]]] = {}

    def record(module: nn.Module, _inputs: object, output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        shapes[module] = [*shapes.pop(module, []), shape]  # re-inserting keeps the order

    with ExitStack() as hooks:
        for module in model.modules():
            if module is not model and not isinstance(module, nn.modules.pooling._AdaptiveAvgPoolNd):
                hooks.enter_context(hooked(module, record))
        model(images)
    return shapes


@torch.no_grad()
def last_spatial_layer(model: nn.Module, images: Tensor) -> nn.Module:
    """The module that finishes last among those with one (N, C, h, w) output larger than 1 x 1.

    A module that runs several times in a forward (a shared activation) cannot name one map and is left out;
    so are adaptive pooling layers, which change the geometry of the map.

    Raises:
        ValueError: there is no such module; its output has not the images' proportions, or tokens (N, T, D) follow
            it, as in a transformer.
    """
    shapes = _output_shapes(model, images[:1])
    finished = list(shapes)
    spatial = [module for module in finished if len(shapes[module]) == 1 and _is_spatial(shapes[module][0])]
    size = height, width = tuple(images.shape[-2:])
    if not spatial:
        raise ValueError(
            "the model has no layer with a spatial output (N, C, h, w) larger than 1x1 for images of "
            f"{height}x{width}; choose larger images or name a `layer`"
        )
    layer = spatial[-1]
    h, w = shapes[layer][0][-2:]
    later = [shape for module in finished[finished.index(layer) + 1 :] for shape in shapes[module]]
    if not _has_proportions((h, w), size) or any(map(_is_tokens, later)):
        raise ValueError(
            f"the last output of four dimensions, {h}x{w} of {layer_name(model, layer)!r} for images of "
            f"{height}x{width}, is hardly the map to explain: it has other proportions than the images, or tokens "
            "follow it, as in a transformer, which is not supported. If the head only reads positions one by one, name "
            "the `layer` of the map (N, C, h, w)"
        )
    return layer


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
