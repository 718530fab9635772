"""Similarity measures against their oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from fam_lib import similarity
from fam_lib.similarity import pearson


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.normal(size=(5, 16, 9)))
    b = 0.5 * a + torch.from_numpy(rng.normal(size=a.shape))
    b[1] = b[1].round()  # ties
    return a, b


@pytest.mark.parametrize("absolute", [False, True])
def test_spearman_equals_scipy(maps: tuple[Tensor, Tensor], absolute: bool) -> None:
    a, b = (m.abs() if absolute else m for m in maps)
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(similarity.spearman(*maps, absolute=absolute), expected, rtol=1e-12)


def test_ssim_equals_scikit_image(maps: tuple[Tensor, Tensor]) -> None:
    from skimage.metrics import structural_similarity  # brings pictures and graphs along

    a, b = (m.sigmoid() for m in maps)
    expected = [structural_similarity(x.numpy(), y.numpy(), data_range=1.0) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(similarity.ssim(a, b), expected, rtol=1e-10)


def test_cosine_by_hand() -> None:
    a = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    b = torch.tensor([[[4.0, 3.0]], [[-2.0, 0.0]], [[1.0, 1.0]]])
    values = similarity.cosine(a, b)
    torch.testing.assert_close(values[:2], torch.tensor([0.96, -1.0], dtype=torch.float64))
    assert values[2].isnan()


def test_a_map_against_itself_its_negative_and_a_constant(maps: tuple[Tensor, Tensor]) -> None:
    a, _ = maps
    one = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(similarity.spearman(a, a), one)
    torch.testing.assert_close(similarity.spearman(a, -a), -one)
    torch.testing.assert_close(similarity.spearman(a, -a, absolute=True), one)
    torch.testing.assert_close(similarity.ssim(a, a), one)
    assert similarity.spearman(a, torch.full_like(a, 0.3)).isnan().all()


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_similarities_are_symmetric_bounded_and_rank_correlation_ignores_monotone_changes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.random((2, 8, 8))) for _ in range(2))
    for measure in (similarity.spearman, similarity.cosine, similarity.ssim):
        value = measure(a, b)
        torch.testing.assert_close(value, measure(b, a))
        assert (value.abs() <= 1 + 1e-12).all()
    torch.testing.assert_close(similarity.spearman(a, b), similarity.spearman(a.exp(), b**3))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        similarity.cosine(torch.rand(2, 8, 8), torch.rand(2, 8, 9))
    with pytest.raises(ValueError, match="7x7"):
        similarity.ssim(torch.rand(2, 6, 8), torch.rand(2, 6, 8))


def test_pearson_is_scipys_image_by_image() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, 5, 4, generator=generator) for _ in range(2))
    expected = [pearsonr(x.double().flatten(), y.double().flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert pearson(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert pearson(a, 3 - 2 * a).tolist() == pytest.approx([-1, -1, -1], abs=1e-6)


def test_a_constant_map_correlates_with_nothing() -> None:
    assert pearson(torch.ones(1, 2, 2), torch.rand(1, 2, 2)).isnan().all()
