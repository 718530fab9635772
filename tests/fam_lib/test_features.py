"""Features are those of a plain forward in eval mode, and their cosines those of the textbook in any precision."""

import copy
import math

import pytest
import torch
from torch import nn

from fam_lib.features import cosine_similarity, extract, inner_products, unit_rows
from toys import GapNet, assert_untouched, census, pictures, seeded


class Counting(GapNet):
    """Notes the size of each forward, and fails where there are too many."""

    def __init__(self, at_most=99):
        super().__init__(neck=True)
        self.sizes, self.at_most = [], at_most

    def forward(self, images):
        self.sizes.append(len(images))
        if len(self.sizes) > self.at_most:
            raise RuntimeError("broken on purpose")
        return super().forward(images)


def in_mixed_modes(model):
    """Training, but for one layer that somebody froze."""
    seeded(model).train()
    model.neck.eval()
    model.conv.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])], ids=str
)
def test_features_are_those_of_a_plain_forward_in_eval_mode_whatever_the_batch_size(batch_size, sizes):
    model, images = in_mixed_modes(Counting()), pictures(5)
    plain = copy.deepcopy(model).eval()
    before = census(model)
    features = extract(model, images, batch_size)
    torch.testing.assert_close(features, plain(images).detach(), rtol=0, atol=1e-6)
    assert model.sizes == sizes
    assert not features.requires_grad and features.dtype == torch.float32
    assert_untouched(before, census(model))
    assert (features.norm(dim=1) - 1).abs().min() > 1e-2  # as the model gives them: not of length 1


def test_the_model_is_untouched_after_an_error():
    model = in_mixed_modes(Counting(at_most=2))
    before = census(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        extract(model, pictures(5), batch_size=2)
    assert model.sizes == [2, 2, 1]
    assert_untouched(before, census(model))


def test_features_of_a_half_precision_model_are_widened_not_recomputed():
    model, images = seeded(GapNet()).bfloat16(), pictures(2).bfloat16()
    features = extract(model, images)
    assert features.dtype == torch.float32
    assert torch.equal(features, model(images).float())


# ---- cosines ------------------------------------------------------------------------------------------


def test_cosine_values():
    a = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    b = torch.tensor([[4.0, 3.0], [-6.0, -8.0], [0.0, 1e-3]])
    assert torch.allclose(cosine_similarity(a, b), torch.tensor([[0.96, -1.0, 0.8], [0.0, 0.0, 0.0]]))


def test_cosines_are_torchs_pair_by_pair():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(12, 8, generator=generator) * 3, torch.randn(40, 8, generator=generator)
    expected = nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    torch.testing.assert_close(cosine_similarity(a, b), expected, rtol=0, atol=1e-6)


def test_cosines_are_products_of_unit_rows():
    rows = unit_rows("first", torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    torch.testing.assert_close(inner_products(rows, rows), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert unit_rows("first", rows, torch.float64).dtype == torch.float64


def test_half_precision_is_widened():
    half = torch.randn(6, 32, generator=torch.Generator().manual_seed(9)).half()
    assert torch.equal(cosine_similarity(half, half), cosine_similarity(half.float(), half.float()))
    assert cosine_similarity(half, half).dtype == torch.float32
    assert cosine_similarity(half.double(), half).dtype == torch.float64


def test_autocast_does_not_coarsen_cosines():
    features = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cosine_similarity(features, features)
    assert torch.equal(inside, cosine_similarity(features, features))


def test_gradients_are_not_kept():
    features = torch.randn(3, 4, requires_grad=True)
    assert not cosine_similarity(features, features).requires_grad


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (torch.ones(1, 3), torch.ones(1, 2), ValueError, "disagree in dimension: 3 and 2"),
        (torch.ones(3), torch.ones(1, 3), ValueError, r"the first features must be two-dimensional, got shape \(3,\)"),
        (
            torch.ones(1, 3),
            torch.ones(1, 3).long(),
            TypeError,
            "the second features must be a floating tensor, got tor",
        ),
        ([[1.0]], torch.ones(1, 1), TypeError, "the first features must be a floating tensor, got list"),
        (torch.full((1, 3), math.inf), torch.ones(1, 3), ValueError, "the first features hold NaN or infinite"),
        (torch.ones(1, 3), torch.full((1, 3), math.nan), ValueError, "the second features hold NaN or infinite"),
    ],
)
def test_bad_features(a, b, error, message):
    with pytest.raises(error, match=message):
        cosine_similarity(a, b)
