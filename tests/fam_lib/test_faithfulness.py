"""Eq. 15-17, areas and intervals: closed forms, hand-computed cases and the controls' known values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fam_lib import faithfulness, retrieval
from fam_lib.faithfulness import (
    METRICS,
    Faithfulness,
    ap_drop,
    ap_increase,
    as_drop,
    bootstrap_means,
    compare,
    curve_area,
    measure,
    paired_difference,
    ratio_of_means,
    retained_area,
    summarise,
)
from fam_lib.masking import explanation_mask, top_share_mask
from fam_lib.retrieval import Labels, evaluate, matches

NAN = math.nan


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def same(found, expected):
    assert found.tolist() == pytest.approx(list(expected), nan_ok=True)


def columns(table):
    """The six scores and the three metrics by name."""
    return vars(table) | table.metrics()


def embedding_case(seed=0, n_ids=8, dim=16):
    """Features of X, E and B (B nearly at random) with labels; the last query has no match."""
    generator = torch.Generator().manual_seed(seed)

    def noise(rows):
        return torch.randn(rows, dim, generator=generator)

    centres = noise(n_ids + 1)
    query_ids = torch.arange(1, n_ids + 2).repeat_interleave(2)[:-1]
    query_cams = torch.arange(len(query_ids)) % 2
    gallery_ids = torch.arange(n_ids + 1).repeat_interleave(6)  # 0 are distractors
    gallery_cams = torch.arange(len(gallery_ids)) % 3
    x = centres[query_ids - 1] + 0.5 * noise(len(query_ids))
    b = noise(len(query_ids))
    e = 0.7 * x + 0.3 * b
    gallery = (gallery_ids[:, None] > 0) * centres[gallery_ids - 1] + 0.7 * noise(len(gallery_ids))
    return (x, e, b), (gallery, Labels(query_ids, query_cams, gallery_ids, gallery_cams))


# --- Eq. 15-17 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [as_drop, ap_drop])
def test_drop_by_hand(drop):
    x = tensor(0.8, 0.8, 0.8, 0.8, 0.8)
    e = tensor(0.8, 0.6, 0.2, 0.1, 0.9)  # as good, between, as bad as B, worse than B, better than X
    b = tensor(0.2, 0.2, 0.2, 0.2, 0.2)
    same(drop(x, e, b), [0, 1 / 3, 1, 7 / 6, 0])


@pytest.mark.parametrize("drop", [as_drop, ap_drop])
def test_drop_is_undefined_without_a_positive_denominator(drop):
    x = tensor(0.5, 0.5, 0.5, NAN, 0.5)
    e = tensor(0.4, 0.4, 0.4, NAN, 0.4)
    b = tensor(0.5, 0.6, 0.5 - 1e-8, NAN, 0.3)  # equal, better, better but for noise, no match, proper
    same(drop(x, e, b), [NAN, NAN, NAN, NAN, 0.5])


def test_increase_by_hand():
    x = tensor(0.5, 0.5, 0.5, 0.5, NAN, 0.5)
    e = tensor(0.6, 0.5, 0.4, 0.5 + 1e-8, NAN, 0.5 + 1e-5)
    same(ap_increase(x, e), [1, 0, 0, 0, NAN, 1])


def test_ratio_of_means_by_hand():
    x, e, b = tensor(0.8, 0.5, 0.5, NAN), tensor(0.6, 0.6, 0.1, NAN), tensor(0.4, 0.3, 0.5, NAN)
    # The third query is undefined. Losses 0.2 and 0 (clipped), full losses 0.4 and 0.2.
    assert ratio_of_means(x, e, b) == pytest.approx(0.2 / 0.6)
    assert summarise(as_drop(x, e, b)).mean == pytest.approx((0.5 + 0) / 2)
    assert math.isnan(ratio_of_means(x[2:], e[2:], b[2:]))


def test_vectors_must_agree():
    with pytest.raises(ValueError, match=r"one-dimensional inputs of one length.*'ap_e': \(3,\)"):
        ap_drop(tensor(1, 2), tensor(1, 2, 3), tensor(1, 2))
    with pytest.raises(ValueError, match="one-dimensional"):
        ap_increase(torch.ones(2, 2), torch.ones(2, 2))


@given(
    scores=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=80, deadline=None)
def test_drop_is_never_negative_infinite_or_wrongly_undefined(scores):
    x, e, b = torch.tensor(scores, dtype=torch.float64).T
    drop = as_drop(x, e, b)
    assert torch.equal(drop.isnan(), x - b <= 1e-6)
    assert ((drop >= 0) & drop.isfinite()).logical_or(drop.isnan()).all()
    assert torch.equal(drop == 0, (e >= x) & (x - b > 1e-6))


# --- from features ------------------------------------------------------------------------------------------


def test_zero_map_gives_drops_of_exactly_one():
    (x, _, b), gallery = embedding_case()
    table = measure(x, b, b, *gallery)
    assert set(table.as_drop[~table.as_drop.isnan()].tolist()) == {1.0}
    assert set(table.ap_drop[~table.ap_drop.isnan()].tolist()) == {1.0}


def test_all_ones_map_gives_drops_of_exactly_zero():
    (x, _, b), gallery = embedding_case()
    table = measure(x, x, b, *gallery)
    assert set(table.as_drop[~table.as_drop.isnan()].tolist()) == {0.0}
    assert set(table.ap_drop[~table.ap_drop.isnan()].tolist()) == {0.0}
    assert set(table.ap_increase[~table.ap_increase.isnan()].tolist()) == {0.0}


def test_measure_follows_the_words_of_eq_15():
    (x, e, b), (gallery_features, labels) = embedding_case()
    table = measure(x, e, b, gallery_features, labels)
    true = matches(labels)

    def d(i, j, q):
        cos = torch.nn.functional.cosine_similarity
        g = gallery_features[true[q]]
        return float((cos(i[q : q + 1], g) - cos(j[q : q + 1], g)).sum())

    for q in range(len(x)):
        if not true[q].any():
            assert table.as_drop[q].isnan() and table.ap_drop[q].isnan() and table.ap_increase[q].isnan()
        elif d(x, b, q) > 0:
            expected = max(0.0, d(x, e, q)) / d(x, b, q)
            assert table.as_drop[q].item() == pytest.approx(expected, abs=1e-5)
        else:
            assert table.as_drop[q].isnan()


@pytest.mark.parametrize("ap", ["standard", "trapezoid"])
def test_measure_takes_ap_of_the_kind_asked_for(ap):
    features, gallery = embedding_case()
    table = measure(*features, *gallery, ap=ap)
    for which, f in zip("xeb", features, strict=True):
        ranking = evaluate(f, *gallery)
        expected = ranking.ap if ap == "standard" else ranking.ap_trapezoid
        same(vars(table)[f"ap_{which}"], expected.tolist())
        same(vars(table)[f"as_{which}"], ranking.match_similarity.tolist())
    same(table.ap_drop, ap_drop(table.ap_x, table.ap_e, table.ap_b).tolist())
    same(table.ap_increase, ap_increase(table.ap_x, table.ap_e).tolist())


def test_undefined_queries_are_counted():
    (x, e, b), gallery = embedding_case()
    b[0] = x[0]  # as if blurring changed nothing
    table = measure(x, e, b, *gallery)
    assert table.as_drop[0].isnan() and table.ap_drop[0].isnan()
    assert table.ap_increase[0] in (0, 1)  # Eq. 17 needs no baseline
    assert table.ap_increase[-1].isnan()  # but it needs a match
    assert len(table) == len(x)
    for values, undefined in ((table.as_drop, 2), (table.ap_increase, 1)):
        summary = summarise(values)
        assert summary.undefined >= undefined
        assert summary.n + summary.undefined == len(x)
    assert summarise(table.ap_increase).undefined == 1


def test_scale_of_the_features_and_blocks_do_not_matter(monkeypatch):
    (x, e, b), gallery = embedding_case()
    one = measure(x, e, b, *gallery)
    monkeypatch.setattr(retrieval, "BLOCK_ENTRIES", 4 * len(gallery[0]))
    other = measure(3 * x, 0.1 * e, b, *gallery)
    for name, values in columns(one).items():
        assert torch.allclose(values, columns(other)[name], atol=1e-5, equal_nan=True), name


def test_compare_reuses_rankings():
    (x, e, b), gallery = embedding_case()
    rankings = [evaluate(f, *gallery) for f in (x, e, b)]
    expected = columns(measure(x, e, b, *gallery))
    for name, values in columns(compare(*rankings)).items():
        same(values, expected[name].tolist())


def test_compare_refuses_rankings_of_other_queries():
    (x, e, b), (gallery, labels) = embedding_case()
    ranking = evaluate(x, gallery, labels)
    reordered = evaluate(e.flip(0), gallery, labels.of_queries(torch.arange(len(x)).flip(0)))
    with pytest.raises(ValueError, match="explanation maps differ in the number of matches"):
        compare(ranking, reordered, ranking)
    with pytest.raises(ValueError, match="ap must be one of"):
        compare(ranking, ranking, ranking, ap="area")


def test_the_metrics_by_name_follow_from_six_scores_and_measure_gives_all_17_queries():
    as_x, as_e, as_b = tensor(0.8, 0.8, 0.5), tensor(0.6, 0.9, 0.4), tensor(0.2, 0.2, 0.5)
    ap_x, ap_e, ap_b = tensor(0.9, 0.5, NAN), tensor(0.6, 0.7, NAN), tensor(0.5, 0.1, NAN)
    table = Faithfulness(as_x, as_e, as_b, ap_x, ap_e, ap_b)
    expected = {"as_drop": [1 / 3, 0, NAN], "ap_drop": [0.75, 0, NAN], "ap_increase": [0, 1, NAN]}
    assert tuple(table.metrics()) == METRICS == tuple(expected)
    for name, values in expected.items():
        same(table.metrics()[name], values)
        same(getattr(table, name), values)
    assert len(table) == 3

    features, gallery = embedding_case()
    table = measure(*features, *gallery)
    assert isinstance(table, Faithfulness) and len(table) == 17
    assert list(vars(table)) == ["as_x", "as_e", "as_b", "ap_x", "ap_e", "ap_b"]
    for column in (*vars(table).values(), *table.metrics().values()):
        assert column.dtype == torch.float64 and column.shape == (17,) and column.device.type == "cpu"


# --- area ---------------------------------------------------------------------------------------------------


def test_retained_area_of_eq_14():
    saliency = torch.tensor([[[0.0, 0.29], [0.3, 0.59]], [[0.6, 1.0], [0.1, 0.45]]])
    area = retained_area(explanation_mask(saliency))
    same(area, [(0.9 + 0.9) / 4, (1 + 1 + 0.9) / 4])


@given(seed=st.integers(0, 10**6), delta=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_retained_area_is_the_zones_weighted(seed, delta):
    saliency = torch.rand(3, 8, 4, generator=torch.Generator().manual_seed(seed))
    strong, medium = (
        (saliency >= 0.6).double().mean((1, 2)),
        ((saliency >= 0.3) & (saliency < 0.6)).double().mean((1, 2)),
    )
    same(retained_area(explanation_mask(saliency, delta=delta)), (strong + delta * medium).tolist())


def test_boundaries_count_as_in_the_mask_in_every_precision():
    for dtype in (torch.float16, torch.float32, torch.float64):
        saliency = torch.tensor([[[0.3, 0.6]]], dtype=dtype)
        same(retained_area(explanation_mask(saliency, delta=0.5)), [0.75])


def test_retained_area_of_boolean_and_top_share_masks():
    same(retained_area(torch.tensor([[[True, False], [False, False]]])), [0.25])
    saliency = torch.rand(2, 10, 10, generator=torch.Generator().manual_seed(0))
    same(retained_area(top_share_mask(saliency, 0.3)), [0.3, 0.3])


def test_bad_masks():
    with pytest.raises(ValueError, match=r"mask must be \(N, H, W\)"):
        retained_area(torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        retained_area(torch.full((1, 2, 2), 1.5))
    with pytest.raises(ValueError, match="mask holds NaN"):
        retained_area(torch.full((1, 2, 2), NAN))


def test_curve_area_by_hand():
    shares = tensor(0, 0.5, 1)
    scores = torch.tensor([[0.0, 0.5, 1.0], [0.7, 0.7, 0.7], [1.0, 0.0, 0.0]])
    same(curve_area(scores, shares), [0.5, 0.7, 0.25])
    same(curve_area(scores[:, :2], tensor(0.2, 0.4)), [0.25, 0.7, 0.5])  # mean height, whatever the range


def test_bad_curves():
    with pytest.raises(ValueError, match="shares must increase"):
        curve_area(torch.ones(1, 3), tensor(0, 0, 1))
    with pytest.raises(ValueError, match=r"scores \(N, S\)"):
        curve_area(torch.ones(1, 3), tensor(0, 1))


# --- intervals ----------------------------------------------------------------------------------------------


def test_summary_leaves_out_and_counts_the_undefined():
    summary = summarise([0.0, NAN, 1.0, 0.5, NAN])
    assert summary.mean == pytest.approx(0.5)
    assert (summary.n, summary.undefined) == (3, 2)
    assert 0 <= summary.lo <= summary.mean <= summary.hi <= 1


def test_summary_of_too_few():
    nothing = summarise(tensor(NAN, NAN))
    assert math.isnan(nothing.mean) and math.isnan(nothing.lo) and (nothing.n, nothing.undefined) == (0, 2)
    single = summarise(tensor(0.3))
    assert single.mean == pytest.approx(0.3) and math.isnan(single.lo) and math.isnan(single.hi)


def test_constant_values_have_no_spread():
    summary = summarise(torch.full((50,), 0.25))
    assert (summary.mean, summary.lo, summary.hi) == (0.25, 0.25, 0.25)


def test_bootstrap_is_deterministic_and_seeded():
    values = torch.rand(40, generator=torch.Generator().manual_seed(1))
    assert summarise(values) == summarise(values)
    assert summarise(values, seed=1) == summarise(values, seed=1) != summarise(values)
    state = np.random.get_state()[1].copy()
    summarise(values)
    assert (np.random.get_state()[1] == state).all()


def test_interval_is_that_of_the_normal_approximation(monkeypatch):
    monkeypatch.setattr(faithfulness, "RESAMPLES", 4000)
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    summary = summarise(values)
    half_width = 1.959964 * values.std().item() / math.sqrt(len(values))
    assert summary.lo == pytest.approx(values.mean().item() - half_width, abs=0.05 * half_width)
    assert summary.hi == pytest.approx(values.mean().item() + half_width, abs=0.05 * half_width)


def test_interval_covers_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(faithfulness, "RESAMPLES", 400)
    monkeypatch.setattr(faithfulness, "LEVEL", 0.9)
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        summary = summarise(rng.random(60), seed=seed)
        covered += summary.lo <= 0.5 <= summary.hi
    # 300 trials at 0.9: standard deviation 0.017; the percentile interval is slightly short at n = 60.
    assert covered / 300 == pytest.approx(0.89, abs=0.05)


def test_many_queries_are_resampled_in_chunks(monkeypatch):
    monkeypatch.setattr(faithfulness, "BOOTSTRAP_ENTRIES", 250)
    values = torch.rand(100, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    monkeypatch.setattr(faithfulness, "RESAMPLES", 501)
    summary = summarise(values)
    assert summary == summarise(values)
    means = bootstrap_means(values.numpy())
    assert len(means) == 501  # chunks of 2, the last of 1
    half_width = 1.96 * values.std().item() / 10
    assert summary.hi - summary.lo == pytest.approx(2 * half_width, rel=0.2)


def test_methods_are_resampled_together(monkeypatch):
    monkeypatch.setattr(faithfulness, "BOOTSTRAP_ENTRIES", 250)
    monkeypatch.setattr(faithfulness, "RESAMPLES", 501)
    values = np.random.default_rng(0).random((100, 3))
    means = bootstrap_means(values, seed=7)
    assert means.shape == (501, 3)
    for column, own in zip(means.T, values.T, strict=True):
        assert (column == bootstrap_means(own, seed=7)).all()
    # A mean of sums is a sum of means only where the draws are the same.
    np.testing.assert_allclose(means.sum(1), bootstrap_means(values.sum(1), seed=7))


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 3), (1, 3)])
def test_resamples_of_too_few_say_nothing(shape):
    means = bootstrap_means(np.ones(shape))
    assert means.shape == (faithfulness.RESAMPLES, *shape[1:]) and np.isnan(means).all()


def test_paired_difference_removes_what_queries_share():
    generator = torch.Generator().manual_seed(4)
    difficulty = torch.rand(200, generator=generator, dtype=torch.float64)
    noise = 0.01 * torch.randn(200, generator=generator, dtype=torch.float64)
    a, b = difficulty + 0.05 + noise, difficulty.clone()
    a[0], b[1] = NAN, NAN
    difference = paired_difference(a, b)
    assert difference.mean == pytest.approx((0.05 + noise[2:]).mean().item())
    assert (difference.n, difference.undefined) == (198, 2)
    assert 0.045 < difference.lo < difference.hi < 0.055
    assert summarise(a).hi - summarise(a).lo > 10 * (difference.hi - difference.lo)
    assert paired_difference(a, a)[:3] == (0, 0, 0)
    flipped = paired_difference(b, a)
    assert (flipped.lo, flipped.hi) == pytest.approx((-difference.hi, -difference.lo), abs=3e-4)


def test_whole_groups_are_resampled_by_hand():
    """Groups of sums 1, 5 and counts 1, 2: a resample is one twice, the other twice, or both: 1, 5/2 or 6/3."""
    values, groups = np.array([2.0, 1.0, 3.0]), [7, -1, 7]
    means = bootstrap_means(values, groups=groups)
    found, count = np.unique(means, return_counts=True)
    assert found.tolist() == [1, 2, 2.5]
    assert count / len(means) == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    summary = summarise(values, groups=torch.tensor(groups))
    assert (summary.mean, summary.lo, summary.hi, summary.n) == (2, 1, 2.5, 3)
    assert summarise([*values, NAN, NAN], groups=[*groups, 7, 3]) == (2, 1, 2.5, 3, 2)
    with_nan = np.stack([[2.0, 1.0, 3.0], [2.0, 4.0, NAN]], axis=1)
    both = bootstrap_means(with_nan, groups=groups)
    assert (both[:, 0] == means).all() and np.unique(both[:, 1]).tolist() == [2, 3, 4]


def test_groups_of_one_query_each_are_queries():
    values = torch.rand(60, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    alone, grouped = summarise(values), summarise(values, groups=torch.randperm(60))
    assert grouped.mean == alone.mean
    width = alone.hi - alone.lo
    assert (grouped.lo, grouped.hi) == pytest.approx((alone.lo, alone.hi), abs=0.1 * width)


def test_copies_of_a_query_in_its_group_do_not_narrow_the_interval():
    values = torch.rand(30, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    once = summarise(values, groups=torch.arange(30))
    copied = summarise(values.repeat_interleave(4), groups=torch.arange(30).repeat_interleave(4))
    assert copied[1:3] == pytest.approx(once[1:3])
    naive = summarise(values.repeat_interleave(4))
    assert naive.hi - naive.lo < 0.6 * (copied.hi - copied.lo)


def test_one_group_says_nothing_about_spread():
    for summary in (
        summarise([0.1, 0.2, 0.3], groups=[4, 4, 4]),
        summarise([0.1, NAN, 0.3], groups=[4, 5, 4]),
        paired_difference([0.1, 0.2], [0.0, NAN], groups=[1, 2]),
    ):
        assert math.isnan(summary.lo) and math.isnan(summary.hi) and summary.mean > 0
    assert summarise([], groups=[]).n == 0
    assert np.isnan(bootstrap_means(np.full((3, 2), NAN), groups=[1, 2, 3])).all()


def test_groups_are_resampled_in_chunks_and_together(monkeypatch):
    monkeypatch.setattr(faithfulness, "BOOTSTRAP_ENTRIES", 100)
    monkeypatch.setattr(faithfulness, "RESAMPLES", 501)
    values, groups = np.random.default_rng(0).random((90, 2)), np.repeat(np.arange(30), 3)
    means = bootstrap_means(values, groups=groups)  # chunks of 3
    assert means.shape == (501, 2)
    np.testing.assert_allclose(means.sum(1), bootstrap_means(values.sum(1), groups=groups))
    a, b = values.T
    difference = paired_difference(a, b, groups=groups)
    assert difference[1:3] == pytest.approx(np.quantile(means[:, 0] - means[:, 1], [0.025, 0.975]).tolist())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarise([math.inf, 1.0]), "infinity"),
        (lambda: summarise(torch.ones(2, 2)), "one-dimensional"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "one length"),
        (lambda: paired_difference([math.inf], [math.inf]), "infinity"),
        (lambda: summarise([1.0, 2.0], groups=[1]), r"groups must be \(2,\) integers"),
        (lambda: summarise([1.0, 2.0], groups=[1.0, 2.0]), "integers"),
    ],
)
def test_bad_summaries(call, message):
    with pytest.raises(ValueError, match=message):
        call()
