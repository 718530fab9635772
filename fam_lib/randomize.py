"""Networks made to forget, from the output down to the input, for the sanity check of Section 4.3.

Four choices decide what such a check means, and they are fixed here:

- **order**: the order in which layers first run in a forward, reversed; not the order of registration, which
  in a ResNet puts a block's shortcut after its last convolution;
- **seeds**: every layer draws from a seed of its own, made from ``seed`` and the layer's name, so two layers
  of one shape never get the same numbers and a layer gets the same numbers in every test;
- **initialiser**: He's, which keeps the signal's scale through the layers (:func:`he_initialise`);
- **batch norm**: weight 1, bias 0, and running statistics either reset (mean 0, variance 1) or, with
  ``calibration`` images, estimated anew, as they would be in a network that was built like this. Statistics
  of the trained network are never kept in a randomised layer.

Layers that the forward does not run (the classifier of a network that returns features) are left alone.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from fam_lib.capture import evaluating, resolve_layer

Scheme = Literal["cascade", "independent"]


@dataclass(frozen=True)
class Group:
    """Layers that are randomised in one step.

    Attributes:
        name: dotted prefix of the layer of the group that runs first: "everything down to here".
        layers: dotted names, in execution order.
    """

    name: str
    layers: tuple[str, ...]


def he_initialise(module: nn.Module) -> None:
    """He's normal weights (fan-in, ReLU's gain), zero biases; norms 1 and 0; other layers reset themselves.

    torch's own default for convolutions shrinks the signal in every layer: in a fully random
    EfficientNet-Lite0 with reset batch norms the feature's norm falls to 1e-7, below the epsilon of a cosine.

    Raises:
        TypeError: a layer of another kind with parameters of its own and no ``reset_parameters``.
    """
    if isinstance(module, _ConvNd | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif hasattr(module, "reset_parameters"):
        module.reset_parameters()
    else:
        raise TypeError(
            f"layer of type {type(module).__name__} has parameters but no reset_parameters(): "
            "give it this method, which fills its own parameters anew"
        )


def execution_order(model: nn.Module, images: Tensor, until: str | None = None) -> tuple[str, ...]:
    """Names of the layers that hold parameters of their own, in the order in which they first run.

    Args:
        model: any network; it is run in eval mode and left as it was.
        images: (N, 3, H, W), of which one is used.
        until: dotted name of a layer: only what has begun when it has run for the first time; None: all.

    Raises:
        ValueError: no layer with parameters runs, or `until` does not.
    """
    names = {module: name for name, module in model.named_modules() if any(True for _ in module.parameters(False))}
    order: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, _inputs, name=name: order.setdefault(name))
        for module, name in names.items()
    ]
    reached: list[tuple[str, ...]] = []
    if until is not None:
        handles.append(resolve_layer(model, until).register_forward_hook(lambda *_: reached.append(tuple(order))))
    try:
        with evaluating(model), torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not order:
        raise ValueError("the model has no layer with parameters that its forward runs: nothing to randomise")
    if until is None:
        return tuple(order)
    if not reached:
        raise ValueError(f"the layer {until!r} does not run in the model's forward: choose one that does")
    return reached[0]


def _split(layers: Sequence[str], depth: int) -> list[Group]:
    """Neighbouring layers that share the first ``depth`` parts of their names form a group."""
    parts = groupby(layers, key=lambda name: ".".join(name.split(".")[:depth]))
    return [Group(prefix, tuple(members)) for prefix, members in parts]


def layer_groups(layers: Sequence[str], max_steps: int) -> tuple[Group, ...]:
    """Cut the layers of a network into at most ``max_steps`` groups of neighbours.

    The names are cut at the smallest depth that gives enough groups, none with more than twice its share of
    the layers (blocks of a ResNet, stages of an EfficientNet); then the two neighbours with the fewest layers
    are joined until there are ``max_steps``. The group nearest to the output is joined last: behind the
    explained layer it is the step in which only the weights alpha can change, and not the activations.

    Args:
        layers: names in execution order.
        max_steps: 1 or more.

    Returns:
        Groups in execution order; each layer is in exactly one.

    Raises:
        ValueError: ``max_steps`` is below 1.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be 1 or more, got {max_steps}")
    deepest = max(name.count(".") + 1 for name in layers)
    cuts = (_split(layers, depth) for depth in range(1, deepest + 1))
    largest = 2 * len(layers) / max_steps
    even = (cut for cut in cuts if len(cut) >= max_steps and max(len(g.layers) for g in cut) <= largest)
    groups = next(even, None) or _split(layers, deepest)
    while len(groups) > max_steps:
        sizes = [len(a.layers) + len(b.layers) for a, b in pairwise(groups[:-1] if len(groups) > 2 else groups)]
        i = sizes.index(min(sizes))
        groups[i : i + 2] = [Group(groups[i].name, groups[i].layers + groups[i + 1].layers)]
    return tuple(groups)


def layer_seed(seed: int, name: str) -> int:
    """A seed for one layer, in [0, 2^63), the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@torch.no_grad()
def randomise_layer(module: nn.Module, seed: int) -> None:
    """Fill a layer's own parameters anew, in place; running statistics become mean 0, variance 1.

    The numbers are drawn on the CPU, so they are the same whatever device the network is on, and the global
    random state is left as it was. Sub-modules keep theirs: each is a layer of its own.
    """
    fresh = copy.deepcopy(module).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        he_initialise(fresh)
    for old, new in zip(module.parameters(False), fresh.parameters(False), strict=True):
        old.copy_(new)
    if isinstance(module, _NormBase):
        module.reset_running_stats()


@torch.no_grad()
def estimate_statistics(model: nn.Module, layers: Sequence[str], images: Tensor) -> None:
    """Set the running statistics of the batch-norm layers among ``layers`` to those of ``images``, in place.

    Each estimate sees the layers before it normalised by this batch's statistics, as in training. Batch
    norms outside ``layers`` and dropout stay in eval mode.

    Raises:
        ValueError: fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"calibration needs at least 2 images to estimate from, got {len(images)}")
    chosen = [m for m in (model.get_submodule(name) for name in layers) if isinstance(m, _BatchNorm)]
    momenta = [module.momentum for module in chosen]
    with evaluating(model):
        for module in chosen:
            module.reset_running_stats()
            module.momentum = None  # cumulative: after one batch, exactly that batch's statistics
            module.train()
        try:
            model(images)
        finally:
            for module, momentum in zip(chosen, momenta, strict=True):
                module.momentum = momentum


def randomised(
    model: nn.Module,
    groups: Sequence[Group],
    scheme: Scheme = "cascade",
    seed: int = 0,
    *,
    calibration: Tensor | None = None,
) -> Iterator[tuple[str, nn.Module]]:
    """Networks that forgot: (name of the group, copy of the model), from the output down to the input.

    Every copy is independent of the others and of ``model``, which is never written to. The unchanged model
    is not among the steps, so that its similarity with itself cannot slip into an average. A layer gets the
    same numbers in both schemes.

    Args:
        model: any network.
        groups: what is randomised in one step, in execution order, as :func:`layer_groups` gives it.
        scheme: "cascade" (Adebayo et al., 2018): the group and all that run after it are random;
            "independent": the group alone is.
        seed: the seed from which each layer's own is made.
        calibration: (M, 3, H, W) images from which randomised batch norms estimate their statistics; None
            resets them to mean 0 and variance 1.

    Yields:
        The name of the step's group, and the copy.

    Raises:
        ValueError: unknown scheme, or fewer than two calibration images.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme must be one of {get_args(Scheme)}, got {scheme!r}")
    layers: tuple[str, ...] = ()
    for group in reversed(groups):
        layers = group.layers + (layers if scheme == "cascade" else ())
        copied = copy.deepcopy(model)
        for name in layers:
            randomise_layer(copied.get_submodule(name), layer_seed(seed, name))
        if calibration is not None:
            estimate_statistics(copied, layers, calibration)
        yield group.name, copied
