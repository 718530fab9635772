"""Budgeted scores: what is scored, what the others get, and a bound that always holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fam_lib import explain, explain_all
from fam_lib.budget import certified_bound, fill_in, most_energetic, score_interval
from fam_lib.explain import to_saliency
from fam_lib.targets import class_confidence, cosine, projection
from toys import ConvHead, GapNet, pictures, seeded


def test_the_most_energetic_share_of_the_live_channels_is_chosen_rounded_up():
    sums = torch.tensor([[3.0, -9.0, 5.0, 1.0, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    live = torch.tensor([[True, True, True, True, False], [True] * 5])
    maps = sums[:, :, None, None].expand(-1, -1, 2, 3)
    assert most_energetic(maps, live, 0.5).tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
    assert torch.equal(most_energetic(maps, live, 1.0), live)
    assert most_energetic(maps, live, 1e-9).sum(1).tolist() == [1, 1]


def test_channels_without_a_score_get_the_lowest_of_the_scored_live_ones():
    scores = torch.tensor([[0.2, 0.4, 0.0, 0.0]])
    scored, live = torch.tensor([[True, True, False, True]]), torch.tensor([[True, True, True, False]])
    torch.testing.assert_close(fill_in(scores, scored, live), torch.tensor([[0.2, 0.4, 0.2, 0.0]]))


def test_an_unknown_score_lies_in_the_range_of_its_target_less_the_baseline():
    scores, scored, baseline = torch.tensor([[0.25, 0.0]]), torch.tensor([[True, False]]), torch.tensor([0.5])
    expected = {cosine: (-1.5, 0.5), class_confidence: (-0.5, 0.5), projection: (-torch.inf, torch.inf)}
    for target, (low, high) in expected.items():
        ours = score_interval(target, scores, scored, baseline)
        assert [limit.tolist() for limit in ours] == [[[0.25, low]], [[0.25, high]]]


def test_the_bound_of_a_case_worked_out_by_hand():
    # V = w_1 (4, 0) + w_2 (0, 1), w_1 = 1, w_2 in [1, 2]: the map (V - min) / (max - min) is (1, 0) for every
    # w_2, but the intervals V_1 = 4, V_2 in [1, 2] allow no less than (4 - 2) / (4 - 2) = 1 at the first place
    # and no more than (2 - 1) / (4 - 1) = 1/3 at the second.
    activations = torch.tensor([[[[4.0, 0.0]], [[0.0, 1.0]]]])
    saliency = torch.tensor([[[1.0, 0.0]]])
    low, high = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(certified_bound(saliency, activations, low, high), torch.tensor([1 / 3]))
    torch.testing.assert_close(certified_bound(saliency, activations, low, low), torch.tensor([0.0]))


def test_a_target_without_limits_and_a_map_that_may_be_flat_are_certified_nothing():
    activations, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 4, 4)
    low, high = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, torch.inf, torch.inf]])
    assert certified_bound(saliency, activations, low, high).tolist() == [1.0]
    assert certified_bound(saliency, torch.ones(1, 3, 2, 2), low, low).tolist() == [1.0]


@settings(max_examples=200)
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

    bound = certified_bound(saliency(guess), activations, low.exp(), high.exp(), rectify)
    error = (saliency(guess) - saliency(truth)).abs().amax((1, 2))
    assert (error <= bound + 1e-6).all()
    assert ((bound >= 0) & (bound <= 1)).all()


@settings(max_examples=30)
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


@pytest.mark.parametrize("budget", [0, -0.5, 1.5, float("nan")])
def test_a_budget_outside_0_to_1_is_refused(budget):
    with pytest.raises(ValueError, match="budget must be a share"):
        explain(seeded(GapNet()), pictures(1), "score-fam", budget=budget)
