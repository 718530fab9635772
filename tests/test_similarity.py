"""fam_lib.similarity: Pearson's correlation; the other measures are tested with the sanity check that uses them."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import pearsonr

from fam_lib.similarity import pearson


def test_pearson_is_scipys_image_by_image() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, 5, 4, generator=generator) for _ in range(2))
    expected = [pearsonr(x.double().flatten(), y.double().flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert pearson(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert pearson(a, 3 - 2 * a).tolist() == pytest.approx([-1, -1, -1], abs=1e-6)


def test_a_constant_map_correlates_with_nothing() -> None:
    assert pearson(torch.ones(1, 2, 2), torch.rand(1, 2, 2)).isnan().all()
