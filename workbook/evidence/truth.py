"""Should a map have moved? Maps of trained and randomised networks held against the truth by occlusion.

That a map stays the same while the network under it is replaced says little as long as nobody knows whether it
should have changed. Here the losses of :mod:`fam_lib.occlusion` are what it should show: for the trained network,
for networks whose layers behind the explained one are random, and for networks that are all random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import pandas as pd
import torch
from torch import Tensor, nn

from fam_lib.capture import evaluating, resolve_layer, run_with_layer
from fam_lib.explain import explain_all
from fam_lib.faithfulness import summarise
from fam_lib.methods import Method, find_method
from fam_lib.occlusion import Measure, occlude_image, occlude_map
from fam_lib.randomize import Group, execution_order, randomised
from fam_lib.similarity import spearman
from workbook.cache.digests import state_digest
from workbook.cache.shards import remember
from workbook.cache.store import key
from workbook.tables import interval_columns

CODE_VERSION = 1  # count up when a change of the code changes maps or truths: it is part of every cache key
CHUNK = 4  # images in one file of the cache: what a killed run loses at most

METHODS = ("grad-fam", "layer-fam", "score-fam", "uniform", "centre-prior")
MEASURES: tuple[Measure, ...] = get_args(Measure)
TRAINED, BEHIND, ALL = "trained", "random behind the layer", "all random"
OF_TRAINED, OF_ANOTHER = "truth of the trained network", "truth of another image"
IMAGE, MAP = "image cell", "map cell"


@dataclass(frozen=True, eq=False)
class Found:
    """What one network says about N images at one layer, all on the layer's grid.

    Attributes:
        truths: (truth, measure) -> (N, h, w), the loss of each cell.
        maps: method -> (N, h, w), before the ReLU, so that the sign of a map is not lost.
    """

    truths: dict[tuple[str, Measure], Tensor]
    maps: dict[str, Tensor]


def truth_table(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    dataset: str,
    methods: Sequence[str | Method] = METHODS,
    seeds: Sequence[int] = (0, 1),
    *,
    groups: Tensor | None = None,
    calibration: Tensor | None = None,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Does a map follow the truth of its network, and does the truth move when the network is randomised?

    Args:
        model: the trained network, images -> features; bit-identical afterwards.
        images: (N, 3, H, W), normalised, N at least 2.
        layers: dotted names of the layers explained.
        dataset: for the column of that name.
        methods: names, or rows of your own, which the cache knows by their names; no class or other image is asked
            for, so they are of the FAM family or controls.
        seeds: of the randomisations; the trained network needs none.
        groups: (N,) integers, who is on each image: people are resampled, and the other images are those of other
            people. None: somebody else on each.
        calibration: see :func:`fam_lib.randomize.randomised`.
        cache: folder of what is kept, found again by weights, images and choices: a killed run goes on where it
            stopped. None keeps nothing.

    Returns:
        A row for each network (trained, random behind the layer, all random), seed, layer, truth (image cell, map
        cell), measure (cosine, projection) and method. Columns dataset, network, seed (missing for the trained),
        layer, truth, measure, method, n, and three of correlations:

        - spearman, spearman_lo, spearman_hi: the mean over the images of Spearman's correlation of map and truth with
          its 95 % bootstrap interval;
        - unrelated: the same of each map and the truths of *all other people's images*. A map that does not look at
          its image reaches it too: the truths of different images are alike, for what stands in the middle matters;
        - specific, specific_lo, specific_hi: the difference of the two, paired by image.

        Two rows hold a truth where the map stands: "truth of another image", the level of no relation, and "truth of
        the trained network", by which one sees how far the map should have moved. An image whose map or truth is
        constant is left out.

    Raises:
        ValueError: there is one image or one group only, a method asks for a class or another image, a layer does not
            fit, or a file of the cache is damaged.
    """
    rows = [replace(find_method(m) if isinstance(m, str) else m, rectify=False) for m in methods]
    if len(images) < 2:
        raise ValueError("the level of no relation needs two images or more")
    people = torch.arange(len(images)) if groups is None else groups.cpu()
    if len(people) != len(images) or len(people.unique()) < 2:
        raise ValueError(f"groups must be ({len(images)},), one for each image, and two different ones at least")
    if asking := [row.name for row in rows if row.reference not in (None, "self")]:
        raise ValueError(f"{asking} ask for a class or another image; the truth is that of the image's own feature")
    table = []
    for layer in layers:
        trained = look(model, images, layer, rows, cache)
        table += _rows({"dataset": dataset, "network": TRAINED, "seed": None, "layer": layer}, trained, None, people)
        for seed in seeds:
            for state, network in forgetting(model, images, layer, seed, calibration):
                found = look(network, images, layer, rows, cache)
                head = {"dataset": dataset, "network": state, "seed": seed, "layer": layer}
                table += _rows(head, found, trained, people)
    return pd.DataFrame(table).astype({"seed": "Int64"})


def forgetting(
    model: nn.Module, images: Tensor, layer: str, seed: int, calibration: Tensor | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """The network with everything behind the layer random, which leaves A alone, and with everything random.

    Where no layer with parameters runs behind it, the first of the two is left out.

    Args:
        model: the trained network.
        images: (N, 3, H, W), of which one is used.
        layer: dotted name.
        seed: of the random weights.
        calibration: see :func:`fam_lib.randomize.randomised`.
    """
    order = execution_order(model, images)
    cut = len(execution_order(model, images, until=layer))
    groups = [Group(state, part) for state, part in ((ALL, order[:cut]), (BEHIND, order[cut:])) if part]
    yield from randomised(model, groups, "cascade", seed, calibration=calibration)


def look(network: nn.Module, images: Tensor, layer: str, rows: Sequence[Method], cache: Path | None = None) -> Found:
    """Truths and maps of one network, from the cache or computed; see :func:`truth_table` for the arguments."""
    seen = [CODE_VERSION, state_digest(network), getattr(network, "feature", "")]
    with evaluating(network):
        sample = run_with_layer(network, resolve_layer(network, layer), images[:1])[0]
    grid = tuple(sample.shape[2:])

    def kept(kind: str, parts: Sequence[object], compute: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        def name(chosen: Tensor) -> str:
            pixels = images[chosen].cpu().contiguous().numpy().tobytes()
            return f"{kind}-{key(*seen, *parts, *images.shape[1:], pixels)}"

        return remember(cache, len(images), CHUNK, name, lambda chosen: compute(images[chosen]))

    def named(losses: Tensor) -> dict[str, Tensor]:
        return dict(zip(MEASURES, losses, strict=True))

    # Apart from each other: the image's truth serves all layers of one grid, and one more method leaves the truths.
    of_images = kept("truth-image", grid, lambda x: named(occlude_image(network, x, grid, MEASURES)))
    of_map = kept("truth-map", [layer], lambda x: named(occlude_map(network, x, layer, MEASURES)))
    maps = kept("truth-methods", [layer, [row.name for row in rows]], lambda x: _explain(network, x, layer, rows))
    truths = {(truth, m): by[m] for truth, by in ((IMAGE, of_images), (MAP, of_map)) for m in MEASURES}
    return Found(truths, maps)


def _explain(network: nn.Module, images: Tensor, layer: str, rows: Sequence[Method]) -> dict[str, Tensor]:
    return {name: one.cam.float().cpu() for name, one in explain_all(network, images, rows, layer).items()}


def _rows(head: dict[str, object], found: Found, trained: Found | None, people: Tensor) -> list[dict[str, object]]:
    """The rows of one network at one layer; `trained` is None for the trained network itself."""
    rows, summary = [], partial(summarise, groups=people)
    for (truth, measure), losses in found.truths.items():
        compared = dict(found.maps) if trained is None else {**found.maps, OF_TRAINED: trained.truths[truth, measure]}
        values = {method: _own_and_others(maps, losses, people) for method, maps in compared.items()}
        values[OF_ANOTHER] = (_own_and_others(losses, losses, people)[1], torch.full((len(losses),), torch.nan))
        for method, (own, others) in values.items():
            related = summary(own)
            row = head | {"truth": truth, "measure": measure, "method": method, "n": related.n}
            row |= interval_columns("spearman", related) | {"unrelated": summary(others).mean}
            rows.append(row | interval_columns("specific", summary(own - others)))
    return rows


def _own_and_others(maps: Tensor, losses: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """Spearman's correlation of maps (N, h, w) with their own images' losses, and its mean over others' -> (N,) twice.

    NaN where one of the two is constant.
    """
    n = len(maps)
    pairs = spearman(maps.repeat_interleave(n, 0), losses.repeat(n, 1, 1)).view(n, n)
    return pairs.diagonal(), pairs.masked_fill(people[:, None] == people, torch.nan).nanmean(1)
