"""Rankings against scikit-learn, torchmetrics, a plain-Python reference and hand-computed cases."""

import math
from dataclasses import replace
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fam_lib import retrieval
from fam_lib.retrieval import Labels, Ranking, average_precision, cmc, evaluate, matches, mean_ap, rank, top_gallery

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]


def blocks_of(n_queries, n_gallery):
    """Ranks so many queries at once within the block, in a gallery of this size."""
    return patch.object(retrieval, "BLOCK_ENTRIES", n_queries * n_gallery)


def one_query(similarity, matched):
    """The ranking of one query (id 1, camera 1) whose matches, all in camera 2, are marked by True."""
    ids = [1 if match else 2 for match in matched]
    return rank(torch.tensor([similarity], dtype=torch.float32), Labels([1], [1], ids, [2] * len(ids)))


def at_ranks(ranks, size):
    """The ranking of one query whose matches stand at the given ranks, without ties."""
    return one_query([-float(i) for i in range(1, size + 1)], [i in ranks for i in range(1, size + 1)])


def random_case(seed, n_queries=12, n_gallery=40, levels=None, n_ids=6, n_cams=3):
    """Similarities and labels with junk, distractors, same-camera images and queries without a match."""
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(n_queries, n_gallery)).astype(np.float32)
    query_ids = rng.integers(1, n_ids + 2, n_queries)
    query_ids[0] = n_ids + 1  # an identity the gallery does not have
    if levels:  # few distinct values, so that matches and negatives tie
        similarity = np.round(similarity * levels).astype(np.float32) / levels
    query_cams = rng.integers(n_cams, size=n_queries)
    gallery_ids = rng.integers(-1, n_ids + 1, n_gallery)
    gallery_cams = rng.integers(n_cams, size=n_gallery)
    labels = (query_ids, query_cams, gallery_ids, gallery_cams)
    return torch.from_numpy(similarity), Labels(*map(torch.from_numpy, labels))


def lists(labels):
    """Identities and cameras of queries and gallery as Python numbers."""
    return [values.tolist() for values in vars(labels).values()]


def reference(similarity, labels):
    """Per query the (similarities, truths) that remain after the rule, by the words of the protocol."""
    query_ids, query_cams, gallery_ids, gallery_cams = lists(labels)
    for row, query_id, query_cam in zip(similarity.tolist(), query_ids, query_cams, strict=True):
        kept = []
        for value, gallery_id, cam in zip(row, gallery_ids, gallery_cams, strict=True):
            if gallery_id == -1 or (gallery_id == query_id and cam == query_cam):
                continue
            kept.append((value, bool(gallery_id == query_id)))
        yield [value for value, _ in kept], [truth for _, truth in kept]


# --- hand-computed ------------------------------------------------------------------------------------------


def test_worked_example():
    ranking = at_ranks({1, 4}, 6)
    assert ranking.ap.item() == pytest.approx((1 + 2 / 4) / 2)  # 0.75
    # p_1 = 1 because r_1 = 1; p_2 = (2-1)/(4-1)
    assert ranking.ap_trapezoid.item() == pytest.approx(((1 + 1) / 2 + (2 / 4 + 1 / 3) / 2) / 2)  # 0.70833
    assert ranking.ap_trapezoid.item() == pytest.approx(0.708333, abs=1e-6)
    assert ranking.first_match_rank.item() == 1
    assert ranking.n_matches.item() == 2
    assert ranking.match_similarity.item() == pytest.approx(-2.5)


@pytest.mark.parametrize("ranks", [{1}, {5}, {2, 3, 5}, {1, 2, 3}, {4, 5}, {1, 2, 3, 4, 5}])
def test_distinct_similarities_follow_the_textbook_sums(ranks):
    ranking = at_ranks(ranks, 5)
    ordered = list(enumerate(sorted(ranks), start=1))
    precisions = [k / r for k, r in ordered]
    before = [1.0 if r == 1 else (k - 1) / (r - 1) for k, r in ordered]
    n = len(ranks)
    assert ranking.ap.item() == pytest.approx(sum(precisions) / n)
    assert ranking.ap_trapezoid.item() == pytest.approx((sum(precisions) + sum(before)) / 2 / n)
    assert ranking.first_match_rank.item() == min(ranks)


def test_ties_share_a_threshold():
    # One negative above, then a match and two negatives tied, then a match: precisions 1/4 and 2/5.
    ranking = one_query([0.9, 0.5, 0.5, 0.5, 0.1, 0.0], [False, True, False, False, True, False])
    assert ranking.ap.item() == pytest.approx((1 / 4 + 2 / 5) / 2)
    # Before the tie the curve is at precision 0/1, before the last match at 1/4.
    assert ranking.ap_trapezoid.item() == pytest.approx(((1 / 4 + 0) / 2 + (2 / 5 + 1 / 4) / 2) / 2)
    assert ranking.first_match_rank.item() == 4  # the tied negatives stand before the match


def test_equal_similarities_are_worth_the_share_of_matches():
    ranking = one_query([0.3] * 10, [True] * 2 + [False] * 8)
    assert ranking.ap.item() == pytest.approx(0.2)
    assert ranking.ap_trapezoid.item() == pytest.approx((0.2 + 1) / 2)
    assert ranking.first_match_rank.item() == 9


def test_neighbouring_floats_are_not_ties_but_signed_zeros_are():
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert one_query([0.5, above], [False, True]).ap.item() == 1
    assert one_query([above, 0.5], [False, True]).ap.item() == 0.5
    assert one_query([above, 0.5], [False, True]).first_match_rank.item() == 2
    assert one_query([-0.0, 0.0], [True, False]).ap.item() == 0.5
    assert one_query([0.0, -0.0], [True, False]).ap_trapezoid.item() == 0.75


def test_same_camera_rule_distractors_and_junk():
    # In the order of similarity: own camera (removed), junk (removed), distractor, other identity in the
    # query's camera (stays), match. So the match stands at rank 3.
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    labels = Labels([7], [1], [7, -1, 0, 8, 7], [1, 2, 2, 1, 2])
    ranking = rank(similarity, labels)
    assert ranking.ap.item() == pytest.approx(1 / 3)
    assert ranking.first_match_rank.item() == 3
    assert ranking.n_matches.item() == 1
    assert ranking.match_similarity.item() == pytest.approx(0.5)
    assert matches(labels).tolist() == [[False, False, False, False, True]]
    assert top_gallery(similarity, labels, k=3).tolist() == [[2, 3, 4]]


def test_query_without_match_is_undefined_and_left_out():
    similarity = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    # Query 0 finds itself at rank 1; query 1 has only a same-camera image; query 2 has the match last.
    ranking = rank(similarity, Labels([1, 2, 1], [1, 1, 1], [1, 2], [2, 1]))
    assert ranking.ap.tolist()[::2] == [1.0, 0.5]
    for values in (ranking.ap, ranking.ap_trapezoid, ranking.match_similarity):
        assert values.isnan().tolist() == [False, True, False]
    assert ranking.first_match_rank.tolist() == [1, 0, 2]
    assert ranking.n_matches.tolist() == [1, 0, 1]
    assert ranking.n_undefined == 1
    assert ranking.defined.tolist() == [True, False, True]
    assert len(ranking) == 3
    assert mean_ap(ranking) == pytest.approx(0.75)
    assert mean_ap(ranking, "trapezoid") == pytest.approx((1 + 0.25) / 2)
    assert cmc(ranking, ranks=(1, 2)) == {1: 0.5, 2: 1.0}


def test_junk_queries_match_nothing():
    ranking = rank(torch.tensor([[0.9, 0.1]]), Labels([-1], [1], [-1, 3], [2, 2]))
    assert ranking.n_undefined == 1


def test_cmc_counts_first_matches():
    similarity = -torch.arange(12.0).repeat(3, 1)
    gallery_ids = [5, 1, 5, 5, 5, 2, 5, 5, 5, 5, 5, 3]  # first matches at ranks 2, 6 and 12
    ranking = rank(similarity, Labels([1, 2, 3], [1, 1, 1], gallery_ids, [2] * 12))
    assert ranking.first_match_rank.tolist() == [2, 6, 12]
    assert cmc(ranking) == pytest.approx({1: 0.0, 5: 1 / 3, 10: 2 / 3})


# --- labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda v: torch.tensor(v, dtype=torch.uint8)])
def test_labels_of_every_kind_of_integers_are_kept_as_int64(kind):
    labels = Labels(*map(kind, ([7, 8], [1, 2], [7, 8, 0], [2, 2, 1])))
    assert lists(labels) == [[7, 8], [1, 2], [7, 8, 0], [2, 2, 1]]
    assert all(values.dtype == torch.int64 for values in vars(labels).values())


def test_no_labels_are_integers_whatever_their_type_says():
    assert lists(Labels([], [], torch.empty(0), [])) == [[], [], [], []]


def test_labels_of_some_queries_keep_the_whole_gallery_and_may_repeat_queries():
    labels = Labels([7, 8, 9], [1, 2, 3], [9, 7], [1, 2])
    assert lists(labels.of_queries(slice(1, None))) == [[8, 9], [2, 3], [9, 7], [1, 2]]
    assert lists(labels.of_queries(torch.tensor([2, 0, 2]))) == [[9, 7, 9], [3, 1, 3], [9, 7], [1, 2]]
    assert lists(labels) == [[7, 8, 9], [1, 2, 3], [9, 7], [1, 2]]
    similarity = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.3, 0.6]])
    again = torch.tensor([0, 2, 0])
    whole, chosen = rank(similarity, labels), rank(similarity[again], labels.of_queries(again))
    assert whole.ap.tolist() == pytest.approx([1, math.nan, 0.5], nan_ok=True)
    assert chosen.ap.tolist() == [1, 0.5, 1]


# --- oracles ------------------------------------------------------------------------------------------------


# One test for all cases: scikit-learn takes seconds to import, and so does it in one of pytest's workers only.
def test_equals_scikit_learn_after_the_rule():
    for levels, seed in product([None, 1, 3], range(5)):  # distinct similarities, many ties, ties
        equals_scikit_learn(random_case(seed, levels=levels))


def equals_scikit_learn(case):
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve

    ranking = rank(*case)
    undefined = 0
    for i, (values, truths) in enumerate(reference(*case)):
        assert ranking.n_matches[i] == sum(truths)
        if not any(truths):
            undefined += 1
            assert math.isnan(ranking.ap[i])
            continue
        precision, recall, _ = precision_recall_curve(truths, values)
        best = max(v for v, truth in zip(values, truths, strict=True) if truth)
        above = sum(v >= best for v, truth in zip(values, truths, strict=True) if not truth)
        assert ranking.ap[i].item() == pytest.approx(average_precision_score(truths, values), abs=1e-12)
        assert ranking.ap_trapezoid[i].item() == pytest.approx(auc(recall, precision), abs=1e-12)
        assert ranking.first_match_rank[i] == above + 1
        mean = np.mean([v for v, truth in zip(values, truths, strict=True) if truth])
        assert ranking.match_similarity[i].item() == pytest.approx(mean, abs=1e-6)
    assert ranking.n_undefined == undefined


def test_equals_torchmetrics_without_ties():
    from torchmetrics.functional.retrieval import retrieval_average_precision  # seconds to import

    case = random_case(11)
    ranking = rank(*case)
    for i, (values, truths) in enumerate(reference(*case)):
        if any(truths):
            # torchmetrics takes a score <= 0 for "not retrieved", so its scores must be positive.
            expected = retrieval_average_precision(torch.tensor(values).exp(), torch.tensor(truths))
            assert ranking.ap[i].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("levels", [None, 2])
def test_rank_list_equals_a_stable_sort_of_what_remains(levels):
    similarity, labels = random_case(3, levels=levels)
    found = top_gallery(similarity, labels, k=7)
    query_ids, query_cams, gallery_ids, gallery_cams = lists(labels)
    for i, row in enumerate(found.tolist()):
        query_id, query_cam = query_ids[i], query_cams[i]
        kept = [
            j
            for j, (gallery_id, cam) in enumerate(zip(gallery_ids, gallery_cams, strict=True))
            if gallery_id != -1 and not (gallery_id == query_id and cam == query_cam)
        ]
        assert row == sorted(kept, key=lambda j, i=i: -similarity[i, j])[:7]


def test_matches_agrees_with_the_number_of_matches():
    similarity, labels = random_case(4)
    found = matches(labels)
    assert found.shape == similarity.shape
    assert torch.equal(found.sum(1), rank(similarity, labels).n_matches)
    query_ids, query_cams, gallery_ids, gallery_cams = lists(labels)
    expected = [
        [g == q and gc != qc for g, gc in zip(gallery_ids, gallery_cams, strict=True)]
        for q, qc in zip(query_ids, query_cams, strict=True)
    ]
    assert found.tolist() == expected


def test_evaluate_is_rank_of_cosines():
    torch.manual_seed(0)
    _, labels = random_case(5)
    queries, gallery = torch.randn(12, 8) * 3, torch.randn(40, 8)
    direct = evaluate(queries, gallery, labels)
    cosines = torch.nn.functional.cosine_similarity(queries[:, None], gallery[None], dim=2)
    by_matrix = rank(cosines, labels)
    assert torch.equal(direct.n_matches, by_matrix.n_matches)
    assert torch.allclose(direct.ap, by_matrix.ap, equal_nan=True)
    assert torch.allclose(direct.match_similarity, by_matrix.match_similarity, atol=1e-6, equal_nan=True)


def test_changed_queries_of_several_methods_are_one_call():
    torch.manual_seed(1)
    _, labels = random_case(6)
    methods, gallery = torch.randn(4, 12, 8), torch.randn(40, 8)
    stacked = evaluate(methods.flatten(0, 1), gallery, labels.of_queries(torch.arange(12).repeat(4)))
    for i, features in enumerate(methods):
        alone = evaluate(features, gallery, labels)
        same_ranking(Ranking(*(values[12 * i : 12 * (i + 1)] for values in vars(stacked).values())), alone)


# --- properties ---------------------------------------------------------------------------------------------


@st.composite
def small_cases(draw):
    """Few identities (junk -1 and distractor 0 too), cameras and similarities, so that everything coincides."""
    images = st.tuples(st.integers(-1, 3), st.integers(1, 3))
    queries, gallery = (draw(st.lists(images, min_size=1, max_size=size)) for size in (6, 15))
    row = st.lists(st.integers(-2, 2), min_size=len(gallery), max_size=len(gallery))
    similarity = torch.tensor([draw(row) for _ in queries], dtype=torch.float32)
    return similarity, Labels(*zip(*queries, strict=True), *zip(*gallery, strict=True))


@given(case=small_cases())
@settings(max_examples=80, deadline=None)
def test_equals_the_definition_with_ties_junk_and_lone_cameras(case):
    ranking = rank(*case)
    for i, (values, truths) in enumerate(reference(*case)):
        positives = [v for v, truth in zip(values, truths, strict=True) if truth]
        assert ranking.n_matches[i] == len(positives)
        if not positives:
            assert ranking.ap[i].isnan() and ranking.ap_trapezoid[i].isnan() and ranking.first_match_rank[i] == 0
            continue
        at, before = [], []
        for s in positives:
            above = [truth for v, truth in zip(values, truths, strict=True) if v > s]
            reached = [truth for v, truth in zip(values, truths, strict=True) if v >= s]
            at.append(sum(reached) / len(reached))
            before.append(sum(above) / len(above) if above else 1)
        assert ranking.ap[i].item() == pytest.approx(np.mean(at), abs=1e-12)
        assert ranking.ap_trapezoid[i].item() == pytest.approx((np.mean(at) + np.mean(before)) / 2, abs=1e-12)
        reached = [truth for v, truth in zip(values, truths, strict=True) if v >= max(positives)]
        assert ranking.first_match_rank[i] == 1 + reached.count(False)
        assert ranking.match_similarity[i].item() == pytest.approx(np.mean(positives), abs=1e-6)


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 1, 2, 5]), size=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_bounds(seed, levels, size):
    ranking = rank(*random_case(seed, n_queries=6, n_gallery=size, levels=levels))
    ap, trapezoid = ranking.ap[ranking.defined], ranking.ap_trapezoid[ranking.defined]
    assert ((ap > 0) & (ap <= 1)).all()
    assert ((trapezoid >= 0) & (trapezoid <= 1)).all()
    if levels is None:
        assert (trapezoid <= ap + 1e-12).all()
    first, n = ranking.first_match_rank[ranking.defined], ranking.n_matches[ranking.defined]
    assert ((first >= 1) & (first + n - 1 <= size)).all()


def same_ranking(a: Ranking, b: Ranking) -> None:
    for name in ("ap", "ap_trapezoid", "first_match_rank", "n_matches"):
        x, y = getattr(a, name).double(), getattr(b, name).double()
        assert torch.allclose(x, y, rtol=0, atol=1e-12, equal_nan=True), name


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 2]))
@settings(max_examples=40, deadline=None)
def test_order_of_the_gallery_does_not_matter(seed, levels):
    similarity, labels = random_case(seed, levels=levels)
    order = torch.randperm(similarity.shape[1], generator=torch.Generator().manual_seed(seed))
    reordered = replace(labels, gallery_ids=labels.gallery_ids[order], gallery_cams=labels.gallery_cams[order])
    same_ranking(rank(similarity, labels), rank(similarity[:, order], reordered))


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 2]))
@settings(max_examples=40, deadline=None)
def test_monotone_transforms_do_not_matter(seed, levels):
    similarity, labels = random_case(seed, levels=levels)
    _, ranks = similarity.unique(return_inverse=True)  # the finest monotone transform: the order itself
    same_ranking(rank(similarity, labels), rank(ranks.double() ** 3 - 7, labels))


@given(seed=st.integers(0, 10**6), block_size=st.integers(1, 15), levels=st.sampled_from([None, 2]))
@settings(max_examples=40, deadline=None)
def test_block_size_does_not_matter(seed, block_size, levels):
    case = random_case(seed, levels=levels)
    whole, best = rank(*case), top_gallery(*case, k=5)
    with blocks_of(block_size, case[0].shape[1]):
        blocks, best_in_blocks = rank(*case), top_gallery(*case, k=5)
    for name in vars(whole):
        assert torch.equal(getattr(whole, name).nan_to_num(-1), getattr(blocks, name).nan_to_num(-1))
    assert torch.equal(best, best_in_blocks)


def test_padding_of_a_block_cannot_change_the_last_bit():
    # A query with three matches beside queries with up to thirty: sums must not depend on the padding.
    sizes = torch.arange(3, 31)
    gallery_ids = torch.repeat_interleave(sizes, sizes)
    similarity = torch.randn(28, len(gallery_ids), generator=torch.Generator().manual_seed(0))
    labels = Labels(sizes, [1] * 28, gallery_ids, [2] * len(gallery_ids))
    whole = rank(similarity, labels)
    with blocks_of(1, len(gallery_ids)):
        single = rank(similarity, labels)
    for name, values in vars(whole).items():
        assert torch.equal(values, getattr(single, name)), name


@pytest.mark.parametrize("from_features", [False, True])
def test_blocks_stay_within_the_memory_bound(monkeypatch, from_features):
    similarity, labels = random_case(2)
    expected = rank(similarity, labels)

    def by_blocks():
        if not from_features:
            return rank(similarity, labels)
        # Columns of an orthonormal gallery: the cosines of a query are its own coordinates, scaled.
        return evaluate(similarity, torch.eye(40), labels)

    seen = []
    inner = retrieval._rank_block

    def spy(similarity, *args):
        seen.append(similarity.shape)
        return inner(similarity, *args)

    monkeypatch.setattr(retrieval, "BLOCK_ENTRIES", 200)
    monkeypatch.setattr(retrieval, "_rank_block", spy)
    same_ranking(by_blocks(), expected)
    assert seen == [(5, 40), (5, 40), (2, 40)]


# --- dtypes and devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_devices_agree(device):
    similarity, labels = random_case(8, levels=3)
    moved = labels.to(torch.device(device))
    assert all(values.device.type == device for values in vars(moved).values())
    expected = rank(similarity, labels)
    for of_labels in (labels, moved):  # the matrix decides
        ranking = rank(similarity.to(device), of_labels)
        assert ranking.ap.device.type == "cpu" and ranking.ap.dtype == torch.float64
        same_ranking(ranking, expected)
    assert torch.equal(top_gallery(similarity.to(device), labels, k=5), top_gallery(similarity, labels, k=5))
    features = torch.eye(40, device=device)
    same_ranking(evaluate(similarity.to(device), features, labels), expected)


def test_half_precision_is_widened():
    similarity, labels = random_case(9)
    half = similarity.half()
    same_ranking(rank(half, labels), rank(half.float(), labels))


def test_gradients_are_not_kept():
    features = torch.randn(3, 4, requires_grad=True)
    ranking = evaluate(features, features, Labels([1, 2, 3], [1, 1, 1], [1, 2, 3], [2, 2, 2]))
    assert not ranking.match_similarity.requires_grad
    assert ranking.match_similarity.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_similarity_matrix_is_left_as_it_was(dtype):
    similarity, labels = random_case(10)
    given_matrix = similarity.to(dtype)
    before = given_matrix.clone()
    rank(given_matrix, labels)
    top_gallery(given_matrix, labels, k=3)
    assert torch.equal(given_matrix, before)


@pytest.mark.filterwarnings("error")
def test_a_transposed_matrix_ranks_like_its_copy():
    similarity, labels = random_case(10)
    same_ranking(rank(similarity.T.contiguous().T, labels), rank(similarity, labels))


def test_no_queries_give_an_empty_ranking():
    ranking = rank(torch.empty(0, 2), Labels([], [], [1, 2], [1, 1]))
    assert len(ranking) == 0 and ranking.n_undefined == 0


# --- errors -------------------------------------------------------------------------------------------------

SIMILARITY = torch.tensor([[0.9, 0.1]])
LABELS = Labels([1], [1], [1, 2], [2, 2])


@pytest.mark.parametrize(
    ("similarity", "labels", "message"),
    [
        (SIMILARITY, ([1, 2], [1, 1], [1, 2], [2, 2]), "similarity has 1 query images but query_ids has 2"),
        (SIMILARITY, ([1], [1], [1], [2]), "similarity has 2 gallery images but gallery_ids has 1"),
        (SIMILARITY[0], ([1], [1], [1, 2], [2, 2]), "two-dimensional"),
        (torch.empty(1, 0), ([1], [1], [], []), "gallery is empty"),
        (torch.tensor([[0.9, math.nan]]), ([1], [1], [1, 2], [2, 2]), "NaN or infinite"),
        (torch.tensor([[0.9, math.inf]]), ([1], [1], [1, 2], [2, 2]), "NaN or infinite"),
    ],
)
def test_bad_values(similarity, labels, message):
    for function in (rank, top_gallery):
        with pytest.raises(ValueError, match=message):
            function(similarity, Labels(*labels))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (([1], [1, 1], [1, 2], [2, 2]), ValueError, "query_ids has 1 entries but query_cams has 2"),
        (([1], [1], [1, 2], [2]), ValueError, "gallery_ids has 2 entries but gallery_cams has 1"),
        (([[1]], [1], [1, 2], [2, 2]), ValueError, r"query_ids must be one-dimensional, got shape \(1, 1\)"),
        (([1], 1, [1, 2], [2, 2]), ValueError, r"query_cams must be one-dimensional, got shape \(\)"),
        (([1], [1], [1, 2], [2.0, 2.0]), TypeError, "gallery_cams must be integers, got torch.float32"),
        (([1], [1], [True, False], [2, 2]), TypeError, "gallery_ids must be integers, got torch.bool"),
        (([1j], [1], [1, 2], [2, 2]), TypeError, "query_ids must be integers, got torch.complex64"),
    ],
)
def test_bad_labels(labels, error, message):
    with pytest.raises(error, match=message):
        Labels(*labels)


def test_bad_types():
    with pytest.raises(TypeError, match="similarity must be a floating tensor, got torch.int64"):
        rank(SIMILARITY.long(), LABELS)
    with pytest.raises(TypeError, match="similarity must be a floating tensor, got list"):
        rank([[0.9, 0.1]], LABELS)


def test_bad_features():
    good, one = torch.ones(1, 3), Labels([1], [1], [1], [2])
    with pytest.raises(ValueError, match="disagree in dimension: 3 and 2"):
        evaluate(good, torch.ones(1, 2), one)
    with pytest.raises(ValueError, match="first features hold NaN"), blocks_of(1, 1):  # in the second block
        evaluate(torch.tensor([[1.0], [math.inf]]), torch.ones(1, 1), Labels([1, 1], [1, 1], [1], [2]))
    with pytest.raises(ValueError, match="second features hold NaN"):
        evaluate(good, good * math.nan, one)
    with pytest.raises(ValueError, match="features have 1 gallery images but gallery_ids has 2"):
        evaluate(good, good, Labels([1], [1], [1, 1], [2, 2]))
    with pytest.raises(ValueError, match="features have 1 query images but query_ids has 2"):
        evaluate(good, good, Labels([1, 1], [1, 1], [1], [2]))
    with pytest.raises(ValueError, match="gallery is empty"):
        evaluate(good, torch.empty(0, 3), Labels([1], [1], [], []))


@pytest.mark.parametrize("k", [0, -1])
def test_bad_k(k):
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_gallery(SIMILARITY, LABELS, k=k)


def test_rank_list_longer_than_the_gallery_left():
    similarity = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    with pytest.raises(ValueError, match="k is 2, but query 1 has only 1 gallery images left"), blocks_of(1, 2):
        top_gallery(similarity, Labels([1, 2], [1, 2], [1, 2], [2, 2]), k=2)


def test_means_need_a_defined_query_and_known_arguments():
    nothing = rank(SIMILARITY, Labels([3], [1], [1, 2], [2, 2]))
    for mean in (mean_ap, cmc):
        with pytest.raises(ValueError, match="none of the 1 queries has a match"):
            mean(nothing)
    something = rank(SIMILARITY, LABELS)
    with pytest.raises(ValueError, match="ap must be one of"):
        mean_ap(something, "area")
    with pytest.raises(ValueError, match="ranks must be at least 1"):
        cmc(something, ranks=(0,))
    assert average_precision(something, "trapezoid") is something.ap_trapezoid
