"""The queries of an evaluation: images, features, rank lists, and the gallery that they are looked for in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fam_lib.features import cosine_similarity
from fam_lib.retrieval import Labels, Ranking, evaluate, top_gallery
from workbook.cache.context import Context
from workbook.cache.digests import state_digest
from workbook.cache.shards import QUIET, remember
from workbook.cache.store import key, sha256
from workbook.images import load_images, normalise
from workbook.reid.data import ImageSet, ReidData
from workbook.reid.features import extract_features
from workbook.reid.model import ReidModel

CODE_VERSION = 1  # count up when a change of the code changes features: it is part of their cache keys
FEATURE_SHARD = 128  # images in one file of features: whole batches of `extract_features`


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

    @property
    def labels(self) -> Labels:
        """Who is on queries and gallery images, and which camera took them."""
        return Labels(self.image_set.ids, self.image_set.cams, self.gallery_set.ids, self.gallery_set.cams)

    @cached_property
    def gallery_fingerprint(self) -> str:
        """What the queries are ranked against, in one word."""
        return key(fingerprint(self.gallery_set))

    def subset(self, positions: Tensor) -> Queries:
        """The queries at these positions (n,)."""
        ranking = Ranking(*(values[positions] for values in vars(self.ranking).values()))
        return Queries(
            self.image_set.subset(positions), self.images[positions], self.features[positions],
            self.gallery_set, self.gallery, self.best[positions], ranking,
        )  # fmt: skip

    def similarities(self, index: int) -> Tensor:
        """Cosine of one query to the images of its rank list -> (k,)."""
        return cosine_similarity(self.features[index : index + 1], self.gallery[self.best[index]])[0]


def fingerprint(image_set: ImageSet) -> list[list]:
    """What images are, as part of a key: names, contents, identities, cameras.

    Features would not do: their last bits depend on the device and on the number of threads.
    """
    names, contents = [path.name for path in image_set.paths], [sha256(path) for path in image_set.paths]
    return [names, contents, image_set.ids.tolist(), image_set.cams.tolist()]


def choose(image_set: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """A seeded sample of n images in the set's order; all of them if n is 0.

    Raises:
        ValueError: n is negative or larger than the set.
    """
    return image_set.subset(draw(len(image_set), n, seed))


def draw(total: int, n: int, seed: int = 0) -> Tensor:
    """n different positions below `total`, in order; all of them if n is 0.

    Raises:
        ValueError: n is negative or larger than `total`.
    """
    if not 0 <= n <= total:
        raise ValueError(f"n_queries must lie in 0..{total} (0: all of them), got {n}")
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[: n or total].sort().values


def load_queries(
    model: ReidModel,
    data: ReidData,
    size: tuple[int, int],
    n: int = 0,
    seed: int = 0,
    top: int = 10,
) -> Queries:
    """Choose n queries of a data set (0: all) and rank the whole gallery for them; nothing is kept.

    Args:
        model: the Re-ID network.
        data: queries and gallery.
        size: (H, W) of the network's input.
        n: number of queries, drawn with the seed.
        seed: of the draw.
        top: length of the rank lists.
    """
    return look_up(model, choose(data.query, n, seed), data.gallery, size, top)


def look_up(
    model: ReidModel,
    query: ImageSet,
    gallery: ImageSet,
    size: tuple[int, int],
    top: int = 10,
    context: Context | None = None,
) -> Queries:
    """Rank a gallery for some queries; see :func:`load_queries`. Without a context no feature is kept."""
    features, gallery_features = (_features(model, part, size, context) for part in (query, gallery))
    labels = Labels(query.ids, query.cams, gallery.ids, gallery.cams)
    return Queries(
        image_set=query,
        images=normalise(load_images(query.paths, size), model.mean, model.std),
        features=features,
        gallery_set=gallery,
        gallery=gallery_features,
        best=top_gallery(cosine_similarity(features, gallery_features), labels, k=top),
        ranking=evaluate(features, gallery_features, labels),
    )


def _features(model: ReidModel, image_set: ImageSet, size: tuple[int, int], context: Context | None) -> Tensor:
    """(N, D) of :func:`workbook.reid.features.extract_features`; with a context shared and resumable."""
    seen_by = [CODE_VERSION, state_digest(model), model.feature, *size]
    return remember(
        context and context.folder("features"),
        len(image_set),
        FEATURE_SHARD,
        lambda numbers: key(*seen_by, fingerprint(image_set.subset(numbers))),
        lambda numbers: extract_features(model, image_set.subset(numbers), size),
        "features",
        context or QUIET,
    )
