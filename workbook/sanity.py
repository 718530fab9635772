"""The sanity check of Section 4.3: do maps change when the network forgets, and through alpha or through A?

An explanation that stays the same while the network under it is replaced by noise does not explain the network.
The networks come from :mod:`fam_lib.randomize`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from fam_lib.capture import evaluating, resolve_layer, run_with_layer
from fam_lib.explain import combine, explain_all, is_flat, to_saliency
from fam_lib.faithfulness import summarise
from fam_lib.methods import Method, find_method
from fam_lib.randomize import Group, Scheme, randomised
from fam_lib.similarity import cosine, spearman, ssim
from workbook.cache import store
from workbook.cache.digests import state_digest
from workbook.cache.shards import remember
from workbook.tables import interval_columns

Finder = Callable[[nn.Module], nn.Module]  # finds a part of a network, in the model and in each of its copies

CODE_VERSION = 1  # count up when a change of the code changes the maps: it is part of every cache key
UNCHANGED = 0.999  # Spearman's correlation of maps that differ by rounding alone, at least: no decision by the last bit
CHUNK = 8  # images explained at once, and in one file of the cache


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
    """What every network is asked; see :func:`explain_randomised`."""

    images: Tensor
    others: Tensor | None
    classes: Tensor | None
    rows: list[Method]
    layer: str
    classifier: Finder | None
    seed: int

    def about(self, chosen: Tensor) -> _Question:
        """The same about some of the images."""
        values = {name: getattr(self, name) for name in ("images", "others", "classes")}
        return replace(self, **{name: None if x is None else x[chosen] for name, x in values.items()})

    def key(self, network: nn.Module) -> str:
        """Names the answer of a network."""
        values = (self.images, self.others, self.classes)
        return store.key(
            "randomised", CODE_VERSION, state_digest(network), getattr(network, "feature", ""),
            *(b"" if x is None else x.detach().cpu().contiguous().numpy().tobytes() for x in values),
            state_digest(self.classifier(network)) if self.classifier else "",
            [row.name for row in self.rows], self.layer, repr([("seed", self.seed)]),
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
    cache: Path | None = None,
) -> RandomisedMaps:
    """Explain the images by each method, with the model as it is and at every step of :func:`randomised`.

    All methods of one network share their forwards (:func:`~fam_lib.explain.explain_all`). The question stays
    the same while the network forgets: class methods ask for the class that the *trained* network predicts,
    methods of the RAM family for the feature that the network at hand gives to the *same* other image.

    Args:
        model: the trained network; bit-identical afterwards.
        images: (N, 3, H, W), normalised.
        methods: names of :data:`~fam_lib.methods.METHODS`.
        groups: see :func:`randomised`.
        layer: dotted name of the layer explained.
        scheme: see :func:`randomised`.
        seed: of the randomisation and of the random controls.
        calibration: see :func:`randomised`.
        others: (N, 3, H, W), the other image of each image, for the RAM family.
        classifier: finds in a network the module that maps its features to logits, for class methods beside
            the others; for instance ``operator.attrgetter("head")``.
        cache: folder for the maps, a file for each network and chunk of images, found again by the weights, images
            and choices they were made from: a killed run goes on where it stopped. None keeps nothing.

    Raises:
        ValueError: a method, layer or scheme does not fit, the other images are missing, or a file of the
            cache is damaged.
    """
    rows = [replace(find_method(name), rectify=False) for name in methods]
    if any(row.reference == "other" for row in rows) and (others is None or len(others) != len(images)):
        raise ValueError("methods of the RAM family compare with another image: pass `others`, one for each image")
    asks_class = any(row.reference == "class" for row in rows)
    classes = _outputs(model, images, classifier).argmax(1) if asks_class else None
    question = _Question(images, others, classes, rows, layer, classifier, seed)
    trained = _look(model, question, cache)
    networks = randomised(model, groups, scheme, seed, calibration=calibration)
    steps, seen = zip(*((step, _look(network, question, cache)) for step, network in networks), strict=True)
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
    found = remember(
        cache,
        len(question.images),
        CHUNK,
        lambda chosen: f"randomised-{question.about(chosen).key(network)}",
        lambda chosen: _explain(network, question.about(chosen)),
    )
    layer = resolve_layer(network, question.layer)
    with evaluating(network):
        # A takes one forward and much room on a disk: it is not worth a file.
        parts = [run_with_layer(network, layer, images)[0].float().cpu() for images in question.images.split(CHUNK)]
    return _Seen(torch.cat(parts), found["raw"], found["alpha"])


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
        seed=question.seed,
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


def unchanged(maps: Tensor, others: Tensor) -> bool:
    """Whether all maps (N, h, w) are the others up to rounding, which depends on the processor and its threads."""
    return bool((spearman(maps, others) > UNCHANGED).all())


def sanity_table(maps: RandomisedMaps, dataset: str, seed: int = 0) -> pd.DataFrame:
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
            rows.append(head | _summaries(measures, seed) | {"flat": int(flat[step].sum())})
    return pd.DataFrame(rows)


def unrelated_table(maps: RandomisedMaps, dataset: str, seed: int = 0) -> pd.DataFrame:
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
        rows.append(head | _summaries(measures, seed) | {"flat": int(maps.flat(method)[0].sum())})
    return pd.DataFrame(rows)


def alpha_or_a_table(maps: RandomisedMaps, dataset: str, explained: str, seed: int = 0) -> pd.DataFrame:
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
        seed: of the bootstrap over images.

    Returns:
        Columns dataset, method, kind, scheme, explained, step, layer, n, swapped ("alpha", "A" or "both"),
        spearman, spearman_lo, spearman_hi; only methods with one weight a channel. The rows of scheme "another
        image", step 0, hold the level of no relation, as in :func:`unrelated_table`.
    """
    rows = []
    for method, swapped in maps.swapped.items():
        raw = maps.raw[method]
        unrelated = _head(dataset, method, "another image", 0, "", raw.shape[1])
        level = _summaries({"spearman": spearman(raw[0], raw[0].roll(1, 0))}, seed)
        rows.append(unrelated | {"explained": explained, "swapped": "both"} | level)
        for step, layer in enumerate(maps.steps, start=1):
            changed = {"alpha": swapped["alpha"][step - 1], "A": swapped["A"][step - 1], "both": raw[step]}
            for which, other in changed.items():
                head = _head(dataset, method, maps.scheme, step, layer, raw.shape[1])
                measures = {"spearman": spearman(raw[0], other)}
                rows.append(head | {"explained": explained, "swapped": which} | _summaries(measures, seed))
    return pd.DataFrame(rows)


def _head(dataset: str, method: str, scheme: str, step: int, layer: str, n: int) -> dict[str, object]:
    kind = find_method(method).kind
    names = ("dataset", "method", "kind", "scheme", "step", "layer", "n")
    return dict(zip(names, (dataset, method, kind, scheme, step, layer, n), strict=True))


def _summaries(measures: dict[str, Tensor], seed: int) -> dict[str, float]:
    row = {}
    for name, values in measures.items():
        row |= interval_columns(name, summarise(values, seed=seed))
    return row
