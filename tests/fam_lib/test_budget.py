"""Budgeted scores: what is scored, what the others get, and a bound that always holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fam_lib import Method, Weighting, explain, explain_all, weighting
from fam_lib import budget as budget_module
from fam_lib.budget import _bends, certified_bound, fill_in, most_energetic, score_interval
from fam_lib.explain import to_saliency
from fam_lib.masking import upsample
from fam_lib.targets import class_confidence, cosine, projection
from toys import ConvHead, GapNet, pictures, seeded


def test_the_most_energetic_share_of_the_live_channels_is_chosen_rounded_up():
    sums = torch.tensor([[3.0, -9.0, 5.0, 1.0, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    live = torch.tensor([[True, True, True, True, False], [True] * 5])
    maps = sums[:, :, None, None].expand(-1, -1, 2, 3)
    assert most_energetic(maps, live, 0.5).tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
    assert torch.equal(most_energetic(maps, live, 1.0), live)
    assert most_energetic(maps, live, 1e-9).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(("share", "n", "expected"), [(0.3, 50, 15), (0.6, 45, 27), (0.1, 41, 5)])
def test_a_share_that_is_a_whole_number_of_channels_is_not_rounded_up(share, n, expected):
    live = torch.ones(1, n, dtype=torch.bool)
    assert most_energetic(torch.rand(1, n, 2, 2), live, share).sum() == expected


def test_a_channel_without_a_score_gets_that_of_the_scored_one_with_the_nearest_mask():
    # Masks after Norm: (1, 0, 0), (0, 1, 1), (1, 0, 1/4) nearest to the first, an empty one, (0, 1/4, 1).
    maps = torch.tensor([[5.0, 1, 1], [0, 2, 2], [4, 0, 1], [3, 3, 3], [0, 1, 4]]).view(1, 5, 1, 3)
    scores = torch.tensor([[[0.2, 0.4, 0.0, 0.0, 0.0]], [[-0.3, 0.1, 0.0, 0.0, 0.0]]])
    scored = torch.tensor([[True, True, False, True, False]])
    expected = torch.tensor([[[0.2, 0.4, 0.2, 0.0, 0.4]], [[-0.3, 0.1, -0.3, 0.0, 0.1]]])
    torch.testing.assert_close(fill_in(scores, scored, maps), expected)


def test_a_weak_mask_is_nearer_to_the_empty_one_than_to_a_strong_one():
    maps = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1], [2, 2, 2, 2]]).view(1, 3, 2, 2)
    scores, scored = torch.tensor([[[0.5, 0.0, 0.0]]]), torch.tensor([[True, False, True]])
    assert fill_in(scores, scored, maps).tolist() == [[[0.5, 0.0, 0.0]]]


def test_an_unknown_score_lies_in_the_range_of_its_target_less_the_baseline():
    scores, scored, baseline = torch.tensor([[0.25, 0.0]]), torch.tensor([[True, False]]), torch.tensor([0.5])
    expected = {cosine: (-1.5, 0.5), class_confidence: (-0.5, 0.5), projection: (-torch.inf, torch.inf)}
    for target, (low, high) in expected.items():
        ours = score_interval(target, scores, scored, baseline)
        assert [limit.tolist() for limit in ours] == [[[0.25, low]], [[0.25, high]]]


# V = w_1 (4, 0) + w_2 (0, 1), w_1 = 1, w_2 in [1, 2]: the map is (1, 0) for every w_2. The pair knows: V_1 - V_2 lies
# in [2, 3]. The intervals V_1 = 4 and V_2 in [1, 2] leave (2 - 1) / (4 - 1) = 1/3 open at the second place.
TWO_PLACES = {
    "saliency": torch.tensor([[[1.0, 0.0]]]),
    "activations": torch.tensor([[[[4.0, 0.0]], [[0.0, 1.0]]]]),
    "low": torch.tensor([[1.0, 1.0]]),
    "high": torch.tensor([[1.0, 2.0]]),
}


def test_the_bound_of_a_case_worked_out_by_hand():
    assert certified_bound(**TWO_PLACES).tolist() == [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget_module, "PAIRED_PIXELS", 1)
        torch.testing.assert_close(certified_bound(**TWO_PLACES), torch.tensor([1 / 3]))
        assert certified_bound(**{**TWO_PLACES, "high": TWO_PLACES["low"]}).tolist() == [0.0]


def test_the_bound_of_three_places_is_reached_by_weights_at_the_ends_of_their_intervals():
    # V = (4, w, 0) with w in [1, 3], and 2 in the map shown: w / 4 is 1/4 off the map's 1/2 at both ends.
    activations = torch.tensor([[[[4.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]])
    bound = certified_bound(
        torch.tensor([[[1.0, 0.5, 0.0]]]), activations, torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    )
    torch.testing.assert_close(bound, torch.tensor([0.25]))


def test_a_map_that_the_relu_may_cut_has_the_bound_of_intervals():
    # As above, less 1 in the third channel: V_2 = w_2 - 1 may be 0 - 0, and the ReLU is at work or is not.
    case = {**TWO_PLACES, "activations": torch.tensor([[[[4.0, 0.0]], [[0.0, 1.0]], [[0.0, -1.5]]]])}
    case |= {"low": torch.tensor([[1.0, 1.0, 1.0]]), "high": torch.tensor([[1.0, 2.0, 1.0]])}
    torch.testing.assert_close(certified_bound(**case), torch.tensor([0.5 / 4]))  # V_2 in [0, 1/2]
    assert certified_bound(**case, rectify=False).tolist() == [0.0]


@pytest.mark.parametrize(("cells", "pixels"), [(1, 5), (2, 2), (3, 12), (4, 7), (8, 128), (6, 3)])
def test_the_pixels_between_two_bends_lie_on_a_straight_line(cells, pixels):
    positions, weights = _bends(cells, pixels, torch.device("cpu"))
    maps = torch.rand(50, cells, 1, generator=torch.Generator().manual_seed(cells), dtype=torch.float64)
    line = upsample(maps, (pixels, 1)).squeeze(2)
    torch.testing.assert_close(maps.squeeze(2) @ weights.T, line[:, positions])
    for extreme in (torch.amax, torch.amin):
        torch.testing.assert_close(extreme(line[:, positions], 1), extreme(line, 1))
    assert len(positions) <= min(pixels, 2 * cells)


def bound_of_intervals(saliency, activations, low, high, rectify):
    """The bound of intervals alone, at every pixel: what the bound of the library must not exceed."""
    positive, negative = activations.clamp_min(0), activations.clamp_max(0)

    def up(for_positive, for_negative):
        v = (for_positive[..., None, None] * positive + for_negative[..., None, None] * negative).sum(1)
        return upsample(v.relu() if rectify else v, saliency.shape[-2:])

    u_low, u_high = up(low, high), up(high, low)
    m_low, m_high = (u.amin((1, 2), keepdim=True) for u in (u_low, u_high))
    top_low, top_high = (u.amax((1, 2), keepdim=True) for u in (u_low, u_high))
    least = ((u_low - m_high) / (top_high - m_high)).clamp(0, 1)
    most = ((u_high - m_low) / (top_low - m_low)).clamp(0, 1)
    bound = torch.maximum(saliency - least, most - saliency).amax((1, 2))
    return torch.where((top_low > m_high).flatten(), bound, 1.0)


def test_a_target_without_limits_and_a_map_that_may_be_flat_are_certified_nothing():
    activations, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 4, 4)
    low, high = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, torch.inf, torch.inf]])
    assert certified_bound(saliency, activations, low, high).tolist() == [1.0]
    assert certified_bound(saliency, torch.ones(1, 3, 2, 2), low, low).tolist() == [1.0]


@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**31), channels=st.integers(1, 12), share=st.floats(0.01, 1), signed=st.booleans(),
    spread=st.floats(0, 3), rectify=st.booleans(), extreme=st.booleans(),
)  # fmt: skip
def test_no_admissible_weights_lead_further_away_than_the_bound(
    seed, channels, share, signed, spread, rectify, extreme
):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    activations = torch.randn(2, channels, 3, 2, generator=generator, dtype=torch.float64) * draw(2, channels, 1, 1)
    activations = activations if signed else activations.relu()
    scored, low = draw(2, channels) < share, draw(2, channels) - 1
    high = torch.where(scored, low, low + spread * draw(2, channels))
    place = draw(2, channels)  # where the true score lies in its interval; the ends are the dangerous places
    truth = torch.lerp(low, high, place.round() if extreme else place)
    guess = torch.lerp(low, high, draw(2, channels))

    def saliency(scores):
        cam = torch.einsum("nk,nkhw->nhw", scores.softmax(1), activations)
        return to_saliency(cam.relu() if rectify else cam, (12, 8))

    case = saliency(guess), activations, low.exp(), high.exp(), rectify
    bound = certified_bound(*case)
    error = (saliency(guess) - saliency(truth)).abs().amax((1, 2))
    assert (error <= bound + 1e-6).all()
    assert ((bound >= 0) & (bound <= 1)).all()
    span_may_be_rounding = bound == 1
    assert (span_may_be_rounding | (bound <= bound_of_intervals(*case) + 1e-6)).all()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.sampled_from(["conv", "body"]))
def test_a_budgeted_score_fam_lies_within_its_bound_of_the_exact_map(seed, budget, layer):
    model, images = seeded(ConvHead(), seed), pictures(2, seed=seed)
    exact = explain(model, images, "score-fam", layer)
    budgeted = explain(model, images, "score-fam", layer, budget=budget)
    error = (budgeted.saliency - exact.saliency).abs().amax((1, 2))
    assert (error <= budgeted.bound + 1e-4).all()
    assert exact.bound is None


def test_a_budget_of_one_is_the_exact_map_and_a_smaller_one_costs_fewer_forwards():
    model, images = seeded(GapNet(12), 2), pictures(2)
    exact = explain(model, images, "score-fam", "relu")
    assert torch.equal(explain(model, images, "score-fam", "relu", budget=1.0).saliency, exact.saliency)
    masked = []
    handle = model.register_forward_hook(lambda _m, inputs, _o: masked.append(len(inputs[0])))
    half = explain(model, images, "score-fam", "relu", budget=0.5, batch_size=100)
    handle.remove()
    activations = model.relu(model.conv(images)).detach()
    live = (activations.amax((2, 3)) > activations.amin((2, 3))).sum(1)
    assert masked[2:] == [(live / 2).ceil().sum().item()]
    known = torch.isclose(half.scores, exact.scores, rtol=0, atol=1e-6)
    assert (known.sum(1) >= (live / 2).ceil()).all()


def test_all_score_methods_of_a_call_keep_to_the_budget_and_carry_a_bound():
    model, images = seeded(GapNet(neck=True), 4), pictures(2)
    classifier, other = seeded(torch.nn.Linear(6, 3)), model(images).detach().roll(1, 0)
    names = ["score-fam", "score-cam", "score-norm-fam", "grad-fam"]
    result = explain_all(model, images, names, "relu", other=other, classifier=classifier, budget=0.5)
    assert result["score-norm-fam"].bound.tolist() == [1.0, 1.0]  # a projection has no limits
    assert result["grad-fam"].bound is None
    for name in ("score-fam", "score-cam"):
        assert result[name].bound.shape == (2,)


@settings(max_examples=20)
@given(
    st.integers(0, 10_000), st.sampled_from([0.03, 0.1, 0.3, 0.6, 0.9]), st.sampled_from([0.4, 1.0]),
    st.sampled_from(["conv", "body"]),
)  # fmt: skip
def test_scoring_stops_within_the_tolerance_or_at_the_end_of_the_budget(seed, tolerance, budget, layer):
    model, images = seeded(ConvHead(), seed), pictures(2, seed=seed)
    exact = explain(model, images, "score-fam", layer)
    stopped = explain(model, images, "score-fam", layer, budget=budget, tolerance=tolerance)
    whole = explain(model, images, "score-fam", layer, budget=budget)
    ended = (stopped.scored == whole.scored).all(1)
    assert ((stopped.bound <= tolerance) | ended).all()
    assert not (stopped.scored & ~whole.scored).any()
    error = (stopped.saliency - exact.saliency).abs().amax((1, 2))
    assert (error <= stopped.bound + 1e-4).all()
    known = stopped.scored
    torch.testing.assert_close(stopped.scores[known], exact.scores[known], rtol=0, atol=1e-6)


def wide(seed=2):
    """Forty channels of very different energy: most of the map is that of a few."""
    model = seeded(GapNet(40), seed)
    scale = torch.logspace(0, -4, 40)
    model.conv.weight.data *= scale[:, None, None, None]
    model.conv.bias.data *= scale
    return model


def test_an_image_within_the_tolerance_takes_no_more_forwards_and_the_others_go_on():
    model, images = wide(), pictures(4)
    found = explain(model, images, "score-fam", "relu", tolerance=0.2)
    assert (found.bound <= 0.2).all()
    counts = found.scored.sum(1)
    assert counts.unique().numel() > 1
    masked = []
    handle = model.register_forward_hook(lambda _m, inputs, _o: masked.append(len(inputs[0])))
    explain(model, images, "score-fam", "relu", tolerance=0.2)
    handle.remove()
    assert sum(masked) == 2 * len(images) + counts.sum()
    whole = explain(model, images, "score-fam", "relu")
    assert (counts < whole.scored.sum(1)).all()
    assert whole.bound is None


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_what_a_tolerance_gives_depends_neither_on_the_chunks_nor_on_the_other_images(batch_size):
    model, images = wide(), pictures(3)
    expected = explain(model, images, "score-fam", "relu", tolerance=0.2, batch_size=7)
    ours = explain(model, images, "score-fam", "relu", tolerance=0.2, batch_size=batch_size)
    alone = explain(model, images[1:2], "score-fam", "relu", tolerance=0.2, batch_size=batch_size)
    assert torch.equal(ours.scored, expected.scored)
    assert torch.equal(alone.scored, expected.scored[1:2])
    torch.testing.assert_close(ours.bound, expected.bound, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.saliency, expected.saliency[1:2], rtol=0, atol=1e-5)


def test_a_tolerance_holds_for_every_score_method_of_the_call():
    model, images = wide(), pictures(2)
    classifier = seeded(torch.nn.Linear(40, 3))
    both = explain_all(
        model, images, ["score-fam", "score-cam", "grad-fam"], "relu", classifier=classifier, tolerance=0.15
    )
    alone = explain(model, images, "score-fam", "relu", tolerance=0.15)
    assert (both["score-fam"].bound <= 0.15).all() and (both["score-cam"].bound <= 0.15).all()
    assert both["grad-fam"].bound is None and both["grad-fam"].scored is None
    assert torch.equal(both["score-fam"].scored, both["score-cam"].scored)
    assert not (alone.scored & ~both["score-fam"].scored).any()


def test_beside_a_target_without_limits_a_tolerance_scores_every_channel():
    model, images = wide(), pictures(2)
    exact = explain(model, images, "score-fam", "relu")
    both = explain_all(model, images, ["score-fam", "score-norm-fam"], "relu", tolerance=0.5)
    torch.testing.assert_close(both["score-fam"].saliency, exact.saliency, rtol=0, atol=1e-6)
    for found in both.values():
        assert torch.equal(found.scored, exact.scored)
        assert (found.bound < 1e-5).all()


@pytest.mark.parametrize("option", [{"budget": 0.5}, {"tolerance": 0.2}])
def test_a_score_weighting_of_ones_own_is_refused_a_part_of_the_scores_until_it_says_how_it_grows(option):
    def positive(probe):
        return weighting.masked_scores(probe).relu()

    model, images = seeded(ConvHead()), pictures(2)
    silent, own = (Method("own", alpha, cosine, "self") for alpha in (positive, Weighting(positive, growth=torch.relu)))
    with pytest.raises(ValueError, match=r"Weighting\(function, growth=\.\.\.\)"):
        explain_all(model, images, [silent, "score-fam"], "conv", **option)
    found = explain_all(model, images, [own, "grad-fam"], "conv", **option)
    off = (found["own"].saliency - explain(model, images, own, "conv").saliency).abs().amax((1, 2))
    assert (off <= found["own"].bound + 1e-4).all() and found["grad-fam"].bound is None
