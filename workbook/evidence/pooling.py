"""Means over networks, with intervals that resample networks and people.

A number measured on several networks with the same queries varies for two reasons: another training gives another
network, and other people give other queries. The queries of one person are alike, so what is drawn anew are
*identities*, not queries; the networks of one data set share their identities, so the two draws are crossed: in each
resample some networks and some identities, and of these every network's queries.

With few networks the interval is on the narrow side: resampling N networks sees (N - 1) / N of their variance.
Arrays in, arrays out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from fam_lib.faithfulness import LEVEL, RESAMPLES


class Pooled(NamedTuple):
    """Means over networks of M methods; every field has the shape (M,).

    Attributes:
        value: mean over the networks of each network's mean over its defined queries; NaN if there is none.
        lo: lower end of the interval; NaN where the defined queries show fewer than two identities.
        hi: upper end, likewise.
        lowest: the smallest network's mean.
        highest: the largest.
        n: queries that are defined in at least one network.
        n_identities: people on them.
        n_networks: networks with at least one defined query.
        n_positive: networks whose mean is above 0.
    """

    value: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    n: np.ndarray
    n_identities: np.ndarray
    n_networks: np.ndarray
    n_positive: np.ndarray


def pool(values: np.ndarray, identities: np.ndarray, of: np.ndarray | None = None, *, seed: int = 0) -> Pooled:
    """Mean over networks with the interval of a crossed bootstrap.

    Args:
        values: (N, Q, M), or (N, Q) for M = 1: one value for each network, query and method; NaN is undefined. A
            method that a network does not have is NaN for all its queries, and is pooled over the others.
        identities: (Q,) who is on each query, any integers.
        of: None, or what the values are shares of, of the same shape: a network's mean is then the ratio of the
            sums, ``values.sum() / of.sum()``, in each resample too.
        seed: of the draws, which depend on it, N and the number of identities alone.

    Raises:
        ValueError: shapes disagree, or there is no network or no query.
    """
    values = values[..., None] if values.ndim == 2 else values
    of = np.ones_like(values) if of is None else of.reshape(values.shape)
    if values.ndim != 3 or 0 in values.shape[:2] or identities.shape != values.shape[1:2]:
        raise ValueError(
            f"expected values (N, Q) or (N, Q, M) and identities (Q,), got {values.shape} and {identities.shape}"
        )
    defined = ~(np.isnan(values) | np.isnan(of))
    values, of = (np.where(defined, array, 0.0) for array in (values, of))
    means = _divide(values.sum(1), of.sum(1))
    there = defined.any(1)  # (N, M)
    ends = np.full((2, values.shape[2]), np.nan)
    for pattern in np.unique(there, axis=1).T:  # methods that the same networks have share their draws
        if not pattern.any():
            continue
        same = (there == pattern[:, None]).all(0)
        pick = np.ix_(pattern, np.ones(len(identities), bool), same)
        ends[:, same] = _interval(values[pick], of[pick], defined[pick], identities, seed)
    some = defined.any(0)  # (Q, M)
    people = np.array([len(np.unique(identities[column])) for column in some.T])
    ends[:, people < 2] = np.nan
    return Pooled(
        value=_nan(np.nanmean, means), lo=ends[0], hi=ends[1],
        lowest=_nan(np.nanmin, means), highest=_nan(np.nanmax, means),
        n=some.sum(0), n_identities=people, n_networks=there.sum(0), n_positive=(means > 0).sum(0),
    )  # fmt: skip


def _interval(values: np.ndarray, of: np.ndarray, defined: np.ndarray, identities: np.ndarray, seed: int) -> np.ndarray:
    """Ends (2, M) of the interval of methods that all of these networks have; undefined entries are 0."""
    # Only people with a defined query are drawn: the others cannot change a sum, but would take places in the draw.
    seen = defined.any((0, 2))
    codes, members = np.unique(identities[seen], return_inverse=True)
    belongs = np.eye(len(codes))[members]  # (queries, identities)
    people, networks = _draws(len(codes), len(values), seed)
    total, weight = np.zeros((2, len(people), values.shape[2]))
    for n, (top, bottom) in enumerate(zip(values[:, seen], of[:, seen], strict=True)):
        means = _divide(people @ (belongs.T @ top), people @ (belongs.T @ bottom))
        drawn = networks[:, n : n + 1] * ~np.isnan(means)
        total += drawn * np.nan_to_num(means)
        weight += drawn
    pooled = _divide(total, weight)
    return np.array(
        [
            np.quantile(column[~np.isnan(column)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            if (~np.isnan(column)).any()
            else [np.nan, np.nan]
            for column in pooled.T
        ]
    ).T


@lru_cache(maxsize=64)
def _draws(n_identities: int, n_networks: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each identity and each network is drawn: (RESAMPLES, I) and (RESAMPLES, N).

    Identities come first and as :func:`fam_lib.faithfulness.summarise` draws its groups, so that one network has the
    very interval that its queries have there.
    """
    generator = np.random.default_rng(seed)
    people, networks = (_counts(generator.integers(0, n, (RESAMPLES, n)), n) for n in (n_identities, n_networks))
    return people, networks


def _counts(drawn: np.ndarray, n: int) -> np.ndarray:
    """How often each of n units stands in each row of drawn (R, n): (R, n)."""
    rows = np.arange(len(drawn))[:, None] * n
    return np.bincount((drawn + rows).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n).astype(float)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)


def _nan(function: np.ufunc, means: np.ndarray) -> np.ndarray:
    """A function of the networks' means (N, M) that leaves out NaN, without a warning where all are NaN."""
    empty = np.isnan(means).all(0)
    return np.where(empty, np.nan, function(np.where(empty, 0.0, means), axis=0))


def explained(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Share of the variance of y that x explains: R squared of a straight line, and of a line through the ranks.

    Args:
        x: (n,).
        y: (n,); pairs with a NaN are left out.

    Returns:
        Squares of Pearson's and of Spearman's correlation; NaN for fewer than three pairs or a constant.
    """
    both = ~(np.isnan(x) | np.isnan(y))
    return _r2(x[both], y[both]), _r2(rankdata(x[both]), rankdata(y[both]))


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What is left of values (n,) when each group's mean is taken away; NaN stays NaN."""
    left = np.array(values, float)
    for group in np.unique(groups):
        members = groups == group
        if (~np.isnan(left[members])).any():
            left[members] -= np.nanmean(left[members])
    return left
