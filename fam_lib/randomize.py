"""The sanity check of Section 4.3: randomise a network from its output down to its input and compare maps.

An explanation that stays the same while the network under it is replaced by noise does not explain the
network. Four choices decide what such a test means, and they are fixed here:

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from fam_lib import store
from fam_lib.capture import evaluating
from fam_lib.explain import Explainer, find_method, is_flat
from fam_lib.faithfulness import summarise
from fam_lib.masking import min_max, upsample

Initialiser = Callable[[nn.Module], None]

SSIM_WINDOW = 7  # pixels, the uniform window of scikit-image's default


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
    """Default initialiser: He's normal weights (fan-in, ReLU's gain), zero biases; norms 1 and 0.

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
            "pass `initialise`, a function that fills the parameters of the module it is given"
        )


def execution_order(model: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Names of the layers that hold parameters of their own, in the order in which they first run.

    Args:
        model: any network; it is run in eval mode and left as it was.
        images: (N, 3, H, W), of which one is used.

    Raises:
        ValueError: no layer with parameters runs.
    """
    names = {module: name for name, module in model.named_modules() if any(True for _ in module.parameters(False))}
    order: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, _inputs, name=name: order.setdefault(name))
        for module, name in names.items()
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not order:
        raise ValueError("the model has no layer with parameters that its forward runs: nothing to randomise")
    return tuple(order)


def _split(layers: Sequence[str], depth: int) -> list[Group]:
    """Neighbouring layers that share the first ``depth`` parts of their names form a group."""
    parts = groupby(layers, key=lambda name: ".".join(name.split(".")[:depth]))
    return [Group(prefix, tuple(members)) for prefix, members in parts]


def layer_groups(layers: Sequence[str], max_steps: int | None = 8) -> tuple[Group, ...]:
    """Cut the layers of a network into at most ``max_steps`` groups of neighbours.

    The names are cut at the smallest depth that gives enough groups, none with more than twice its share of
    the layers (blocks of a ResNet, stages of an EfficientNet); then the two neighbours with the fewest layers
    are joined until there are ``max_steps``. The group nearest to the output is joined last: behind the
    explained layer it is the step in which only the weights alpha can change, and not the activations.

    Args:
        layers: names in execution order.
        max_steps: 1 or more, or None for a group per layer.

    Returns:
        Groups in execution order; each layer is in exactly one.

    Raises:
        ValueError: ``max_steps`` is below 1.
    """
    if max_steps is None:
        return tuple(Group(name, (name,)) for name in layers)
    if max_steps < 1:
        raise ValueError(f"max_steps must be 1 or more, or None for one step per layer; got {max_steps}")
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
def randomise_layer(module: nn.Module, seed: int, initialise: Initialiser = he_initialise) -> None:
    """Fill a layer's own parameters anew, in place; running statistics become mean 0, variance 1.

    The numbers are drawn on the CPU, so they are the same whatever device the network is on, and the global
    random state is left as it was. Sub-modules keep theirs: each is a layer of its own.
    """
    fresh = copy.deepcopy(module).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialise(fresh)
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


def _randomise(
    model: nn.Module, layers: Sequence[str], seed: int, calibration: Tensor | None, initialise: Initialiser
) -> nn.Module:
    for name in layers:
        randomise_layer(model.get_submodule(name), layer_seed(seed, name), initialise)
    if calibration is not None:
        estimate_statistics(model, layers, calibration)
    return model


def cascade(
    model: nn.Module,
    images: Tensor,
    seed: int = 0,
    *,
    max_steps: int | None = 8,
    calibration: Tensor | None = None,
    initialise: Initialiser = he_initialise,
) -> Iterator[tuple[str, nn.Module]]:
    """Cascading randomisation: (step name, copy of the model random from the output down to that step).

    Every copy is independent of the others and of ``model``, which is never written to. The unchanged model
    is not among the steps, so that its similarity with itself cannot slip into an average.

    Args:
        model: any network.
        images: (N, 3, H, W), for the execution order; one is used.
        seed: the seed from which each layer's own is made.
        max_steps: join layers into at most this many steps; None randomises layer by layer.
        calibration: (M, 3, H, W) images from which randomised batch norms estimate their statistics; None
            resets them to mean 0 and variance 1.
        initialise: fills the parameters of one layer.

    Yields:
        The name of the lowest group that is random, and the copy.
    """
    done: tuple[str, ...] = ()
    for group in reversed(layer_groups(execution_order(model, images), max_steps)):
        done = group.layers + done
        yield group.name, _randomise(copy.deepcopy(model), done, seed, calibration, initialise)


def independent(
    model: nn.Module,
    images: Tensor,
    seed: int = 0,
    *,
    max_steps: int | None = 8,
    calibration: Tensor | None = None,
    initialise: Initialiser = he_initialise,
) -> Iterator[tuple[str, nn.Module]]:
    """Independent randomisation: like :func:`cascade`, but only the group itself is random in each copy."""
    for group in reversed(layer_groups(execution_order(model, images), max_steps)):
        yield group.name, _randomise(copy.deepcopy(model), group.layers, seed, calibration, initialise)


# ---- similarity of maps -------------------------------------------------------------------------------


def _flat_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches of maps (N, H, W) as float64 rows (N, H*W)."""
    if a.shape != b.shape or a.dim() != 3:
        raise ValueError(f"maps must be (N, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.detach().cpu().double().flatten(1), b.detach().cpu().double().flatten(1)


def _cosine_rows(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each pair of rows; NaN where a row is zero."""
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two maps as vectors. (N, H, W) twice -> (N,) float64; NaN where a map is all zero."""
    return _cosine_rows(*_flat_pair(a, b))


def spearman(a: Tensor, b: Tensor, absolute: bool = False) -> Tensor:
    """Spearman's rank correlation of two maps, ties given their mean rank.

    Args:
        a: (N, H, W).
        b: (N, H, W).
        absolute: rank the absolute values, so that a map and its negative count as the same.

    Returns:
        (N,) float64 in [-1, 1]; NaN where a map is constant and so has no ranking.
    """
    rows = (x.abs() if absolute else x for x in _flat_pair(a, b))
    ranks = [torch.from_numpy(np.asarray(rankdata(x.numpy(), axis=1))) for x in rows]
    a, b = (r - (r.shape[1] + 1) / 2 for r in ranks)  # ranks 1..n have mean (n + 1) / 2, ties or not
    return _cosine_rows(a, b)


def ssim(a: Tensor, b: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity of two maps: scikit-image's default, for a whole batch at once.

    A uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03, averaged over the windows that lie wholly
    inside the map.

    Args:
        a: (N, H, W), H and W at least 7.
        b: (N, H, W).
        data_range: largest possible difference of two values; 1 for normalised maps.

    Returns:
        (N,) float64 in [-1, 1].
    """
    _flat_pair(a, b)
    if min(a.shape[1:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs maps of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {tuple(a.shape[1:])}")
    x, y = (m.detach().cpu().double().unsqueeze(1) for m in (a, b))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    var_x = unbiased * (_window_mean(x * x) - mean_x * mean_x)
    var_y = unbiased * (_window_mean(y * y) - mean_y * mean_y)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _window_mean(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, SSIM_WINDOW, stride=1)


# ---- the check itself ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CascadeMaps:
    """Maps of N images at S steps of a cascade; row 0 of each tensor is the model before it.

    Attributes:
        steps: S names, from the output down.
        saliency: method -> (S + 1, N, H, W) in [0, 1].
        raw: method -> (S + 1, N, h, w), the map on the layer's grid *before* the ReLU, so that its sign is
            not lost.
    """

    steps: tuple[str, ...]
    saliency: dict[str, Tensor]
    raw: dict[str, Tensor]


def state_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers, names and dtypes included: equal if bit-identical."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _maps(model: nn.Module, images: Tensor, method: str, chunk: int, options: dict) -> tuple[Tensor, Tensor]:
    """Saliency (N, H, W) and the signed raw map (N, h, w) of one method, ``chunk`` images at a time."""
    row = find_method(method)
    explainer = Explainer(model, replace(row, rectify=False), **options)
    raw = torch.cat([explainer(part).cam.float().cpu() for part in images.split(chunk)])
    shown = raw.relu() if row.rectify else raw
    saliency = upsample(shown, images.shape[-2:])
    if row.normalise:
        saliency = min_max(saliency.masked_fill(is_flat(shown)[:, None, None], 0))
    return saliency, raw


def explain_cascade(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str],
    *,
    seed: int = 0,
    max_steps: int | None = 8,
    calibration: Tensor | None = None,
    layer: str | None = None,
    branch: int | None = None,
    batch_size: int | None = None,
    precision: torch.dtype | None = None,
    chunk: int = 16,
    cache: Path | None = None,
) -> CascadeMaps:
    """Explain the images by each method, with the model as it is and at every step of :func:`cascade`.

    Args:
        model: the trained network; bit-identical afterwards.
        images: (N, 3, H, W), normalised.
        methods: names that need no reference image: the FAM family and the controls.
        seed: of the randomisation.
        max_steps: see :func:`cascade`.
        calibration: see :func:`cascade`.
        layer: dotted name of the layer explained; None: the last one with a spatial output.
        branch: see :func:`~fam_lib.explain.explain`, as are ``batch_size`` and ``precision``.
        batch_size: masked images in one forward.
        precision: of the masked forwards.
        chunk: images explained at once.
        cache: folder for the maps, one file for each method and step, found again by the weights, images and
            choices they were made from; None keeps nothing.

    Raises:
        ValueError: a method needs a class or another image; a randomised model returned NaN or infinite
            features.
    """
    wrong = [name for name in methods if find_method(name).reference in ("class", "other")]
    if wrong:
        raise ValueError(f"methods {wrong} need a class or another image; choose methods that need none")
    options = {"layer": layer, "branch": branch, "batch_size": batch_size, "precision": precision}
    random_models = cascade(model, images, seed, max_steps=max_steps, calibration=calibration)
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in methods}
    steps = []
    for step, current in chain([("trained", model)], random_models):
        steps.append(step)
        weights = state_digest(current)
        for method in methods:
            compute = partial(_maps, current, images, method, chunk, options)
            name = store.key("cascade", weights, _digest(images), method, repr(options))
            found[method].append(_remember(cache / f"cascade-{name}.pt" if cache else None, compute))
    return CascadeMaps(
        tuple(steps[1:]),
        {method: torch.stack([saliency for saliency, _ in maps]) for method, maps in found.items()},
        {method: torch.stack([raw for _, raw in maps]) for method, maps in found.items()},
    )


def _digest(images: Tensor) -> str:
    return hashlib.sha256(images.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _remember(path: Path | None, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Read the result from ``path``, or compute it and write it there."""
    if path is not None and path.exists():
        return tuple(torch.load(path, weights_only=True))
    result = compute()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with store.atomic_path(path) as temporary:
            torch.save(list(result), temporary)
    return result


def similarity(maps: CascadeMaps, method: str) -> dict[str, Tensor]:
    """Similarity of the maps of every step to those of the trained model.

    Returns:
        measure -> (S, N) float64. "spearman" and "spearman_abs" (of absolute values) and "cosine" compare the
        signed raw maps, "ssim" the saliency maps; NaN where a map is constant and the measure undefined.
    """
    raw, saliency = maps.raw[method], maps.saliency[method]
    return {
        "spearman": torch.stack([spearman(raw[0], other) for other in raw[1:]]),
        "spearman_abs": torch.stack([spearman(raw[0], other, absolute=True) for other in raw[1:]]),
        "ssim": torch.stack([ssim(saliency[0], other) for other in saliency[1:]]),
        "cosine": torch.stack([cosine(raw[0], other) for other in raw[1:]]),
    }


def similarity_table(maps: CascadeMaps, n_boot: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row for each method and step: mean similarity over images, 95 % bootstrap interval, counts.

    Columns: method, step, n, and for each measure of :func:`similarity` its mean, ``_lo``, ``_hi`` and
    ``_undefined`` (images left out of the mean).
    """
    rows = []
    for method in maps.raw:
        measures = similarity(maps, method)
        for i, step in enumerate(maps.steps):
            row: dict[str, object] = {"method": method, "step": step, "n": maps.raw[method].shape[1]}
            for name, values in measures.items():
                summary = summarise(values[i], n_boot=n_boot, seed=seed)
                row |= {name: summary.mean, f"{name}_lo": summary.lo, f"{name}_hi": summary.hi}
                row[f"{name}_undefined"] = summary.undefined
            rows.append(row)
    return pd.DataFrame(rows)
