"""A query, its rank list and why a pair matched: the work behind the panel, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fam_lib.explain import Explanation, explain
from fam_lib.features import extract
from fam_lib.methods import find_method
from fam_lib.targets import cosine
from workbook import plots
from workbook.explorer.views import Pair, batch

if TYPE_CHECKING:
    from workbook.reid.queries import Queries

N_LISTS = 10
PAIR_METHODS = {"grad-ram": "projection", "cg-ram": "cosine"}  # on or to the other image's feature


class RankList(NamedTuple):
    """A query and its k nearest gallery images, best first.

    Attributes:
        query: normalised and displayed.
        gallery: k pairs, likewise.
        correct: k flags: the same identity as the query.
    """

    query: Pair
    gallery: Sequence[Pair]
    correct: Sequence[bool]


def rank_lists(queries: Queries, mean: Sequence[float], std: Sequence[float], k: int = 5) -> dict[str, RankList]:
    """The rank lists of the first ten Re-ID queries, named by number and identity; no more than the k best of each.

    Args:
        queries: of :func:`workbook.reid.queries.load_queries`.
        mean: (3,), of the normalisation; ``model.mean``.
        std: (3,), ``model.std``.
        k: gallery images in a list.
    """
    from workbook.images import load_images, normalise

    size = tuple(queries.images.shape[-2:])
    lists = {}
    for number, best in enumerate(queries.best[:N_LISTS, :k], start=1):
        near = queries.gallery_set.subset(best)
        shown = load_images([queries.image_set.paths[number - 1], *near.paths], size)
        query, *gallery = zip(normalise(shown, mean, std), shown, strict=True)
        identity = int(queries.image_set.ids[number - 1])
        lists[f"query {number}, id {identity}"] = RankList(query, gallery, (near.ids == identity).tolist())
    return lists


@dataclass(frozen=True)
class Matches:
    """A rank list explained: one map for each image, and two for each side of one pair.

    Attributes:
        similarities: (k,), cosine of the query's feature to that of each gallery image.
        saliency: (1 + k, H, W) in [0, 1], the query's map first.
        rank: which gallery image stands in the pair, from 1.
        pair: for each of :data:`PAIR_METHODS` the query explained against the match and the match against the
            query, N = 2.
    """

    similarities: Tensor
    saliency: Tensor
    rank: int
    pair: Mapping[str, Explanation]


def look_at_matches(
    model: nn.Module,
    ranks: RankList,
    method: str = "grad-ram",
    layer: str | None = None,
    rank: int = 1,
    *,
    cache: MutableMapping[tuple, Tensor] | None = None,
    **options: Any,
) -> Matches:
    """Explain a query and its gallery images, and why one of them matched.

    A method that compares with another image explains every gallery image against the query, and the query
    against the image at `rank`; any other method explains each image by itself.

    Args:
        model: maps images to features.
        ranks: the query and its gallery images.
        method: a name of :data:`fam_lib.methods.METHODS`, not one that asks for a class.
        layer: dotted name; None or empty: the last one with a spatial output.
        rank: from 1.
        cache: filled with the maps of these images; pass the same one again, with the same options.
        options: as for ``explain``.

    Raises:
        ValueError: an unknown method or layer, or a rank that the list does not have.
    """
    if not 1 <= rank <= len(ranks.gallery):
        raise ValueError(f"rank must lie in 1..{len(ranks.gallery)}, got {rank}")
    images = batch(model, torch.stack([ranks.query[0], *(normalised for normalised, _ in ranks.gallery)]))
    vectors = extract(model, images)
    # Everybody's other image: the query, and for the query the match.
    other = torch.cat([vectors[rank : rank + 1], vectors[:1].expand(len(ranks.gallery), -1)])
    compares = find_method(method).reference == "other"
    cache = {} if cache is None else cache
    key = (method, layer or None, rank if compares else None)
    if key not in cache:
        reference = other if compares else None
        cache[key] = explain(model, images, method, layer or None, reference=reference, **options).saliency
    ends = [0, rank]
    return Matches(
        similarities=cosine(vectors[1:], other[1:]).cpu(),
        saliency=cache[key],
        rank=rank,
        pair={
            name: explain(model, images[ends], name, layer or None, reference=other[ends], **options)
            for name in PAIR_METHODS
        },
    )


def fig_matches(ranks: RankList, found: Matches, method: str, *, note: str = "") -> list[Figure]:
    """The rank list with a map under each thumbnail, and the pair with its projection and cosine maps."""
    shown = [ranks.query[1], *(display for _, display in ranks.gallery)]
    nothing = [None] * len(shown)
    rank_list = plots.image_grid(
        [shown, list(zip(shown, found.saliency, strict=True))],
        column_labels=["query", *(f"rank {i}" for i in range(1, len(shown)))],
        captions=[["", *(f"cosine {s:.2f}" for s in found.similarities)], [""] * len(shown)],
        frames=[[None, *ranks.correct], nothing],
        groups=[("", 1), ("", len(ranks.gallery))],
        title=f"The rank list, and {method} of every image",
        note=note,
    )
    sides = [shown[0], shown[found.rank]]
    explained = found.pair.values()
    pair = plots.image_grid(
        [[side, *((side, e.saliency[i]) for e in explained)] for i, side in enumerate(sides)],
        row_labels=["query, against the match", f"rank {found.rank}, against the query"],
        column_labels=["image", *(f"{target} ({name})" for name, target in PAIR_METHODS.items())],
        captions=[["", *("flat" if e.flat[i] else f"{e.target[i]:.3g}" for e in explained)] for i in range(2)],
        title="Why this pair: each image explained against the other",
        note=note,
    )
    return [rank_list, pair]
