"""Faithfulness: how well an explanation map stands for its image, by the metrics of the paper's Section 4.2.

For every query there are three images: the original X, the explanation map E (X with the pixels outside the
saliency map replaced by the baseline) and the baseline B itself. Their features rank the same gallery, and
the loss from X to E is compared with the loss from X to B.

These metrics reward area: an all-ones map gives E = X and drops of 0. Read them beside the retained area, at
equal area, and beside controls. Every mean here comes with its number of undefined queries.

Values are fractions (0.17, not 17 %), per query, float64, on the CPU; NaN marks an undefined query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fam_lib.retrieval import ApKind, Labels, Ranking, average_precision, evaluate

METRICS = ("as_drop", "ap_drop", "ap_increase")
"""Eq. 15, 16 and 17, as attributes of :class:`Faithfulness` and columns of tables."""

TOLERANCE = 1e-6
"""A difference of scores up to this is float noise: no increase (Eq. 17), and no denominator (Eq. 15-16)."""

EQUAL_AREAS = (0.1, 0.2, 0.3, 0.5)
"""Shares of pixels at which methods are compared at equal retained area."""

RESAMPLES = 2000
"""Of every bootstrap."""

LEVEL = 0.95
"""Coverage that every interval aims at."""

BOOTSTRAP_ENTRIES = 4_000_000
"""Resampled values held at once; fixed, because the draws depend on it."""


# --- Eq. 15-17 per query ------------------------------------------------------------------------------------


def as_drop(as_x: Tensor, as_e: Tensor, as_b: Tensor) -> Tensor:
    """Average similarity drop of each query, the summand of Eq. 15.

    Mean similarities serve as well as the paper's sums over G_q: the size of G_q cancels.

    Args:
        as_x: (Q,) mean similarity of the original to its true matches (`Ranking.match_similarity`).
        as_e: (Q,) the same of the explanation map.
        as_b: (Q,) the same of the baseline image.

    Returns:
        (Q,) max(0, as_x - as_e) / (as_x - as_b), >= 0, above 1 where E is worse than B. NaN (undefined) where
        as_x - as_b <= TOLERANCE, i.e. where the baseline is as good as the original, or an input is NaN.

    Raises:
        ValueError: the inputs are not 1-D of one length.
    """
    return _relative_drop(*_vectors(as_x=as_x, as_e=as_e, as_b=as_b))


def ap_drop(ap_x: Tensor, ap_e: Tensor, ap_b: Tensor) -> Tensor:
    """Average precision drop of each query, the summand of Eq. 16.

    Args:
        ap_x: (Q,) average precision of the original.
        ap_e: (Q,) the same of the explanation map.
        ap_b: (Q,) the same of the baseline image.

    Returns:
        (Q,) max(0, ap_x - ap_e) / (ap_x - ap_b); NaN as in `as_drop`.

    Raises:
        ValueError: the inputs are not 1-D of one length.
    """
    return _relative_drop(*_vectors(ap_x=ap_x, ap_e=ap_e, ap_b=ap_b))


def ap_increase(ap_x: Tensor, ap_e: Tensor) -> Tensor:
    """Whether the explanation map retrieves better than the original, the summand of Eq. 17.

    Args:
        ap_x: (Q,) average precision of the original.
        ap_e: (Q,) average precision of the explanation map.

    Returns:
        (Q,) 1.0 where ap_e > ap_x + TOLERANCE, else 0.0; NaN where either is NaN.

    Raises:
        ValueError: the inputs are not 1-D of one length.
    """
    x, e = _vectors(ap_x=ap_x, ap_e=ap_e)
    return (e > x + TOLERANCE).double().masked_fill(x.isnan() | e.isnan(), torch.nan)


def ratio_of_means(x: Tensor, e: Tensor, b: Tensor) -> float:
    """Eq. 15 or 16 with the averages taken before the division instead of after it.

    It is taken over the same queries as the mean of ratios, so that the two differ in this choice alone.

    Args:
        x: (Q,) scores (AS or AP) of the originals.
        e: (Q,) scores of the explanation maps.
        b: (Q,) scores of the baseline images.

    Returns:
        sum(max(0, x - e)) / sum(x - b) over the defined queries; NaN if there is none.

    Raises:
        ValueError: the inputs are not 1-D of one length.
    """
    x, e, b = _vectors(x=x, e=e, b=b)
    defined = ~_relative_drop(x, e, b).isnan()
    return float((x - e).clamp(min=0)[defined].sum() / (x - b)[defined].sum())


def _relative_drop(x: Tensor, e: Tensor, b: Tensor) -> Tensor:
    loss, full_loss = (x - e).clamp(min=0), x - b
    return torch.where(full_loss > TOLERANCE, loss / full_loss, torch.nan)


def _vectors(**named: Tensor) -> list[Tensor]:
    """The inputs as 1-D float64 CPU tensors of one length."""
    vectors = [_float64(values) for values in named.values()]
    shapes = {name: tuple(vector.shape) for name, vector in zip(named, vectors, strict=True)}
    if any(vector.ndim != 1 for vector in vectors) or len(set(shapes.values())) > 1:
        raise ValueError(f"expected one-dimensional inputs of one length, one value per query, got {shapes}")
    return vectors


def _float64(values: Tensor | np.ndarray | Sequence[float]) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.tensor(np.asarray(values), dtype=torch.float64)


# --- from features to a table per query ---------------------------------------------------------------------


@dataclass(frozen=True)
class Faithfulness:
    """How much of the retrieval Q explanation maps keep: six scores of each query, and Eq. 15-17 made of them.

    Attributes:
        as_x: (Q,) mean similarity to the true matches, of the originals.
        as_e: (Q,) the same of the explanation maps.
        as_b: (Q,) the same of the baseline images.
        ap_x: (Q,) average precision of the originals.
        ap_e: (Q,) the same of the explanation maps.
        ap_b: (Q,) the same of the baseline images.
    """

    as_x: Tensor
    as_e: Tensor
    as_b: Tensor
    ap_x: Tensor
    ap_e: Tensor
    ap_b: Tensor

    def __len__(self) -> int:
        """Number of queries, undefined ones included."""
        return len(self.as_x)

    @property
    def as_drop(self) -> Tensor:
        """(Q,) summand of Eq. 15, see :func:`as_drop`; lower is better."""
        return as_drop(self.as_x, self.as_e, self.as_b)

    @property
    def ap_drop(self) -> Tensor:
        """(Q,) summand of Eq. 16, see :func:`ap_drop`; lower is better."""
        return ap_drop(self.ap_x, self.ap_e, self.ap_b)

    @property
    def ap_increase(self) -> Tensor:
        """(Q,) summand of Eq. 17, see :func:`ap_increase`; higher is better."""
        return ap_increase(self.ap_x, self.ap_e)

    def metrics(self) -> dict[str, Tensor]:
        """Eq. 15-17 by their names in :data:`METRICS`, (Q,) float64 fractions each, NaN where undefined."""
        return {name: getattr(self, name) for name in METRICS}


def compare(ranking_x: Ranking, ranking_e: Ranking, ranking_b: Ranking, *, ap: ApKind = "standard") -> Faithfulness:
    """Eq. 15-17 from the rankings of originals, explanation maps and baselines.

    Originals and baselines do not depend on the method explained: rank them once and reuse them.

    Args:
        ranking_x: of the Q originals.
        ranking_e: of their explanation maps, in the same order, against the same gallery.
        ranking_b: of their baseline images, likewise.
        ap: "standard" or "trapezoid".

    Raises:
        ValueError: the rankings are not of the same queries and gallery, or ap is unknown.
    """
    for which, other in (("explanation maps", ranking_e), ("baselines", ranking_b)):
        if not torch.equal(ranking_x.n_matches, other.n_matches):
            raise ValueError(
                f"the rankings of originals and {which} differ in the number of matches per query: "
                f"they are not of the same queries, in the same order, and the same gallery"
            )
    rankings = (ranking_x, ranking_e, ranking_b)
    return Faithfulness(*(r.match_similarity for r in rankings), *(average_precision(r, ap) for r in rankings))


def measure(
    features_x: Tensor,
    features_e: Tensor,
    features_b: Tensor,
    gallery_features: Tensor,
    labels: Labels,
    *,
    ap: ApKind = "standard",
) -> Faithfulness:
    """Eq. 15-17 from features, by cosine similarity; G_q of Eq. 15 are the true matches after the same-camera rule.

    Args:
        features_x: (Q, D) of the originals; need not be normalised.
        features_e: (Q, D) of the explanation maps.
        features_b: (Q, D) of the baseline images.
        gallery_features: (G, D), original images.
        labels: of queries and gallery.
        ap: "standard" or "trapezoid".

    Raises:
        TypeError: see `retrieval.evaluate`.
        ValueError: see `retrieval.evaluate`; or ap is unknown.
    """
    x, e, b = (evaluate(features, gallery_features, labels) for features in (features_x, features_e, features_b))
    return compare(x, e, b, ap=ap)


# --- area ---------------------------------------------------------------------------------------------------


def retained_area(mask: Tensor) -> Tensor:
    """Share of the input that an explanation mask keeps; a pixel kept to delta counts as delta.

    Args:
        mask: (N, H, W) bool or float in [0, 1], e.g. the mask of Eq. 14.

    Returns:
        (N,) float64 in [0, 1], on the CPU.

    Raises:
        ValueError: mask is not (N, H, W) with H, W >= 1, or has a value outside [0, 1].
    """
    _check_maps("mask", mask)
    values = mask.detach().cpu().double()
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("mask must hold values in [0, 1] only")
    return values.mean(dim=(1, 2))


def _check_maps(name: str, maps: Tensor) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"{name} must be (N, H, W) with H, W >= 1, got shape {tuple(maps.shape)}")
    if maps.isnan().any():
        raise ValueError(f"{name} holds NaN")


def curve_area(scores: Tensor, shares: Tensor) -> Tensor:
    """Area under insertion or deletion curves by the trapezoid rule, as a mean height.

    Args:
        scores: (N, S) score of N images after each of S steps.
        shares: (S,) share of the pixels inserted or deleted at each step, strictly increasing; S >= 2.

    Returns:
        (N,) float64 area divided by the range of the shares, so a constant curve has its own height.

    Raises:
        ValueError: shapes disagree, S < 2, or the shares do not increase.
    """
    heights, steps = (torch.as_tensor(values).detach().cpu().double() for values in (scores, shares))
    if heights.ndim != 2 or steps.ndim != 1 or heights.shape[1] != len(steps) or len(steps) < 2:
        raise ValueError(
            f"expected scores (N, S) and shares (S,) with S >= 2, got {tuple(heights.shape)} and {tuple(steps.shape)}"
        )
    if not (steps.diff() > 0).all():
        raise ValueError("shares must increase strictly from step to step")
    return torch.trapezoid(heights, steps, dim=1) / (steps[-1] - steps[0])


# --- means with intervals -----------------------------------------------------------------------------------


class Summary(NamedTuple):
    """A mean over queries with its bootstrap interval.

    Attributes:
        mean: over the defined queries; NaN if there is none.
        lo: lower end of the interval; NaN with fewer than two defined queries.
        hi: upper end of the interval, likewise.
        n: number of defined queries.
        undefined: number of queries left out.
    """

    mean: float
    lo: float
    hi: float
    n: int
    undefined: int


def summarise(
    values: Tensor | np.ndarray | Sequence[float],
    *,
    groups: Tensor | np.ndarray | Sequence[int] | None = None,
    seed: int = 0,
) -> Summary:
    """Mean over the defined queries with a percentile bootstrap interval; the mean of Eq. 15, 16 or 17.

    Queries are resampled as if independent. Those of one person are not: with the person on each query as its
    group, whole people are resampled (cluster bootstrap). The mean is the same.

    Args:
        values: (Q,) one value per query; NaN is undefined and left out.
        groups: (Q,) integers, e.g. the identity of each query; None for queries that are independent.
        seed: of the generator; one seed, one interval.

    Returns:
        The Summary; with fewer than two groups among the defined queries the interval is NaN.

    Raises:
        ValueError: values is not 1-D or holds an infinity; or groups is not (Q,) integers.
    """
    (vector,) = _vectors(values=values)
    if vector.isinf().any():
        raise ValueError("values holds an infinity; an undefined query must be NaN")
    kept = ~vector.isnan()
    defined = vector[kept].numpy()
    members = None if groups is None else _groups(groups, len(vector))[kept.numpy()]
    n, undefined = len(defined), len(vector) - len(defined)
    mean = float(defined.mean()) if n else float("nan")
    lo, hi = np.quantile(bootstrap_means(defined, seed, members), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Summary(mean, float(lo), float(hi), n, undefined)


def paired_difference(
    a: Tensor | np.ndarray | Sequence[float],
    b: Tensor | np.ndarray | Sequence[float],
    *,
    groups: Tensor | np.ndarray | Sequence[int] | None = None,
    seed: int = 0,
) -> Summary:
    """Mean of a - b over the queries where both are defined, with a bootstrap interval of the difference.

    Args:
        a: (Q,) values of one method.
        b: (Q,) values of another method on the same queries, in the same order.
        groups: see `summarise`.
        seed: see `summarise`.

    Returns:
        The Summary of a - b; a query is undefined if either value is.

    Raises:
        ValueError: a and b are not 1-D of one length, or as `summarise`.
    """
    first, second = _vectors(a=a, b=b)
    if first.isinf().any() or second.isinf().any():
        raise ValueError("a or b holds an infinity; an undefined query must be NaN")
    return summarise(first - second, groups=groups, seed=seed)


def bootstrap_means(
    values: np.ndarray, seed: int = 0, groups: Tensor | np.ndarray | Sequence[int] | None = None
) -> np.ndarray:
    """Means of resamples with replacement, in chunks of bounded memory.

    With groups, as many whole groups are drawn as there are; a mean is the sum of their values by their number.

    Args:
        values: (n,), or (n, M) for M methods on the same queries, which are resampled together. With groups, NaN
            is left out of its group, and a group without any value is no group.
        seed: of the generator; the resamples depend on it and on n, or the number of groups, alone.
        groups: (n,) integers; None resamples single queries.

    Returns:
        (RESAMPLES,) or (RESAMPLES, M); NaN for fewer than two queries or groups, which show no spread.

    Raises:
        ValueError: groups is not (n,) integers.
    """
    columns = np.atleast_2d(values.T).T
    if groups is None:
        members, defined = np.arange(len(columns)), np.ones(columns.shape, dtype=bool)
    else:
        members, defined = _groups(groups, len(columns)), ~np.isnan(columns)
    some = defined.any(axis=1)
    names, member = np.unique(members[some], return_inverse=True)
    n = len(names)
    if n < 2:
        return np.full((RESAMPLES, *values.shape[1:]), np.nan)
    # A group is known by the sum and the number of its values: only these are drawn.
    totals = np.zeros((2, n, columns.shape[1]))
    np.add.at(totals, (slice(None), member), np.stack([np.where(defined, columns, 0), defined])[:, some])
    generator = np.random.default_rng(seed)
    chunk = max(1, BOOTSTRAP_ENTRIES // n)
    means = []
    for start in range(0, RESAMPLES, chunk):
        drawn = generator.integers(0, n, size=(min(chunk, RESAMPLES - start), n))
        sums, counts = (np.stack([column[drawn].sum(axis=1) for column in part.T], axis=1) for part in totals)
        means.append(np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0))
    return np.concatenate(means).reshape(RESAMPLES, *values.shape[1:])


def _groups(groups: Tensor | np.ndarray | Sequence[int], n: int) -> np.ndarray:
    array = np.asarray(groups.detach().cpu() if isinstance(groups, Tensor) else groups)
    if array.shape != (n,) or (n and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"groups must be ({n},) integers, one per value, got {array.dtype} of shape {array.shape}")
    return array
