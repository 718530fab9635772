"""The evaluation run: shards, resumption, and a Table 2 that follows from its definitions."""

import numpy as np
import pytest
import torch
from PIL import Image

from fam_lib import explain
from fam_lib.faithfulness import measure
from fam_lib.masking import explanation_map, explanation_mask, gaussian_blur
from fam_lib.reid import evaluation
from fam_lib.reid.data import load_market_layout
from fam_lib.reid.evaluation import TABLE2_METHODS, explain_queries, load_queries, score_maps
from fam_lib.reid.model import ReidModel
from fam_lib.reid.tables import equal_area_table, paired_table, retrieval_table, table2

SIZE = (64, 32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six identities as coloured blocks, seen by two cameras; one query has no match in the other camera."""
    root, rng = tmp_path_factory.mktemp("reid"), np.random.default_rng(0)
    colours = rng.integers(0, 255, (7, 4, 3))

    def save(folder, identity, camera, index):
        (root / folder).mkdir(exist_ok=True)
        blocks = colours[identity].repeat(16, 0)[:, None].repeat(32, 1)
        pixels = np.clip(blocks + rng.normal(0, 30, blocks.shape) - 20 * camera, 0, 255)
        Image.fromarray(pixels.astype("uint8")).save(root / folder / f"{identity:04d}_c{camera}_{index:02d}.png")

    for identity in (1, 2):
        save("bounding_box_train", identity, 1, 0)
    for identity in (3, 4, 5, 6):
        save("query", identity, 1, 0)
        for camera in (1, 2) if identity != 6 else (1,):
            save("bounding_box_test", identity, camera, 1)
    save("bounding_box_test", 0, 2, 1)
    return load_market_layout(root)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ReidModel("test_efficientnet", 2, last_stride=2, init="random").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.05)  # an untrained network's features hardly differ otherwise
    return model


@pytest.fixture(scope="module")
def queries(model, data):
    return load_queries(model, data, SIZE, top=3)


def test_maps_are_those_of_explain_with_the_references_of_section_4_1(model, queries, tmp_path):
    maps = explain_queries(model, queries, ["grad-cam", "cg-ram", "score-fam"], tmp_path, progress=False)
    x = queries.images
    best = queries.gallery[queries.best[:, 0]]
    for name, expected in {
        "grad-cam": explain(model.as_classifier(), x, "grad-cam", model.layer).cam,
        "cg-ram": explain(model, x, "cg-ram", model.layer, reference=best).cam,
        "score-fam": explain(model, x, "score-fam", model.layer).cam,
    }.items():
        torch.testing.assert_close(maps[name], expected, rtol=0, atol=1e-5)


def test_the_rank_1_image_obeys_the_same_camera_rule(queries):
    for n in range(len(queries)):
        first = queries.best[n, 0]
        same_id = queries.gallery_set.ids[first] == queries.image_set.ids[n]
        same_camera = queries.gallery_set.cams[first] == queries.image_set.cams[n]
        assert not (same_id and same_camera)


def test_a_run_that_was_killed_goes_on_where_it_stopped(model, queries, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "SHARD", 1)
    whole = explain_queries(model, queries, ["grad-fam", "uniform"], tmp_path / "whole", progress=False)
    calls = []
    original = evaluation.Explainer.__call__

    def killed(self, images, reference=None):
        calls.append(self.method.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, images, reference)

    monkeypatch.setattr(evaluation.Explainer, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        explain_queries(model, queries, ["grad-fam", "uniform"], tmp_path / "killed", progress=False)
    assert len(list((tmp_path / "killed" / "maps").iterdir())) == 2
    resumed = explain_queries(model, queries, ["grad-fam", "uniform"], tmp_path / "killed", progress=False)
    assert len(calls) == 3 + 2 * len(queries) - 2
    for name in whole:
        assert torch.equal(whole[name], resumed[name])
    explain_queries(model, queries, ["grad-fam", "uniform"], tmp_path / "killed", progress=False)
    assert len(calls) == 3 + 2 * len(queries) - 2


def test_other_weights_do_not_find_the_old_shards(model, queries, tmp_path):
    before = explain_queries(model, queries, ["grad-fam"], tmp_path, progress=False)["grad-fam"]
    with torch.no_grad():
        model.neck.weight[: len(model.neck.weight) // 2] *= 3
    try:
        after = explain_queries(model, queries, ["grad-fam"], tmp_path, progress=False)["grad-fam"]
    finally:
        with torch.no_grad():
            model.neck.weight[: len(model.neck.weight) // 2] /= 3
    assert not torch.equal(before, after)


def test_another_feature_does_not_find_the_old_shards(model, queries, tmp_path):
    before = explain_queries(model, queries, ["fam"], tmp_path, progress=False)["fam"]
    model.feature = "before_bn"
    try:
        after = explain_queries(model, queries, ["fam"], tmp_path, progress=False)["fam"]
    finally:
        model.feature = "after_bn"
    assert not torch.equal(before, after)


def test_a_damaged_shard_is_named(model, queries, tmp_path):
    explain_queries(model, queries, ["uniform"], tmp_path, progress=False)
    shard = next((tmp_path / "maps").iterdir())
    shard.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=shard.name):
        explain_queries(model, queries, ["uniform"], tmp_path, progress=False)


def test_scores_follow_equations_14_to_17(model, data, queries, tmp_path):
    maps = explain_queries(model, queries, ["grad-fam"], tmp_path, progress=False)
    scores = score_maps(model, queries, maps)["grad-fam"]
    saliency = explain(model, queries.images, "grad-fam", model.layer).saliency
    baseline = gaussian_blur(queries.images)
    with torch.no_grad():
        x, e, b = (model(i) for i in (queries.images, explanation_map(queries.images, baseline, saliency), baseline))
    labels = (data.query.ids, data.query.cams, queries.gallery, data.gallery.ids, data.gallery.cams)
    expected = measure(x, e, b, *labels)
    for column in ("as_drop", "ap_drop", "ap_increase"):
        ours, theirs = getattr(scores.faithfulness, column), getattr(expected, column)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(scores.area, explanation_mask(saliency).double().mean((1, 2)), rtol=0, atol=1e-6)


def test_all_ones_lose_nothing_and_the_table_counts_the_undefined(model, queries, tmp_path):
    maps = explain_queries(model, queries, TABLE2_METHODS, tmp_path, progress=False)
    frame = table2("blocks (synthetic)", score_maps(model, queries, maps))
    assert list(frame.columns) == [
        *("dataset", "method", "kind", "n_queries"),
        *("as_drop", "as_drop_lo", "as_drop_hi", "as_undefined"),
        *("ap_drop", "ap_drop_lo", "ap_drop_hi", "ap_undefined"),
        *("ap_increase", "ap_increase_lo", "ap_increase_hi", "retained_area"),
        *("paper_as_drop", "paper_ap_drop", "paper_ap_increase"),
    ]
    assert list(frame.method) == list(TABLE2_METHODS)
    ones = frame[frame.method == "all-ones"].iloc[0]
    assert (ones.as_drop, ones.ap_increase, ones.retained_area) == (0, 0, 100)
    assert (frame.as_undefined >= 1).all()  # the query of identity 6 has no match
    assert frame.set_index("method").paper_ap_drop["score-fam"] == 17.01
    assert frame[frame.kind == "control"].paper_as_drop.isna().all()
    assert ((frame.retained_area >= 0) & (frame.retained_area <= 100)).all()


def test_queries_are_drawn_by_the_seed(model, data):
    first, again = (evaluation.choose(data.query, 2, seed).paths for seed in (0, 0))
    assert first == again
    assert len(set(first)) == 2
    assert evaluation.choose(data.query, 0).paths == data.query.paths
    assert {evaluation.choose(data.query, 2, seed).paths for seed in range(6)} != {first}
    with pytest.raises(ValueError, match="0..4"):
        evaluation.choose(data.query, 5)


def test_at_equal_area_every_map_keeps_the_same_share(model, queries, tmp_path):
    names = ["grad-fam", "uniform", "all-ones"]
    maps = explain_queries(model, queries, names, tmp_path, progress=False)
    frame = equal_area_table("blocks", model, queries, maps, areas=(0.0, 0.25, 1.0))
    assert list(frame.method) == names * 3
    everything, nothing = frame[frame.area == 100], frame[frame.area == 0]
    assert everything.as_drop.tolist() == [0, 0, 0]
    assert nothing.as_drop.tolist() == [100, 100, 100]


def test_paired_table_is_antisymmetric_and_says_what_is_established(model, queries, tmp_path):
    maps = explain_queries(model, queries, ["grad-fam", "all-ones"], tmp_path, progress=False)
    scores = score_maps(model, queries, maps)
    ours = paired_table(scores, "grad-fam", ["all-ones", "grad-fam"], "as_drop")
    theirs = paired_table(scores, "all-ones", ["grad-fam"], "as_drop")
    assert ours.difference[0] == pytest.approx(-theirs.difference[0])
    assert (ours.difference[1], ours.established[1]) == (0, False)


def test_retrieval_table_ranks_all_queries(model, data, queries):
    frame = retrieval_table(data, {"toy": model}, SIZE)
    assert (frame.n_queries[0], frame.undefined[0]) == (4, 1)
    assert frame.mean_ap[0] == pytest.approx(100 * queries.ranking.ap.nanmean().item())
