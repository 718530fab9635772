"""The evaluation run behind Table 2: every method on every query, and what is left of the retrieval.

The maps are the expensive part. They are written to the cache in shards of a few queries as they are made,
named by a key of the weights, the method, the images and the parameters, so that a run that was killed goes
on where it stopped. Everything behind the maps takes seconds and is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fam_lib import paths
from fam_lib.capture import evaluating
from fam_lib.explain import METHODS, Explainer, Method, find_method, is_flat, to_saliency
from fam_lib.faithfulness import Faithfulness, compare, retained_area
from fam_lib.masking import blend, explanation_mask, gaussian_blur
from fam_lib.randomize import state_digest
from fam_lib.reid.data import ImageSet, ReidData, load_images, normalise
from fam_lib.reid.features import extract_features
from fam_lib.reid.model import ReidModel
from fam_lib.retrieval import ApKind, Ranking, cosine_similarity, evaluate, top_gallery
from fam_lib.store import atomic_path, key, sha256

CODE_VERSION = 2  # count up when a change of the code changes the maps: it is part of every cache key
SHARD = 4  # queries in one file of the cache: what a killed run loses at most
BATCH = 32  # explanation maps in one forward

TABLE2_METHODS = (
    *("grad-cam", "score-cam", "ram", "cg-ram", "grad-ram", "grad-fam", "score-fam"),
    *("uniform", "random-weights", "random-map", "centre-prior", "all-ones"),
)


@dataclass(frozen=True, eq=False)
class Queries:
    """The images that are explained, and what the methods and metrics need beside them.

    Attributes:
        image_set: Q query images.
        images: (Q, 3, H, W) normalised.
        features: (Q, D), f(X).
        gallery_set: G gallery images.
        gallery: (G, D), their features.
        best: (Q, k) positions in the gallery of the rank list after the same-camera rule.
        ranking: of the Q originals against the gallery.
    """

    image_set: ImageSet
    images: Tensor
    features: Tensor
    gallery_set: ImageSet
    gallery: Tensor
    best: Tensor
    ranking: Ranking

    def __len__(self) -> int:
        return len(self.image_set)

    def rank(self, features: Tensor) -> Ranking:
        """Rank the gallery by other features (Q, D) of the same queries."""
        return evaluate(
            features, self.image_set.ids, self.image_set.cams,
            self.gallery, self.gallery_set.ids, self.gallery_set.cams,
        )  # fmt: skip

    def similarities(self, index: int) -> Tensor:
        """Cosine of one query to the images of its rank list -> (k,)."""
        return cosine_similarity(self.features[index : index + 1], self.gallery[self.best[index]])[0]

    def reference(self, method: Method) -> Tensor | None:
        """The reference of Section 4.1: the rank-1 gallery image for the RAM family, else the method's own."""
        return self.gallery[self.best[:, 0]] if method.reference == "other" else None


def choose(image_set: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """A seeded sample of n images in the set's order; all of them if n is 0.

    Raises:
        ValueError: n is negative or larger than the set.
    """
    if not 0 <= n <= len(image_set):
        raise ValueError(f"n_queries must lie in 0..{len(image_set)} (0: all of them), got {n}")
    if n == 0:
        return image_set
    drawn = torch.randperm(len(image_set), generator=torch.Generator().manual_seed(seed))[:n]
    return image_set.subset(drawn.sort().values)


def load_queries(
    model: ReidModel, data: ReidData, size: tuple[int, int], n: int = 0, seed: int = 0, top: int = 10
) -> Queries:
    """Choose n queries of a data set (0: all) and rank the whole gallery for them.

    Args:
        model: the Re-ID network.
        data: queries and gallery.
        size: (H, W) of the network's input.
        n: number of queries, drawn with the seed.
        seed: of the draw.
        top: length of the rank lists.
    """
    image_set = choose(data.query, n, seed)
    features = extract_features(model, image_set, size)
    gallery = extract_features(model, data.gallery, size)
    labels = (image_set.ids, image_set.cams, data.gallery.ids, data.gallery.cams)
    return Queries(
        image_set=image_set,
        images=normalise(load_images(image_set.paths, size), model.mean, model.std),
        features=features,
        gallery_set=data.gallery,
        gallery=gallery,
        best=top_gallery(cosine_similarity(features, gallery), *labels, k=top),
        ranking=evaluate(features, *labels[:2], gallery, *labels[2:]),
    )


# ---- maps ---------------------------------------------------------------------------------------------


def explain_queries(
    model: ReidModel,
    queries: Queries,
    methods: Sequence[str] = TABLE2_METHODS,
    cache: Path | None = None,
    progress: bool = True,
    **options: object,
) -> dict[str, Tensor]:
    """The raw map of every query by every method, resumable.

    Args:
        model: the network; class targets are read off its identity classifier.
        queries: what to explain.
        methods: names of :data:`fam_lib.METHODS`.
        cache: folder of the shards; None is the workbook's cache.
        progress: show a progress bar with the time left on stderr.
        options: of the explainer, for instance ``precision``; they are part of the shards' key.

    Returns:
        method -> (Q, h, w), the `cam` of :class:`fam_lib.Explanation`.
    """
    rows = [find_method(name) for name in methods]
    seen_by = (state_digest(model), model.feature, list(queries.images.shape[1:]))
    folder = (cache or paths.CACHE) / "maps"
    names = {name: str(value) for name, value in options.items()}
    maps: dict[str, list[Tensor]] = {method.name: [] for method in rows}
    with tqdm(total=len(rows) * len(queries), desc="maps", unit="map", disable=not progress) as bar:
        for method in rows:
            explainer = _explainer(model, method, **options)
            for part in _shards(len(queries)):
                images = [sha256(path) for path in queries.image_set.paths[part]]
                reference = queries.reference(method)
                own = None if reference is None else reference[part]
                seen = b"" if own is None else own.numpy().tobytes()
                path = folder / f"{key(CODE_VERSION, *seen_by, method.name, images, seen, names)}.pt"
                maps[method.name].append(_shard(path, lambda e=explainer, p=part, r=own: e(queries.images[p], r).cam))
                bar.update(len(images))
    return {name: torch.cat(parts) for name, parts in maps.items()}


def _explainer(model: ReidModel, method: Method, **options: object) -> Explainer:
    network = model.as_classifier() if method.reference == "class" else model
    return Explainer(network, method, model.layer, **options)


def _shards(total: int) -> Iterator[slice]:
    return (slice(start, min(start + SHARD, total)) for start in range(0, total, SHARD))


def _shard(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """The maps in a file of the cache, computed first if it is not there."""
    if not path.exists():
        cam = compute()
        with atomic_path(path) as temporary:
            torch.save(cam.cpu(), temporary)
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} in the cache is damaged ({error}): delete it and run again") from error


def saliencies(maps: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """The raw maps (Q, h, w) of each method as saliency (Q, H, W) in [0, 1]."""
    return {name: to_saliency(cam, size, METHODS[name].normalise) for name, cam in maps.items()}


def figure1(model: ReidModel, data: ReidData, queries: Queries, index: int = 0) -> dict[str, object]:
    """What Figure 1 shows of one query: the arguments of :func:`fam_lib.plots.fig1_motivation`.

    Score-CAM is asked for the three training identities with the highest confidence, RAM for the three best
    gallery images; every training identity is shown by its first image.
    """
    x, size = queries.images[index : index + 1], queries.images.shape[-2:]
    classifier = model.as_classifier()
    with torch.inference_mode(), evaluating(classifier):
        confidence, classes = classifier(x).softmax(1)[0].topk(3)
    best = queries.best[index, :3]
    three = x.expand(3, -1, -1, -1)
    score_cam = Explainer(classifier, "score-cam", model.layer)(three, classes.clone()).saliency
    ram = Explainer(model, "ram", model.layer)(three, queries.gallery[best]).saliency
    identities = data.train.ids.unique()[classes.cpu()]
    shown = [int((data.train.ids == identity).nonzero()[0]) for identity in identities]
    labels = [f"identity {i}, {c:.0%}" for i, c in zip(identities.tolist(), confidence.tolist(), strict=True)]
    same = (queries.gallery_set.ids[best] == queries.image_set.ids[index]).tolist()
    ranks = [f"rank {rank}, {'same' if ok else 'other'} person" for rank, ok in enumerate(same, start=1)]
    train, gallery = data.train.subset(shown), queries.gallery_set.subset(best)
    return {
        "query": load_images(queries.image_set.subset([index]).paths, size)[0],
        "score_fam": Explainer(model, "score-fam", model.layer)(x).saliency[0],
        "identities": list(zip(load_images(train.paths, size), labels, score_cam, strict=True)),
        "gallery": list(zip(load_images(gallery.paths, size), ranks, ram, strict=True)),
    }


# ---- metrics ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MethodScores:
    """What the explanation maps of one method are worth, query by query.

    Attributes:
        faithfulness: Eq. 15-17.
        area: (Q,) retained area of the explanation masks, in [0, 1].
        flat: (Q,) bool, maps without any variation, whose explanation map is the baseline.
    """

    faithfulness: Faithfulness
    area: Tensor
    flat: Tensor


def score_maps(
    model: ReidModel,
    queries: Queries,
    maps: Mapping[str, Tensor],
    ap: ApKind = "standard",
    mask: Callable[[Tensor], Tensor] = explanation_mask,
) -> dict[str, MethodScores]:
    """Eq. 15-17 and the retained area of each method's explanation maps.

    Args:
        model: the network.
        queries: whose maps these are.
        maps: method -> (Q, h, w), from :func:`explain_queries`.
        ap: which average precision.
        mask: saliency (Q, H, W) -> mask of what is kept; Eq. 14 unless told otherwise.

    Returns:
        method -> MethodScores.
    """
    baseline = gaussian_blur(queries.images)
    features_b = _features(model, baseline)
    # The originals go through the same batches as E and B: E = X must give exactly equal features.
    ranking_x, ranking_b = queries.rank(_features(model, queries.images)), queries.rank(features_b)
    scores = {}
    for name, saliency in saliencies(maps, queries.images.shape[-2:]).items():
        masks = mask(saliency)
        ranking_e = queries.rank(_features(model, blend(queries.images, baseline, masks)))
        faithfulness = compare(ranking_x, ranking_e, ranking_b, ap=ap)
        scores[name] = MethodScores(faithfulness, retained_area(masks), is_flat(maps[name]))
    return scores


@torch.inference_mode()
def _features(model: ReidModel, images: Tensor) -> Tensor:
    device = next(model.parameters()).device
    with evaluating(model):
        return torch.cat([model(part.to(device)).float().cpu() for part in images.split(BATCH)])
