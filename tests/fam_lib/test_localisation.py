"""Energy inside, pointing game, area and entropy of maps against closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fam_lib.localisation import energy_inside, map_area, map_entropy, pointing_game, region_share

REGION = torch.zeros(1, 4, 4, dtype=torch.bool)
REGION[0, :2, :2] = True  # a quarter of the pixels


def one(rows):
    return torch.tensor([rows], dtype=torch.float32)


def maps(seed, n=3, size=(6, 4)):
    generator = torch.Generator().manual_seed(seed)
    region = torch.rand(n, *size, generator=generator) < 0.4
    region[:, 0, 0] = True
    return torch.rand(n, *size, generator=generator), region


def test_energy_by_hand():
    saliency = one([[1, 2, 0, 0], [0, 3, 4, 0], [0, 0, 0, 5], [0, 0, 0, 0]])
    assert energy_inside(saliency, REGION).tolist() == pytest.approx([6 / 15])


def test_energy_of_maps_inside_outside_and_uniform():
    inside, outside = REGION.float(), (~REGION).float()
    batch = torch.cat([inside, outside, torch.full((1, 4, 4), 0.3)])
    region = REGION.expand(3, -1, -1)
    assert energy_inside(batch, region).tolist() == pytest.approx([1, 0, 0.25])
    assert region_share(region).tolist() == [0.25] * 3
    assert pointing_game(batch, region).tolist() == [1, 0, 0.25]


def test_pointing_game_shares_ties():
    saliency = one([[9, 1, 0, 0], [0, 0, 0, 0], [0, 9, 9, 0], [0, 0, 0, 2]])
    assert pointing_game(saliency, REGION).tolist() == pytest.approx([1 / 3])
    saliency[0, 0, 1] = 9.5
    assert pointing_game(saliency, REGION).tolist() == [1]
    saliency[0, 3, 3] = 10
    assert pointing_game(saliency, REGION).tolist() == [0]


def test_zero_maps_and_empty_regions_are_undefined():
    saliency = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    region = torch.stack([REGION[0], torch.zeros(4, 4, dtype=torch.bool)])
    assert energy_inside(saliency, region).isnan().all()
    assert pointing_game(saliency, region).isnan().all()
    assert map_entropy(saliency).tolist() == pytest.approx([math.nan, 1], nan_ok=True)


def test_entropy_by_hand():
    single, pair, uniform = torch.zeros(3, 4, 4)
    single[1, 2] = 0.7
    pair[0, 0] = pair[3, 3] = 0.2
    uniform += 0.5
    expected = [0, math.log(2) / math.log(16), 1]
    assert map_entropy(torch.stack([single, pair, uniform])).tolist() == pytest.approx(expected)
    uneven = one([[3, 1]])
    assert map_entropy(uneven).tolist() == pytest.approx([2 - 0.75 * math.log2(3)])


def test_area_by_hand():
    saliency = one([[0.2, 0.5], [0.49, 1.0]])
    assert map_area(saliency).tolist() == [0.5]
    assert map_area(saliency, threshold=0.2).tolist() == [1]


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_scores_are_shares_and_do_not_depend_on_scale(seed, scale):
    saliency, region = maps(seed)
    for score in (energy_inside, pointing_game):
        value = score(saliency, region)
        assert ((value >= 0) & (value <= 1)).all()
        assert torch.allclose(score(saliency * scale, region), value, atol=1e-6)
    entropy = map_entropy(saliency)
    assert ((entropy > 0) & (entropy < 1)).all()
    assert torch.allclose(map_entropy(saliency * scale), entropy, atol=1e-6)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_region_and_its_complement_share_the_whole(seed):
    saliency, region = maps(seed)
    region[:, -1, -1] = False
    saliency[0] = (saliency[0] * 3).round() + 1  # with ties
    for score in (energy_inside, pointing_game):
        assert torch.allclose(score(saliency, region) + score(saliency, ~region), torch.ones(3).double())


def test_a_map_is_scored_alone_as_in_a_batch():
    saliency, region = maps(5, n=4)
    for score in (energy_inside, pointing_game):
        alone = torch.cat([score(saliency[i : i + 1], region[i : i + 1]) for i in range(4)])
        assert torch.equal(score(saliency, region), alone)


def test_gradients_and_half_precision():
    saliency, region = maps(6)
    half = saliency.half()
    assert torch.equal(energy_inside(half, region), energy_inside(half.double(), region))
    assert not energy_inside(saliency.requires_grad_(), region).requires_grad
    assert map_area(saliency).dtype == map_entropy(saliency).dtype == torch.float64


@pytest.mark.parametrize("score", [energy_inside, pointing_game])
def test_bad_pairs(score):
    saliency = torch.rand(1, 4, 4)
    with pytest.raises(TypeError, match="region must be boolean, got torch.uint8"):
        score(saliency, REGION.to(torch.uint8))
    with pytest.raises(ValueError, match=r"\(1, 4, 3\) and region \(1, 4, 4\) differ"):
        score(saliency[..., :3], REGION)
    with pytest.raises(ValueError, match="saliency must be finite and not negative"):
        score(saliency - 1, REGION)
    with pytest.raises(ValueError, match="saliency must be finite and not negative"):
        score(saliency * math.nan, REGION)
    with pytest.raises(ValueError, match=r"saliency must be \(N, H, W\)"):
        score(saliency[0], REGION[0])


def test_entropy_needs_pixels():
    with pytest.raises(ValueError, match="at least two pixels"):
        map_entropy(torch.ones(1, 1, 1))
