"""The evaluation run behind Table 2: every method on every query, and what is left of the retrieval.

Two steps, each of which writes what it has done to the cache as it goes, so that a run that was killed goes on
where it stopped: :func:`explain_queries` makes the maps, :func:`score_queries` measures them. Both name their
files by everything that went in. The tables are computed from the results in no time, and are not kept.

Several processes share the files that are missing, each whole file to one process, and write them to one folder.
The files are the same however many processes there were, if all compute alike. On a CPU that means: with the same
number of threads in each (OMP_NUM_THREADS), on which the last bits of a map depend, about 1e-6 of its maximum. Where
two pixels were equal up to rounding this can move a digit of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from fam_lib.capture import resolve_layer
from fam_lib.explain import explain_all, is_flat, to_saliency
from fam_lib.faithfulness import EQUAL_AREAS, retained_area
from fam_lib.features import extract, inner_products, unit_rows
from fam_lib.masking import blend, explanation_mask, gaussian_blur, top_share_mask
from fam_lib.methods import METHODS, Method, find_method
from fam_lib.retrieval import Ranking, rank
from workbook.cache import shards
from workbook.cache.context import ALONE, Context
from workbook.cache.digests import state_digest
from workbook.cache.store import atomic_path, key
from workbook.reid.model import ReidModel
from workbook.reid.queries import Queries, fingerprint

CODE_VERSION = 3  # count up when a change of the code changes maps or results: it is part of every cache key
MAP_SHARD = 4  # queries in one file of maps: what a killed run loses at most
SCORE_SHARD = 16  # queries in one file of results
BLURRED = "blurred"  # the paper's baseline
HALF_BLURRED = "blurred, kernel 25"

TABLE2_METHODS = (
    *("grad-cam", "score-cam", "score-cam-logit", "ram", "cg-ram", "grad-ram", "grad-fam", "score-fam"),
    *("uniform", "random-weights", "random-map", "centre-prior", "all-ones"),
)

# ---- maps ---------------------------------------------------------------------------------------------


def baselines(model: ReidModel) -> dict[str, Callable[[Tensor], Tensor]]:
    """What may replace the pixels that are not kept: name -> (images -> B), in the model's normalised space.

    "blurred" is the paper's kernel of 51 pixels with sigma 50, for images of 256 x 128. On images of 128 x 64, half as
    large, it covers 80 % of the width, not 40 %: "blurred, kernel 25" (25 pixels, sigma 25) is the paper's blur
    relative to these.
    """
    black = -torch.tensor(model.mean) / torch.tensor(model.std)
    return {
        BLURRED: gaussian_blur,
        HALF_BLURRED: partial(gaussian_blur, kernel_size=25, sigma=25.0),
        "mean colour": torch.zeros_like,
        "black": lambda images: black.to(images).view(1, 3, 1, 1).expand_as(images),
    }


def explain_queries(
    model: ReidModel,
    queries: Queries,
    methods: Sequence[str | Method] = TABLE2_METHODS,
    context: Context = ALONE,
    *,
    layer: str | None = None,
    baseline: str = BLURRED,
    other: int = 0,
) -> dict[str, Tensor]:
    """The raw map of every query by every method, resumable.

    Args:
        model: the network; class targets are read off its identity classifier.
        queries: what to explain.
        methods: names of :data:`fam_lib.METHODS`, or rows of your own, which the cache knows by their names.
        context: where and how to compute.
        layer: dotted name; None is the last map of the backbone.
        baseline: a name of :func:`baselines`, what the masked-score methods blend with.
        other: place in the rank list, from 0, of the image that the RAM family compares with (Section 4.1: the
            first).

    Returns:
        method -> (Q, h, w), the `cam` of :class:`fam_lib.Explanation`.
    """
    rows = [find_method(method) if isinstance(method, str) else method for method in methods]
    folder = context.folder("maps")
    device = next(model.parameters()).device
    seen_by = [*network_parts(model, queries), layer or "", baseline, context.seed]
    explained = model.layer if layer is None else resolve_layer(model, layer)
    parts = torch.arange(len(queries)).split(MAP_SHARD)

    def files_of(numbers: Tensor) -> dict[str, Path]:
        images = fingerprint(queries.image_set.subset(numbers))
        compared = fingerprint(queries.gallery_set.subset(queries.best[numbers, other]))
        references = [compared if row.reference == "other" else None for row in rows]
        names = [key(*seen_by, row.name, images, reference) for row, reference in zip(rows, references, strict=True)]
        return {row.name: folder / f"{name}.pt" for row, name in zip(rows, names, strict=True)}

    def make(shard: int) -> None:
        numbers = parts[shard]
        missing = [row for row in rows if not files[shard][row.name].exists()]
        if not missing:  # someone else was faster
            return
        made = explain_all(
            model, queries.images[numbers].to(device), missing, explained, seed=context.seed,
            other=queries.gallery[queries.best[numbers, other]].to(device), classifier=model.head,
            baseline=baselines(model)[baseline],
        )  # fmt: skip
        for name, explanation in made.items():
            shards.save(files[shard][name], explanation.cam.cpu())

    files = [files_of(numbers) for numbers in parts]
    shards.make_missing([list(named.values()) for named in files], make, "maps", context)
    return {row.name: torch.cat([shards.load(named[row.name]) for named in files]) for row in rows}


def network_parts(model: ReidModel, queries: Queries) -> list:
    """What a key says about the network and its input."""
    return [CODE_VERSION, state_digest(model), model.feature, *queries.images.shape[-2:]]


def saliencies(maps: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """The raw maps (Q, h, w) of each method as saliency (Q, H, W) in [0, 1]."""
    return {name: to_saliency(cam, size, _is_normalised(name)) for name, cam in maps.items()}


def _is_normalised(method: str) -> bool:
    return method not in METHODS or METHODS[method].normalise


# ---- results ------------------------------------------------------------------------------------------

# A rule says which pixels of an image are kept: saliency (n, H, W) in [0, 1] -> mask (n, H, W) in [0, 1].
Rule = Callable[[Tensor], Tensor]

EQ14 = "eq14"
STEPS = tuple(range(10, 100, 10))  # percent of the pixels, of the insertion and deletion curves


def _insert(percent: int) -> Rule:
    return lambda saliency: top_share_mask(saliency, percent / 100)


def _delete(percent: int) -> Rule:
    return lambda saliency: 1 - top_share_mask(saliency, percent / 100)


AREAS = tuple(str(round(100 * share)) for share in EQUAL_AREAS)
RULES: dict[str, Rule] = {
    EQ14: explanation_mask,
    **{str(percent): _insert(percent) for percent in STEPS},
    **{f"without {percent}": _delete(percent) for percent in STEPS},
}


def score_queries(
    model: ReidModel,
    queries: Queries,
    maps: Mapping[str, Tensor],
    rules: Mapping[str, Rule] = RULES,
    context: Context = ALONE,
    *,
    baseline: str = BLURRED,
) -> pd.DataFrame:
    """Retrieve with every explanation map of every query, resumable.

    For each rule the pixels that it keeps of the saliency stay, the rest is replaced by the baseline, and the
    result E is sent through the network and ranks the gallery, like the image X and the baseline image B.

    Args:
        model: the network.
        queries: whose maps these are.
        maps: method -> (Q, h, w), from :func:`explain_queries`.
        rules: name -> which pixels are kept; the cache knows them by their names.
        context: where and how to compute.
        baseline: a name of :func:`baselines`.

    Returns:
        One row for each method, rule and query, with

        - method, keep (the rule), query (the file's name), flat (the map has no variation);
        - area: share of the pixels that is kept; cosine: of f(E) to f(X); cosine_b: of f(B) to f(X);
        - as_x, as_e, as_b: mean similarity of X, E, B to the true matches (Eq. 15);
        - ap_x, ap_e, ap_b and trapezoid_x, trapezoid_e, trapezoid_b: the two average precisions (Eq. 16, 17).
          A query without a true match has NaN.
    """
    folder = context.folder("results")
    seen_by = [*network_parts(model, queries), baseline, list(rules), queries.gallery_fingerprint]
    parts = torch.arange(len(queries)).split(SCORE_SHARD)
    images = [fingerprint(queries.image_set.subset(numbers)) for numbers in parts]
    work = [(name, numbers, of_part) for name in maps for numbers, of_part in zip(parts, images, strict=True)]
    files = [
        folder / f"{key(*seen_by, _is_normalised(name), of_part, maps[name][numbers].numpy().tobytes())}.csv"
        for name, numbers, of_part in work
    ]

    # Once for all shards: to normalise a large gallery takes longer than the forwards of a few queries.
    gallery = unit_rows("gallery's", queries.gallery.to(next(model.parameters()).device))

    def make(shard: int) -> None:
        name, numbers, _ = work[shard]
        if files[shard].exists():  # two methods with the same map share a file
            return
        frame = _score_shard(model, queries.subset(numbers), gallery, maps[name][numbers], name, rules, baseline)
        with atomic_path(files[shard]) as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")

    shards.make_missing([[path] for path in files], make, "results", context)
    # What was just written is read again, so that a run gives the same digits the second time.
    frames = [
        _read_results(path, len(rules) * len(numbers)).assign(method=name)
        for path, (name, numbers, _) in zip(files, work, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _read_results(path: Path, n_rows: int) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype={"keep": str, "query": str, "flat": bool})
    except ValueError as error:
        raise shards.damaged(path) from error
    if len(frame) != n_rows:
        raise shards.damaged(path)
    return frame


def _score_shard(
    model: ReidModel,
    queries: Queries,
    gallery: Tensor,
    cams: Tensor,
    method: str,
    rules: Mapping[str, Rule],
    baseline: str,
) -> pd.DataFrame:
    """The results of one method on a few queries; the gallery's features (G, D) have length 1."""
    images = queries.images.to(gallery.device)
    saliency = saliencies({method: cams.to(gallery.device)}, images.shape[-2:])[method]
    blank = baselines(model)[baseline](images)
    masks = {name: rule(saliency) for name, rule in rules.items()}
    # One forward and one product for each of X, B and the E, all of the same shape: E = X then gives equal bits.
    features = [extract(model, x) for x in (images, blank, *(blend(images, blank, m) for m in masks.values()))]
    n, times = len(queries), len(features)
    similarity = torch.cat([inner_products(unit_rows("query's", f), gallery) for f in features])
    ranking = rank(similarity, queries.labels.of_queries(torch.arange(n).repeat(times)))
    x, b, *e = (_scores(ranking, slice(start, start + n)) for start in range(0, n * times, n))
    cosines = [torch.cosine_similarity(features[0], f).cpu() for f in features[1:]]
    shared = {f"{name}_{suffix}": v for suffix, values in (("x", x), ("b", b)) for name, v in values.items()}
    frames = []
    for rule, scores, cosine in zip(masks, e, cosines[1:], strict=True):
        columns = {
            "area": retained_area(masks[rule]),
            "cosine": cosine,
            "cosine_b": cosines[0],
            **shared,
            **{f"{name}_e": values for name, values in scores.items()},
        }
        frame = pd.DataFrame({name: values.double().numpy() for name, values in columns.items()})
        names = [path.name for path in queries.image_set.paths]
        frames.append(frame.assign(keep=rule, query=names, flat=is_flat(cams).numpy()))
    return pd.concat(frames, ignore_index=True)


def _scores(ranking: Ranking, part: slice) -> dict[str, Tensor]:
    return {
        "as": ranking.match_similarity[part],
        "ap": ranking.ap[part],
        "trapezoid": ranking.ap_trapezoid[part],
    }
