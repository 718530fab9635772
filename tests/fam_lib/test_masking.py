import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fam_lib.masking import blend, explanation_map, explanation_mask, gaussian_blur, min_max, top_share_mask, upsample
from toys import pictures


def test_blur_is_a_51_pixel_kernel_of_sigma_50_with_a_reflected_border():
    from torchvision.transforms.functional import gaussian_blur as torchvision_blur  # seconds to import

    images = pictures(2, (96, 64)).double()
    torch.testing.assert_close(gaussian_blur(images), torchvision_blur(images, [51, 51], [50.0, 50.0]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_blurred_in_float32(dtype):
    images = pictures(1).repeat_interleave(2, 3).to(dtype)
    assert torch.equal(gaussian_blur(images), gaussian_blur(images.float()).to(dtype))


def test_blur_leaves_a_constant_image_alone():
    images = torch.full((1, 3, 40, 30), 0.37)
    torch.testing.assert_close(gaussian_blur(images), images)


def test_blur_refuses_images_that_its_border_does_not_fit():
    with pytest.raises(ValueError, match="too small"):
        gaussian_blur(torch.zeros(1, 3, 64, 25))
    with pytest.raises(ValueError, match="odd"):
        gaussian_blur(torch.zeros(1, 3, 64, 64), kernel_size=50)
    assert gaussian_blur(torch.zeros(1, 3, 64, 26)).shape == (1, 3, 64, 26)


def test_upsampling_uses_the_half_pixel_grid():
    up = upsample(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    torch.testing.assert_close(up.flatten(), torch.tensor([0.0, 0.25, 0.75, 1.0]))
    maps = torch.rand(2, 3, 5)
    assert torch.equal(upsample(maps, (9, 10)), upsample(maps.unsqueeze(1), (9, 10)).squeeze(1))


def test_min_max_of_a_flat_map_is_zero_and_of_any_other_spans_the_unit_interval():
    maps = torch.stack([torch.full((2, 2), 3.0), torch.tensor([[1.0, 2.0], [3.0, 5.0]])])
    expected = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 0.25], [0.5, 1.0]])])
    torch.testing.assert_close(min_max(maps), expected)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_min_max_spans_exactly_0_to_1_whatever_the_scale(seed, scale, shift):
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    normalised = min_max(maps * scale + shift)
    assert torch.equal(normalised.amin((1, 2)), torch.zeros(3, dtype=torch.float64))
    assert torch.equal(normalised.amax((1, 2)), torch.ones(3, dtype=torch.float64))


def test_explanation_mask_has_the_three_zones_of_equation_14_with_closed_lower_ends():
    saliency = torch.tensor([[[0.0, 0.29], [0.3, 0.59], [0.6, 1.0]]])
    expected = torch.tensor([[[0.0, 0.0], [0.9, 0.9], [1.0, 1.0]]])
    torch.testing.assert_close(explanation_mask(saliency), expected)


@pytest.mark.parametrize("bad", [{"low": 0.7}, {"high": 1.2}, {"delta": -0.1}, {"low": -0.1}])
def test_explanation_mask_refuses_boundaries_out_of_order(bad):
    with pytest.raises(ValueError, match="low <= high"):
        explanation_mask(torch.rand(1, 4, 4), **bad)


def test_explanation_map_of_zeros_is_the_baseline_and_of_ones_the_image():
    images, baseline = pictures(2), pictures(2, seed=1)
    shape = (2, *images.shape[-2:])
    torch.testing.assert_close(explanation_map(images, baseline, torch.zeros(shape)), baseline)
    torch.testing.assert_close(explanation_map(images, baseline, torch.ones(shape)), images)


def test_blend_mixes_pixel_by_pixel():
    images, baseline = torch.full((1, 3, 1, 2), 4.0), torch.full((1, 3, 1, 2), 2.0)
    mixed = blend(images, baseline, torch.tensor([[[0.5, 0.9]]]))
    torch.testing.assert_close(mixed[0, 0], torch.tensor([[3.0, 3.8]]))


def test_top_share_keeps_the_highest_pixels_and_breaks_ties_in_reading_order():
    saliency = torch.tensor([[[0.1, 0.9], [0.5, 0.5]]])
    assert top_share_mask(saliency, 0.25).tolist() == [[[0, 1], [0, 0]]]
    assert top_share_mask(saliency, 0.5).tolist() == [[[0, 1], [1, 0]]]
    assert top_share_mask(torch.ones(1, 2, 2), 0.5).tolist() == [[[1, 1], [0, 0]]]
    with pytest.raises(ValueError, match="share"):
        top_share_mask(saliency, 50)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_top_share_keeps_exactly_the_share_asked_for(seed, share):
    saliency = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    mask = top_share_mask(saliency, share)
    assert mask.sum((1, 2)).tolist() == [round(share * 35)] * 2
    kept = torch.where(mask == 1, saliency, torch.inf).amin((1, 2))
    left = torch.where(mask == 0, saliency, -torch.inf).amax((1, 2))
    assert (kept >= left).all()
