"""Retrieval: rank a gallery for each query by similarity, and score the ranking.

The protocol is that of Market1501. For every query the gallery images that show the same identity in the
same camera are removed; images of the same identity in another camera are its true matches; everything else
is a negative. Identity 0 (distractors) needs no rule, since no query carries it; identity -1 (junk) is
removed for every query.

A query has few matches, so no ranking is written out: the gallery's similarities to the query are sorted as
bare values, and a binary search for each match counts the images above it. Images with equal similarity share
one threshold, as in scikit-learn: the precision at a match of similarity s is (matches with similarity >= s) /
(images with similarity >= s). So no score depends on the order of the gallery, and a ranking of ties alone is
worth the share of matches, not a lucky 1.

Results are small per-query vectors; they are float64 or int64 and always on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fam_lib.features import check_matrix, common_dtype, inner_products, unit_rows

JUNK_ID = -1
"""Identity of gallery boxes that show no whole person; they are neither matches nor negatives."""

BLOCK_ENTRIES = 2_000_000
"""Similarities held at once (queries in a block times gallery): 8 MB in float32, near a CPU's cache."""

Integers = Tensor | Sequence[int]
ApKind = Literal["standard", "trapezoid"]


@dataclass(frozen=True, eq=False)
class Labels:
    """Who is on Q query and G gallery images, and which camera took them; kept as int64 tensors.

    Attributes:
        query_ids: (Q,) integer identities.
        query_cams: (Q,) integer cameras.
        gallery_ids: (G,) integer identities; 0 distractor, -1 junk.
        gallery_cams: (G,) integer cameras.

    Raises:
        TypeError: identities or cameras are not integers.
        ValueError: one of them is not one-dimensional, or identities and cameras disagree in length.
    """

    query_ids: Integers
    query_cams: Integers
    gallery_ids: Integers
    gallery_cams: Integers

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _integers(field.name, getattr(self, field.name)))
        for who in ("query", "gallery"):
            ids, cams = getattr(self, f"{who}_ids"), getattr(self, f"{who}_cams")
            if len(ids) != len(cams):
                raise ValueError(f"{who}_ids has {len(ids)} entries but {who}_cams has {len(cams)}")

    def to(self, device: torch.device) -> Labels:
        """The labels on a device."""
        return Labels(*(getattr(self, field.name).to(device) for field in fields(self)))

    def of_queries(self, chosen: slice | Tensor) -> Labels:
        """The labels of some queries against the whole gallery; a tensor may repeat queries."""
        return replace(self, query_ids=self.query_ids[chosen], query_cams=self.query_cams[chosen])


def _integers(name: str, values: Integers) -> Tensor:
    tensor = torch.as_tensor(values)
    if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        raise TypeError(f"{name} must be integers, got {tensor.dtype}")
    if tensor.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {tuple(tensor.shape)}")
    return tensor.long()


@dataclass(frozen=True)
class Ranking:
    """Scores of Q queries against one gallery, after the same-camera rule.

    A query without a true match has NaN in the floating fields and 0 in the integer ones.

    Attributes:
        ap: (Q,) float64 in [0, 1], average precision: the mean over matches of the precision at the match.
        ap_trapezoid: (Q,) float64 in [0, 1], the area under the precision-recall curve by the trapezoid rule,
            with the curve starting at recall 0, precision 1.
        first_match_rank: (Q,) int64, 1 is the top; negatives tied with the best match stand before it.
        n_matches: (Q,) int64, the size of G_q of Eq. 15.
        match_similarity: (Q,) float64, mean similarity of the query to its matches (the AS of Eq. 15).
    """

    ap: Tensor
    ap_trapezoid: Tensor
    first_match_rank: Tensor
    n_matches: Tensor
    match_similarity: Tensor

    def __len__(self) -> int:
        """Number of queries, undefined ones included."""
        return len(self.n_matches)

    @property
    def defined(self) -> Tensor:
        """(Q,) bool, whether the query has a true match."""
        return self.n_matches > 0

    @property
    def n_undefined(self) -> int:
        """Number of queries without a true match; they are left out of every mean."""
        return int((self.n_matches == 0).sum())


@torch.no_grad()
def rank(similarity: Tensor, labels: Labels) -> Ranking:
    """Score the ranking that a similarity matrix gives to each query.

    Args:
        similarity: (Q, G) floating, any finite values, higher is more alike; half precision is widened.
        labels: of queries and gallery.

    Returns:
        The Ranking of the Q queries.

    Raises:
        TypeError: similarity is not a floating tensor.
        ValueError: shapes disagree, the gallery is empty, or a similarity is not finite.
    """
    labels = _labels_of(similarity, labels)
    return _rank_in_blocks(lambda block: _finite_copy(similarity[block]), labels)


@torch.no_grad()
def evaluate(query_features: Tensor, gallery_features: Tensor, labels: Labels) -> Ranking:
    """Score the ranking by cosine similarity of features, without holding the whole similarity matrix.

    Beside its inputs it holds the gallery's unit features and one block, however many queries there are: the
    changed queries of several methods can be stacked into one call.

    Similarities of two block sizes may differ in their last bits, because matrix products of other shapes
    add in another order. Compare rankings (Eq. 16-17) computed with the same blocks.

    Args:
        query_features: (Q, D) floating; need not be normalised.
        gallery_features: (G, D) floating, on the same device.
        labels: of queries and gallery.

    Returns:
        The Ranking of the Q queries.

    Raises:
        TypeError: features are not floating tensors.
        ValueError: shapes disagree, the gallery is empty, or a feature is not finite.
    """
    dtype = common_dtype(query_features, gallery_features)
    labels = labels.to(query_features.device)
    _check_sizes(labels, len(query_features), len(gallery_features), "the features have")
    gallery = unit_rows("second", gallery_features, dtype)
    return _rank_in_blocks(
        lambda block: inner_products(unit_rows("first", query_features[block], dtype), gallery), labels
    )


def matches(labels: Labels) -> Tensor:
    """Which gallery images are true matches of which query: same identity, another camera, not junk -> (Q, G) bool."""
    same_id = labels.query_ids[:, None] == labels.gallery_ids
    return same_id & (labels.query_cams[:, None] != labels.gallery_cams) & (labels.gallery_ids != JUNK_ID)


@torch.no_grad()
def top_gallery(similarity: Tensor, labels: Labels, k: int = 1) -> Tensor:
    """The k best gallery images of each query after the same-camera rule, best first.

    Images with equal similarity stand in the order of the gallery.

    Args:
        similarity: (Q, G) floating and finite.
        labels: of queries and gallery.
        k: length of the rank list.

    Returns:
        (Q, k) int64 indices into the gallery, on the CPU.

    Raises:
        TypeError: as `rank`.
        ValueError: as `rank`; or k < 1; or a query has fewer than k images left after the rule.
    """
    labels = _labels_of(similarity, labels)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    by_id = labels.gallery_ids.sort(stable=True)
    lists = [torch.empty(0, k, dtype=torch.int64)]
    for block in _blocks(labels):
        own = _own_images(labels.of_queries(block), *by_id)
        left = _without_removed(_finite_copy(similarity[block]), own, labels.gallery_ids)
        _check_enough_left(left, k, first_query=block.start)
        lists.append(_stable_top(left, k).cpu())
    return torch.cat(lists)


def mean_ap(ranking: Ranking, ap: ApKind = "standard") -> float:
    """Mean average precision over the queries that have a match.

    Args:
        ranking: what `rank` or `evaluate` returned.
        ap: "standard" or "trapezoid", see `Ranking`.

    Returns:
        mAP in [0, 1].

    Raises:
        ValueError: ap is neither of the two, or no query has a match.
    """
    return float(average_precision(ranking, ap)[_defined(ranking)].mean())


def average_precision(ranking: Ranking, ap: ApKind = "standard") -> Tensor:
    """The (Q,) average precisions of the kind asked for.

    Raises:
        ValueError: ap is neither "standard" nor "trapezoid".
    """
    kinds = {"standard": ranking.ap, "trapezoid": ranking.ap_trapezoid}
    if ap not in kinds:
        raise ValueError(f"ap must be one of {sorted(kinds)}, got {ap!r}")
    return kinds[ap]


def cmc(ranking: Ranking, ranks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Cumulative match characteristic: the share of queries whose first match stands at rank r or better.

    Args:
        ranking: what `rank` or `evaluate` returned.
        ranks: ranks r >= 1.

    Returns:
        For each r, a share in [0, 1] of the queries that have a match.

    Raises:
        ValueError: a rank is below 1, or no query has a match.
    """
    if any(r < 1 for r in ranks):
        raise ValueError(f"ranks must be at least 1, got {tuple(ranks)}")
    first = ranking.first_match_rank[_defined(ranking)]
    return {int(r): float((first <= r).double().mean()) for r in ranks}


def _defined(ranking: Ranking) -> Tensor:
    if not ranking.defined.any():
        raise ValueError(
            f"none of the {len(ranking)} queries has a match in another camera, so there is nothing to "
            f"average; check that ids and cameras of query and gallery are passed in the right order"
        )
    return ranking.defined


# --- labels and the same-camera rule ------------------------------------------------------------------------


def _labels_of(similarity: Tensor, labels: Labels) -> Labels:
    """The labels on the device of the matrix that they belong to."""
    check_matrix("similarity", similarity)
    labels = labels.to(similarity.device)
    _check_sizes(labels, *similarity.shape, "similarity has")
    return labels


def _check_sizes(labels: Labels, n_queries: int, n_gallery: int, who: str) -> None:
    for name, ids, size in (
        ("query", labels.query_ids, n_queries),
        ("gallery", labels.gallery_ids, n_gallery),
    ):
        if len(ids) != size:
            raise ValueError(f"{who} {size} {name} images but {name}_ids has {len(ids)} entries")
    if n_gallery == 0:
        raise ValueError("the gallery is empty: there is nothing to rank")


class _OwnImages(NamedTuple):
    """The gallery images of each query's identity, padded to the M images of the most frequent one.

    Attributes:
        images: (Q, M) int64, indices into the gallery; anything in the padding.
        matched: (Q, M) bool, the true matches; False in the padding.
        removed: (Q, M) bool, the images of the query's own camera; False in the padding.
    """

    images: Tensor
    matched: Tensor
    removed: Tensor


def _own_images(labels: Labels, sorted_ids: Tensor, order: Tensor) -> _OwnImages:
    """Look the queries' identities up; sorted_ids are the gallery's, and order says whose they are."""
    start = torch.searchsorted(sorted_ids, labels.query_ids)
    count = torch.searchsorted(sorted_ids, labels.query_ids, right=True) - start
    count = count.masked_fill(labels.query_ids == JUNK_ID, 0)
    slots = torch.arange(max(1, int(count.max())), device=order.device)
    images = order[(start[:, None] + slots).clamp_max(len(order) - 1)]
    own, same_camera = slots < count[:, None], labels.gallery_cams[images] == labels.query_cams[:, None]
    return _OwnImages(images, own & ~same_camera, own & same_camera)


def _without_removed(similarity: Tensor, own: _OwnImages, gallery_ids: Tensor) -> Tensor:
    """Overwrite the (Q, G) similarities of junk and of the query's own camera by -inf, in place."""
    rows, slots = own.removed.nonzero(as_tuple=True)
    similarity[rows, own.images[rows, slots]] = -torch.inf
    return similarity.index_fill_(1, (gallery_ids == JUNK_ID).nonzero().flatten(), -torch.inf)


def _finite_copy(similarity: Tensor) -> Tensor:
    if not torch.stack(similarity.aminmax()).isfinite().all():  # aminmax hands NaN on
        raise ValueError("similarity holds NaN or infinite values; check the features for overflow")
    dtype = torch.promote_types(similarity.dtype, torch.float32)
    return similarity.to(dtype, copy=True, memory_format=torch.contiguous_format)


def _blocks(labels: Labels) -> Iterator[slice]:
    n_queries, n_gallery = len(labels.query_ids), len(labels.gallery_ids)
    size = max(1, BLOCK_ENTRIES // n_gallery)
    return (slice(start, min(start + size, n_queries)) for start in range(0, n_queries, size))


# --- counting -----------------------------------------------------------------------------------------------


def _rank_in_blocks(similarity_of: Callable[[slice], Tensor], labels: Labels) -> Ranking:
    """The Ranking of all queries; similarity_of gives the (Q, G) of a block, to be overwritten."""
    by_id = labels.gallery_ids.sort(stable=True)
    empty = torch.empty(0, dtype=torch.float64)
    parts = [Ranking(empty, empty, empty.long(), empty.long(), empty)]
    for block in _blocks(labels):
        own = _own_images(labels.of_queries(block), *by_id)
        parts.append(_rank_block(similarity_of(block), own, labels.gallery_ids))
    return Ranking(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Ranking)))


def _rank_block(similarity: Tensor, own: _OwnImages, gallery_ids: Tensor) -> Ranking:
    """The Ranking of one block; similarity is (Q, G) and overwritten."""
    n_gallery = similarity.shape[1]
    match_values = similarity.gather(1, own.images)
    # No image reaches +inf, and -inf reaches no match: padding and removed images never count.
    thresholds = match_values.masked_fill(~own.matched, torch.inf)
    matches_ge, matches_gt = _count_above(match_values.masked_fill(~own.matched, -torch.inf), thresholds)
    images_ge, images_gt = _count_above(_without_removed(similarity, own, gallery_ids), thresholds)

    # From here on the tensors are tiny: to the CPU, where every machine has float64.
    match_values, matched, images_ge, images_gt, matches_ge, matches_gt = (
        x.cpu() for x in (match_values, own.matched, images_ge, images_gt, matches_ge, matches_gt)
    )
    n = matched.sum(1)
    precision = matches_ge / images_ge.double()
    precision_before = torch.where(images_gt > 0, matches_gt / images_gt.double(), 1.0)
    negatives_ge = (images_ge - matches_ge).masked_fill(~matched, n_gallery)
    return Ranking(
        ap=_mean_over(matched, precision),
        ap_trapezoid=_mean_over(matched, (precision + precision_before) / 2),
        first_match_rank=torch.where(n > 0, 1 + negatives_ge.amin(1), 0),
        n_matches=n,
        match_similarity=_mean_over(matched, match_values.double()),
    )


def _count_above(values: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """How many values of the same row are >= and > each threshold.

    Args:
        values: (Q, G), may hold -inf; overwritten.
        thresholds: (Q, M), +inf where there is none.

    Returns:
        Two (Q, M) int64 tensors.
    """
    ascending = _sort_rows(values)
    below = torch.searchsorted(ascending, thresholds)
    not_above = torch.searchsorted(ascending, thresholds, right=True)
    return values.shape[1] - below, values.shape[1] - not_above


def _sort_rows(values: Tensor) -> Tensor:
    """Each row in ascending order; CPU tensors are sorted in place."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    values.numpy().sort(axis=1)  # vectorised: 20 to 40 times faster than torch's on a CPU
    return values


def _mean_over(chosen: Tensor, values: Tensor) -> Tensor:
    """(Q,) mean of the chosen values of each row; NaN where a row has none."""
    # A running sum adds from left to right, so that the padding of a block cannot change the last bit.
    return values.masked_fill(~chosen, 0).cumsum(1)[:, -1] / chosen.sum(1)


# --- rank lists ---------------------------------------------------------------------------------------------


def _check_enough_left(values: Tensor, k: int, first_query: int) -> None:
    left = (values > -torch.inf).sum(1)
    short = (left < k).nonzero().flatten()
    if len(short):
        raise ValueError(
            f"k is {k}, but query {first_query + int(short[0])} has only {int(left[short[0]])} "
            f"gallery images left after the same-camera rule"
        )


def _stable_top(values: Tensor, k: int) -> Tensor:
    """(Q, k) indices of the k largest values of each row, largest first, ties in index order."""
    threshold = values.topk(k, dim=1).values[:, -1:]
    above = values > threshold
    tied = values == threshold
    chosen = above | (tied & (tied.cumsum(1) <= k - above.sum(1, keepdim=True)))
    indices = chosen.nonzero()[:, 1].view(-1, k)
    return indices.gather(1, values.gather(1, indices).argsort(dim=1, descending=True, stable=True))
