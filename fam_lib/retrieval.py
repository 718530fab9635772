"""Retrieval: rank a gallery for each query by similarity, and score the ranking.

The protocol is that of Market1501. For every query the gallery images that show the same identity in the
same camera are removed; images of the same identity in another camera are its true matches; everything else
is a negative. Identity 0 (distractors) needs no rule, since no query carries it; identity -1 (junk) is
removed for every query.

Ranks are counted, not sorted: a query has few matches, so it is enough to count the gallery images above
each of them. Images with equal similarity share one threshold, as in scikit-learn: the precision at a match
of similarity s is (matches with similarity >= s) / (images with similarity >= s). So no score depends
on the order of the gallery, and a ranking of ties alone is worth the share of matches, not a lucky 1.

Results are small per-query vectors; they are float64 or int64 and always on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

JUNK_ID = -1
"""Identity of gallery boxes that show no whole person; they are neither matches nor negatives."""

BLOCK_ENTRIES = 4_000_000
"""Similarities held at once by default (queries in a block times gallery); about 200 MB with work space."""

Labels = Tensor | Sequence[int]
ApKind = Literal["standard", "trapezoid"]


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
def rank(
    similarity: Tensor,
    query_ids: Labels,
    query_cams: Labels,
    gallery_ids: Labels,
    gallery_cams: Labels,
    *,
    block_size: int | None = None,
) -> Ranking:
    """Score the ranking that a similarity matrix gives to each query.

    Args:
        similarity: (Q, G) floating, any finite values, higher is more alike; half precision is widened.
        query_ids: (Q,) integer identities.
        query_cams: (Q,) integer cameras.
        gallery_ids: (G,) integer identities; 0 distractor, -1 junk.
        gallery_cams: (G,) integer cameras.
        block_size: queries handled at once; None picks it from `BLOCK_ENTRIES`. It never changes the result.

    Returns:
        The Ranking of the Q queries.

    Raises:
        TypeError: similarity is not a floating tensor, or ids or cameras are not integers.
        ValueError: shapes disagree, the gallery is empty, a similarity is not finite, or block_size < 1.
    """
    labels = _labels_of(similarity, query_ids, query_cams, gallery_ids, gallery_cams)
    return _rank_in_blocks(lambda block: similarity[block], labels, block_size)


@torch.no_grad()
def evaluate(
    query_features: Tensor,
    query_ids: Labels,
    query_cams: Labels,
    gallery_features: Tensor,
    gallery_ids: Labels,
    gallery_cams: Labels,
    *,
    block_size: int | None = None,
) -> Ranking:
    """Score the ranking by cosine similarity of features, without holding the whole similarity matrix.

    Similarities of two block sizes may differ in their last bits, because matrix products of other shapes
    add in another order. Compare rankings (Eq. 16-17) computed with the same blocks.

    Args:
        query_features: (Q, D) floating; need not be normalised.
        query_ids: (Q,) integer identities.
        query_cams: (Q,) integer cameras.
        gallery_features: (G, D) floating, on the same device.
        gallery_ids: (G,) integer identities; 0 distractor, -1 junk.
        gallery_cams: (G,) integer cameras.
        block_size: queries handled at once; None picks it from `BLOCK_ENTRIES`.

    Returns:
        The Ranking of the Q queries.

    Raises:
        TypeError: features are not floating tensors, or ids or cameras are not integers.
        ValueError: shapes disagree, the gallery is empty, a feature is not finite, or block_size < 1.
    """
    queries, gallery = _unit_rows(query_features, gallery_features)
    labels = _read_labels(queries.device, query_ids, query_cams, gallery_ids, gallery_cams)
    _check_sizes(labels, len(queries), len(gallery), "the features have")
    return _rank_in_blocks(lambda block: _product(queries[block], gallery), labels, block_size)


@torch.no_grad()
def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every row of a with every row of b, never below float32, whatever autocast says.

    Args:
        a: (Q, D) floating.
        b: (G, D) floating, on the same device. A zero row has cosine 0 with everything.

    Returns:
        (Q, G) float32 (float64 if an input is), in [-1, 1] up to rounding.

    Raises:
        TypeError: an input is not a floating tensor.
        ValueError: an input is not 2-D, the dimensions D disagree, or a feature is not finite.
    """
    return _product(*_unit_rows(a, b))


def matches(query_ids: Labels, query_cams: Labels, gallery_ids: Labels, gallery_cams: Labels) -> Tensor:
    """Which gallery images are true matches of which query: same identity, another camera, not junk.

    Args:
        query_ids: (Q,) integer identities.
        query_cams: (Q,) integer cameras.
        gallery_ids: (G,) integer identities.
        gallery_cams: (G,) integer cameras.

    Returns:
        (Q, G) bool.

    Raises:
        TypeError: ids or cameras are not integers.
        ValueError: ids and cameras disagree in length.
    """
    device = query_ids.device if isinstance(query_ids, Tensor) else torch.device("cpu")
    return _matched_and_removed(_read_labels(device, query_ids, query_cams, gallery_ids, gallery_cams))[0]


@torch.no_grad()
def top_gallery(
    similarity: Tensor,
    query_ids: Labels,
    query_cams: Labels,
    gallery_ids: Labels,
    gallery_cams: Labels,
    k: int = 1,
    *,
    block_size: int | None = None,
) -> Tensor:
    """The k best gallery images of each query after the same-camera rule, best first.

    Images with equal similarity stand in the order of the gallery.

    Args:
        similarity: (Q, G) floating and finite.
        query_ids: (Q,) integer identities.
        query_cams: (Q,) integer cameras.
        gallery_ids: (G,) integer identities.
        gallery_cams: (G,) integer cameras.
        k: length of the rank list.
        block_size: queries handled at once; None picks it from `BLOCK_ENTRIES`.

    Returns:
        (Q, k) int64 indices into the gallery, on the CPU.

    Raises:
        TypeError: as `rank`.
        ValueError: as `rank`; or k < 1; or a query has fewer than k images left after the rule.
    """
    labels = _labels_of(similarity, query_ids, query_cams, gallery_ids, gallery_cams)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    lists = [torch.empty(0, k, dtype=torch.int64)]
    for block in _blocks(labels, block_size):
        _, removed = _matched_and_removed(_take(labels, block))
        _check_enough_left(removed, k, first_query=block.start)
        lists.append(_stable_top(_finite(similarity[block]).masked_fill(removed, -torch.inf), k).cpu())
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


class _Labels(NamedTuple):
    """Identities and cameras of Q queries and G gallery images: int64, on the device of the similarities."""

    query_ids: Tensor
    query_cams: Tensor
    gallery_ids: Tensor
    gallery_cams: Tensor


def _read_labels(device: torch.device, *values: Labels) -> _Labels:
    labels = _Labels(*(_integers(*pair, device) for pair in zip(_Labels._fields, values, strict=True)))
    for ids, cams, who in ((*labels[:2], "query"), (*labels[2:], "gallery")):
        if len(ids) != len(cams):
            raise ValueError(f"{who}_ids has {len(ids)} entries but {who}_cams has {len(cams)}")
    return labels


def _integers(name: str, values: Labels, device: torch.device) -> Tensor:
    tensor = torch.as_tensor(values, device=device)
    if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        raise TypeError(f"{name} must be integers, got {tensor.dtype}")
    if tensor.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {tuple(tensor.shape)}")
    return tensor.long()


def _labels_of(similarity: Tensor, *values: Labels) -> _Labels:
    _check_matrix("similarity", similarity)
    labels = _read_labels(similarity.device, *values)
    _check_sizes(labels, *similarity.shape, "similarity has")
    return labels


def _check_sizes(labels: _Labels, n_queries: int, n_gallery: int, who: str) -> None:
    for name, ids, size in (
        ("query", labels.query_ids, n_queries),
        ("gallery", labels.gallery_ids, n_gallery),
    ):
        if len(ids) != size:
            raise ValueError(f"{who} {size} {name} images but {name}_ids has {len(ids)} entries")
    if n_gallery == 0:
        raise ValueError("the gallery is empty: there is nothing to rank")


def _take(labels: _Labels, block: slice) -> _Labels:
    return labels._replace(query_ids=labels.query_ids[block], query_cams=labels.query_cams[block])


def _matched_and_removed(labels: _Labels) -> tuple[Tensor, Tensor]:
    """Two (Q, G) bool tensors: true matches, and images taken out of the query's gallery."""
    junk = labels.gallery_ids == JUNK_ID
    same_id = (labels.query_ids[:, None] == labels.gallery_ids) & ~junk
    same_cam = labels.query_cams[:, None] == labels.gallery_cams
    return same_id & ~same_cam, (same_id & same_cam) | junk


# --- similarities -------------------------------------------------------------------------------------------


def _check_matrix(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a floating tensor, got {kind}")
    if values.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, got shape {tuple(values.shape)}")


def _finite(similarity: Tensor) -> Tensor:
    if not similarity.isfinite().all():
        raise ValueError("similarity holds NaN or infinite values; check the features for overflow")
    return similarity if similarity.dtype == torch.float64 else similarity.float()


def _unit_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of both feature matrices scaled to length 1, in float32 at least."""
    for which, features in (("first", a), ("second", b)):
        _check_matrix(f"the {which} features", features)
        if not features.isfinite().all():
            raise ValueError(f"the {which} features hold NaN or infinite values")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features disagree in dimension: {a.shape[1]} and {b.shape[1]}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return normalize(a.to(dtype), dim=1), normalize(b.to(dtype), dim=1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    # Under autocast the product would come back in half precision, too coarse to rank by.
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def _blocks(labels: _Labels, block_size: int | None) -> Iterator[slice]:
    n_queries, n_gallery = len(labels.query_ids), len(labels.gallery_ids)
    size = max(1, BLOCK_ENTRIES // n_gallery) if block_size is None else block_size
    if size < 1:
        raise ValueError(f"block_size must be at least 1, got {size}")
    return (slice(start, min(start + size, n_queries)) for start in range(0, n_queries, size))


# --- counting -----------------------------------------------------------------------------------------------


def _rank_in_blocks(similarity_of: Callable[[slice], Tensor], labels: _Labels, block_size: int | None) -> Ranking:
    empty = torch.empty(0, dtype=torch.float64)
    parts = [Ranking(empty, empty, empty.long(), empty.long(), empty)]
    for block in _blocks(labels, block_size):
        parts.append(_rank_block(_finite(similarity_of(block)), *_matched_and_removed(_take(labels, block))))
    return Ranking(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Ranking)))


def _rank_block(similarity: Tensor, matched: Tensor, removed: Tensor) -> Ranking:
    """The Ranking of one block; similarity, matched and removed are (Q, G)."""
    match_values, valid = _pack(similarity, matched)
    # A removed image, and a padded match, must never count as standing above anything.
    images_ge, images_gt = _count_above(similarity.masked_fill(removed, -torch.inf), match_values)
    matches_ge, matches_gt = _count_above(match_values.masked_fill(~valid, -torch.inf), match_values)

    # From here on the tensors are tiny: to the CPU, where every machine has float64.
    match_values, valid, images_ge, images_gt, matches_ge, matches_gt = (
        x.cpu() for x in (match_values, valid, images_ge, images_gt, matches_ge, matches_gt)
    )
    n = valid.sum(1)
    precision = matches_ge / images_ge.double()
    precision_before = torch.where(images_gt > 0, matches_gt / images_gt.double(), 1.0)
    negatives_ge = (images_ge - matches_ge).masked_fill(~valid, similarity.shape[1])
    return Ranking(
        ap=_mean_over(valid, precision),
        ap_trapezoid=_mean_over(valid, (precision + precision_before) / 2),
        first_match_rank=torch.where(n > 0, 1 + negatives_ge.amin(1), 0),
        n_matches=n,
        match_similarity=_mean_over(valid, match_values.double()),
    )


def _pack(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen values of each row, moved to the left.

    Args:
        values: (Q, G).
        chosen: (Q, G) bool; P is the largest number of a row, at least 1.

    Returns:
        (Q, P) values, +inf where a row has fewer, and (Q, P) bool, True where a value stands.
    """
    counts = chosen.sum(1)
    slots = torch.arange(max(1, int(counts.max())), device=values.device)
    valid = slots < counts[:, None]
    packed = values.new_full(valid.shape, torch.inf)
    packed[valid] = values[chosen]  # both sides run row by row, so each row gets its own
    return packed, valid


def _count_above(values: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """How many values of the same row are >= and > each threshold.

    Args:
        values: (Q, G), may hold -inf.
        thresholds: (Q, P), +inf where there is none.

    Returns:
        Two (Q, P) int64 tensors.
    """
    # v > t is v >= the next number after t, so that one search answers both questions.
    up = torch.nextafter(thresholds, torch.full_like(thresholds, torch.inf))
    edges, order = torch.cat([thresholds, up], dim=1).sort(dim=1)
    n_bins = edges.shape[1] + 1
    reached = torch.searchsorted(edges, values, right=True, out_int32=True)  # number of edges <= value
    rows = torch.arange(len(values), device=values.device)[:, None]
    histogram = torch.bincount((reached + rows * n_bins).flatten(), minlength=len(values) * n_bins)
    # A value reaches edge j when it reaches more than j edges.
    at_least = histogram.view(len(values), n_bins)[:, 1:].flip(1).cumsum(1).flip(1)
    return torch.empty_like(at_least).scatter_(1, order, at_least).chunk(2, dim=1)


def _mean_over(valid: Tensor, values: Tensor) -> Tensor:
    """(Q,) mean of the valid values of each row; NaN where a row has none."""
    # A running sum adds from left to right, so that the padding of a block cannot change the last bit.
    return values.masked_fill(~valid, 0).cumsum(1)[:, -1] / valid.sum(1)


# --- rank lists ---------------------------------------------------------------------------------------------


def _check_enough_left(removed: Tensor, k: int, first_query: int) -> None:
    left = (~removed).sum(1)
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
