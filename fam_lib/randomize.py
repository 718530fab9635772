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
from itertools import groupby, pairwise
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from fam_lib import store
from fam_lib.capture import evaluating, resolve_layer, run_with_layer
from fam_lib.explain import Method, combine, explain_all, find_method, is_flat, to_saliency
from fam_lib.faithfulness import summarise
from fam_lib.shards import remember
from fam_lib.similarity import cosine, spearman, ssim
from fam_lib.weights import state_digest

Initialiser = Callable[[nn.Module], None]
Scheme = Literal["cascade", "independent"]
Finder = Callable[[nn.Module], nn.Module]  # finds a part of a network, in the model and in each of its copies

CODE_VERSION = 1  # count up when a change of the code changes the maps: it is part of every cache key


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


def randomised(
    model: nn.Module,
    groups: Sequence[Group],
    scheme: Scheme = "cascade",
    seed: int = 0,
    *,
    calibration: Tensor | None = None,
    initialise: Initialiser = he_initialise,
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
        initialise: fills the parameters of one layer.

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
            randomise_layer(copied.get_submodule(name), layer_seed(seed, name), initialise)
        if calibration is not None:
            estimate_statistics(copied, layers, calibration)
        yield group.name, copied


# ---- maps of networks that forgot ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RandomisedMaps:
    """Maps of N images by a trained network and at the S steps of its randomisation.

    A map of this family is sum_k alpha_k A^k, so two things can change it. ``swapped`` tells them apart, for
    the methods with one weight a channel: "alpha" holds sum_k alpha_k A^k with the random network's alpha on
    the trained network's A, "A" the reverse. The random network's own map, where both changed, is in ``raw``.

    Attributes:
        scheme: how the layers were randomised.
        steps: S names, from the output down.
        size: (H, W) of the images.
        raw: method -> (S + 1, N, h, w), the map on the layer's grid *before* the ReLU, so that its sign is
            not lost; row 0 is the trained network.
        swapped: method -> {"alpha": (S, N, h, w), "A": (S, N, h, w)}, before the ReLU.
    """

    scheme: Scheme
    steps: tuple[str, ...]
    size: tuple[int, int]
    raw: dict[str, Tensor]
    swapped: dict[str, dict[str, Tensor]]

    def saliency(self, method: str) -> Tensor:
        """The maps as they are shown: rectified where the method is, upsampled, min-max normalised.

        Returns:
            (S + 1, N, H, W) in [0, 1]; row 0 is the trained network.
        """
        shown = self._shown(method)
        maps = to_saliency(shown.flatten(0, 1), self.size, find_method(method).normalise)
        return maps.unflatten(0, shown.shape[:2])

    def flat(self, method: str) -> Tensor:
        """Which of the maps as they are shown have no variation: (S + 1, N) bool."""
        shown = self._shown(method)
        return is_flat(shown.flatten(0, 1)).view(shown.shape[:2])

    def _shown(self, method: str) -> Tensor:
        return self.raw[method].relu() if find_method(method).rectify else self.raw[method]


@dataclass(frozen=True, eq=False)
class _Question:
    """What every network is asked about one chunk of images; see :func:`explain_randomised`."""

    images: Tensor
    others: Tensor | None
    classes: Tensor | None
    rows: list[Method]
    layer: str
    classifier: Finder | None
    options: dict[str, object]

    def key(self, network: nn.Module) -> str:
        """Names the answer of a network."""
        values = (self.images, self.others, self.classes)
        return store.key(
            "randomised", CODE_VERSION, state_digest(network), getattr(network, "feature", ""),
            *(b"" if x is None else x.detach().cpu().contiguous().numpy().tobytes() for x in values),
            state_digest(self.classifier(network)) if self.classifier else "",
            [row.name for row in self.rows], self.layer, repr(sorted(self.options.items())),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Seen:
    """N images seen by one network: A (N, C, h, w), and of each method the signed map and alpha (N, C)."""

    activations: Tensor
    raw: dict[str, Tensor]
    alpha: dict[str, Tensor]


def explain_randomised(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str],
    groups: Sequence[Group],
    layer: str,
    scheme: Scheme = "cascade",
    *,
    seed: int = 0,
    calibration: Tensor | None = None,
    others: Tensor | None = None,
    classifier: Finder | None = None,
    chunk: int = 8,
    cache: Path | None = None,
    **options: object,
) -> RandomisedMaps:
    """Explain the images by each method, with the model as it is and at every step of :func:`randomised`.

    All methods of one network share their forwards (:func:`~fam_lib.explain.explain_all`). The question stays
    the same while the network forgets: class methods ask for the class that the *trained* network predicts,
    methods of the RAM family for the feature that the network at hand gives to the *same* other image.

    Args:
        model: the trained network; bit-identical afterwards.
        images: (N, 3, H, W), normalised.
        methods: names of :data:`~fam_lib.explain.METHODS`.
        groups: see :func:`randomised`.
        layer: dotted name of the layer explained.
        scheme: see :func:`randomised`.
        seed: of the randomisation and of the random controls.
        calibration: see :func:`randomised`.
        others: (N, 3, H, W), the other image of each image, for the RAM family.
        classifier: finds in a network the module that maps its features to logits, for class methods beside
            the others; for instance ``operator.attrgetter("head")``.
        chunk: images explained at once.
        cache: folder for the maps, a file for each network and chunk, found again by the weights, images and
            choices they were made from: a killed run goes on where it stopped. None keeps nothing.
        options: ``batch_size`` and ``precision`` of :func:`~fam_lib.explain.explain`.

    Raises:
        ValueError: a method, layer or scheme does not fit, the other images are missing, or a file of the
            cache is damaged.
    """
    rows = [replace(find_method(name), rectify=False) for name in methods]
    if others is None and any(row.reference == "other" for row in rows):
        raise ValueError("methods of the RAM family compare with another image: pass `others`, one for each image")
    asks_class = any(row.reference == "class" for row in rows)
    classes = _outputs(model, images, classifier).argmax(1) if asks_class else None
    per_image = [[None] * len(images) if x is None else x.split(chunk) for x in (images, others, classes)]
    questions = [
        _Question(*parts, rows, layer, classifier, {"seed": seed, **options}) for parts in zip(*per_image, strict=False)
    ]

    def look(network: nn.Module) -> _Seen:
        return _join([_look(network, question, cache) for question in questions])

    trained = look(model)
    networks = randomised(model, groups, scheme, seed, calibration=calibration)
    steps, seen = zip(*((step, look(network)) for step, network in networks), strict=True)
    swapped = [{name: _swap(trained, other, name) for name in trained.alpha} for other in seen]
    return RandomisedMaps(
        scheme,
        steps,
        tuple(images.shape[-2:]),
        {name: torch.stack([one.raw[name] for one in (trained, *seen)]) for name in methods},
        {
            name: {which: torch.stack([maps[name][which] for maps in swapped]) for which in ("alpha", "A")}
            for name in trained.alpha
        },
    )


def _swap(trained: _Seen, other: _Seen, method: str) -> dict[str, Tensor]:
    """The maps of two networks with their alpha exchanged, each named by what is not the trained network's."""
    return {
        "alpha": combine(other.alpha[method], trained.activations),
        "A": combine(trained.alpha[method], other.activations),
    }


def _look(network: nn.Module, question: _Question, cache: Path | None) -> _Seen:
    path = cache / f"randomised-{question.key(network)}.pt" if cache else None
    found = remember(path, partial(_explain, network, question))
    with evaluating(network):
        # A takes one forward and much room on a disk: it is not worth a file.
        activations = run_with_layer(network, resolve_layer(network, question.layer), question.images)[0]
    return _Seen(activations.float().cpu(), found["raw"], found["alpha"])


def _explain(network: nn.Module, question: _Question) -> dict[str, dict[str, Tensor]]:
    """Signed maps (N, h, w) of all methods, and alpha (N, C) of those that have it."""
    found = explain_all(
        network,
        question.images,
        question.rows,
        question.layer,
        other=None if question.others is None else _outputs(network, question.others),
        classes=question.classes,
        classifier=question.classifier(network) if question.classifier else None,
        **question.options,
    )
    return {
        "raw": {name: e.cam.float().cpu() for name, e in found.items()},
        "alpha": {name: e.weights.float().cpu() for name, e in found.items() if e.weights is not None},
    }


@torch.no_grad()
def _outputs(model: nn.Module, images: Tensor, classifier: Finder | None = None) -> Tensor:
    """What the model returns, sent through its classifier if there is one to be found."""
    with evaluating(model):
        outputs = model(images)
        return classifier(model)(outputs) if classifier else outputs


def _join(parts: Sequence[_Seen]) -> _Seen:
    return _Seen(
        torch.cat([part.activations for part in parts]),
        {name: torch.cat([part.raw[name] for part in parts]) for name in parts[0].raw},
        {name: torch.cat([part.alpha[name] for part in parts]) for name in parts[0].alpha},
    )


# ---- tables -------------------------------------------------------------------------------------------


def similarity(raw: tuple[Tensor, Tensor], saliency: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Every measure of two batches of maps.

    Args:
        raw: (N, h, w) twice, signed: what "spearman", "spearman_abs" (of absolute values) and "cosine" compare.
        saliency: (N, H, W) twice, in [0, 1]: what "ssim" compares.

    Returns:
        measure -> (N,) float64; NaN where a map is constant and the measure undefined.
    """
    return {
        "spearman": spearman(*raw),
        "spearman_abs": spearman(*raw, absolute=True),
        "ssim": ssim(*saliency),
        "cosine": cosine(*raw),
    }


def sanity_table(maps: RandomisedMaps, dataset: str, n_boot: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How similar each step's map is to that of the trained network: a row for each method and step.

    Returns:
        Columns dataset, method, kind, scheme, step (1 is nearest to the output), layer (the step's group), n,
        of each measure of :func:`similarity` its mean over the images and its 95 % bootstrap interval
        (``_lo``, ``_hi``), and flat, the number of maps without variation. Images for which a measure is
        undefined are left out of its mean.
    """
    rows = []
    for method, raw in maps.raw.items():
        saliency, flat = maps.saliency(method), maps.flat(method)
        for step, layer in enumerate(maps.steps, start=1):
            measures = similarity((raw[0], raw[step]), (saliency[0], saliency[step]))
            head = _head(dataset, method, maps.scheme, step, layer, raw.shape[1])
            rows.append(head | _summaries(measures, n_boot, seed) | {"flat": int(flat[step].sum())})
    return pd.DataFrame(rows)


def unrelated_table(maps: RandomisedMaps, dataset: str, n_boot: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How similar two maps are that have nothing to do with each other: the level of no relation.

    The trained network's map of each image is compared with its map of the next image.

    Returns:
        A row for each method with the columns of :func:`sanity_table`; scheme "another image", step 0.

    Raises:
        ValueError: there is one image only.
    """
    rows = []
    for method, raw in maps.raw.items():
        if raw.shape[1] < 2:
            raise ValueError(f"{method} explains one image: a level of no relation needs two or more")
        saliency = maps.saliency(method)[0]
        measures = similarity((raw[0], raw[0].roll(1, 0)), (saliency, saliency.roll(1, 0)))
        head = _head(dataset, method, "another image", 0, "", raw.shape[1])
        rows.append(head | _summaries(measures, n_boot, seed) | {"flat": int(maps.flat(method)[0].sum())})
    return pd.DataFrame(rows)


def alpha_or_a_table(
    maps: RandomisedMaps, dataset: str, explained: str, n_boot: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Does a map change because alpha changes, or because A does? Spearman with the trained network's map.

    Three maps stand for every step: alpha swapped for the random network's, A swapped, both. Where all random
    layers run after the explained one, A is the same in both networks: "A" gives 1, and "alpha" equals
    "both"; this is the step that tests the weights. Where the explained layer or one before it is random,
    channel k of one network is not channel k of the other. Then "alpha" asks whether the trained activations
    keep the map under weights that were made for other channels, and "A" whether trained weights find
    anything in random activations.

    Args:
        maps: of one scheme.
        dataset: for the column of that name.
        explained: the layer explained, for the column of that name.
        n_boot: resamples of the interval.
        seed: of the resampling.

    Returns:
        Columns dataset, method, kind, scheme, explained, step, layer, n, swapped ("alpha", "A" or "both"),
        spearman, spearman_lo, spearman_hi; only methods with one weight a channel.
    """
    rows = []
    for method, swapped in maps.swapped.items():
        raw = maps.raw[method]
        for step, layer in enumerate(maps.steps, start=1):
            changed = {"alpha": swapped["alpha"][step - 1], "A": swapped["A"][step - 1], "both": raw[step]}
            for which, other in changed.items():
                head = _head(dataset, method, maps.scheme, step, layer, raw.shape[1])
                measures = {"spearman": spearman(raw[0], other)}
                rows.append(head | {"explained": explained, "swapped": which} | _summaries(measures, n_boot, seed))
    return pd.DataFrame(rows)


def _head(dataset: str, method: str, scheme: str, step: int, layer: str, n: int) -> dict[str, object]:
    kind = find_method(method).kind
    names = ("dataset", "method", "kind", "scheme", "step", "layer", "n")
    return dict(zip(names, (dataset, method, kind, scheme, step, layer, n), strict=True))


def _summaries(measures: dict[str, Tensor], n_boot: int, seed: int) -> dict[str, float]:
    row = {}
    for name, values in measures.items():
        summary = summarise(values, n_boot=n_boot, seed=seed)
        row |= {name: summary.mean, f"{name}_lo": summary.lo, f"{name}_hi": summary.hi}
    return row
