"""The evaluation run: maps with the paper's references, results by their definitions, shards that are found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluation_toys import LONELY, SIZE, blocks, classifying, killing, tiny_model
from fam_lib import explain
from fam_lib.faithfulness import measure
from fam_lib.masking import explanation_map, explanation_mask, gaussian_blur, top_share_mask
from workbook import paths
from workbook.cache.context import Context
from workbook.reid import evaluation
from workbook.reid.data import ImageSet, ReidData
from workbook.reid.evaluation import AREAS, EQ14, RULES, TABLE2_METHODS, baselines, saliencies
from workbook.reid.features import extract_features
from workbook.reid.model import ReidModel
from workbook.reid.queries import Queries, choose, load_queries, look_up

ONLY_EQ14 = {EQ14: explanation_mask}


def explain_queries(
    model: ReidModel, queries: Queries, methods: Sequence[str], cache: Path | None = None, seed: int = 0, **options
) -> dict[str, Tensor]:
    context = Context(cache, progress=False, seed=seed)
    return evaluation.explain_queries(model, queries, methods, context, **options)


def score_queries(
    model: ReidModel, queries: Queries, maps: Mapping, rules: Mapping = RULES, cache: Path | None = None, **options
) -> pd.DataFrame:
    return evaluation.score_queries(model, queries, maps, rules, Context(cache, progress=False), **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def queries(model: ReidModel, data: ReidData) -> Queries:
    return load_queries(model, data, SIZE, top=3)


def first(n: int, queries: Queries) -> Queries:
    return queries.subset(torch.arange(n))


def assert_near(maps: Tensor, expected: Tensor) -> None:
    """Maps of other batches differ by rounding."""
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


# ---- queries -------------------------------------------------------------------------------------------------


def test_the_rank_list_obeys_the_same_camera_rule(queries: Queries) -> None:
    same_id = queries.gallery_set.ids[queries.best] == queries.image_set.ids[:, None]
    same_camera = queries.gallery_set.cams[queries.best] == queries.image_set.cams[:, None]
    assert same_id.any() and not (same_id & same_camera).any()
    for n in range(len(queries)):
        similarity = queries.similarities(n)
        expected = torch.cosine_similarity(queries.features[n], queries.gallery[queries.best[n]])
        torch.testing.assert_close(similarity, expected)
        assert (similarity.diff() <= 0).all()


def test_queries_are_drawn_by_the_seed(data: ReidData) -> None:
    chosen, again = (choose(data.query, 3, seed).paths for seed in (0, 0))
    assert chosen == again == tuple(sorted(chosen)) and len(set(chosen)) == 3
    assert choose(data.query, 0).paths == data.query.paths
    assert len({choose(data.query, 3, seed).paths for seed in range(6)}) > 1
    with pytest.raises(ValueError, match=r"n_queries must lie in 0\.\.6"):
        choose(data.query, 7)


def test_a_subset_is_what_a_look_up_of_its_images_gives(model: ReidModel, queries: Queries) -> None:
    positions = torch.tensor([1, 4])
    subset = queries.subset(positions)
    again = look_up(model, queries.image_set.subset(positions), queries.gallery_set, SIZE, top=3)
    assert subset.image_set.paths == again.image_set.paths
    assert torch.equal(subset.best, again.best) and torch.equal(subset.images, again.images)
    torch.testing.assert_close(subset.features, again.features)
    torch.testing.assert_close(subset.ranking.ap, again.ranking.ap)
    assert subset.gallery_fingerprint == again.gallery_fingerprint


def test_features_are_kept_by_network_feature_size_and_image(
    model: ReidModel, data: ReidData, queries: Queries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbook.reid.queries.FEATURE_SHARD", 4)
    seen: list[str] = []
    context = Context(tmp_path / "cache", progress=False)

    def extract(network: ReidModel, image_set: ImageSet, size: tuple[int, int]) -> Tensor:
        seen.extend(path.name for path in image_set.paths)
        return extract_features(network, image_set, size)

    monkeypatch.setattr("workbook.reid.queries.extract_features", extract)

    def computed(network: ReidModel = model, images: ReidData = data, size: tuple[int, int] = SIZE) -> list[str]:
        seen.clear()
        look_up(network, images.query, images.gallery, size, context=context)
        return list(seen)

    everything = [path.name for part in (data.query, data.gallery) for path in part.paths]
    assert computed() == everything and computed() == []
    kept = look_up(model, data.query, data.gallery, SIZE, top=3, context=context)
    monkeypatch.setattr("workbook.reid.features.BATCH", 4)
    assert torch.equal(kept.gallery, extract_features(model, data.gallery, SIZE))
    assert torch.equal(kept.best, queries.best)
    torch.testing.assert_close(kept.ranking.ap, queries.ranking.ap, equal_nan=True)
    for changed in ({"network": tiny_model(1)}, {"network": model.returning("before_bn")}, {"size": (32, 16)}):
        assert computed(**changed) == everything
    gallery = [*data.gallery.paths]
    gallery[5] = blocks(tmp_path / "other", seed=1).gallery.paths[5]
    other = replace(data, gallery=replace(data.gallery, paths=tuple(gallery)))
    assert computed(images=other) == [path.name for path in gallery[4:8]]  # the shard of the changed image


# ---- maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", ["after_bn", "before_bn"])
def test_maps_are_those_of_explain_with_the_references_of_section_4_1(
    model: ReidModel, queries: Queries, cache: Path, feature: str
) -> None:
    model = model.returning(feature)
    some = look_up(model, queries.image_set.subset(range(3)), queries.gallery_set, SIZE, top=3)
    names = ["grad-cam", "score-cam", "score-cam-logit", "ram", "cg-ram", "grad-ram", "grad-fam", "score-fam"]
    names += ["uniform", "all-ones"]
    maps = explain_queries(model, some, names, cache)
    assert list(maps) == names
    rank_1 = some.gallery[some.best[:, 0]]
    with torch.no_grad():
        predicted = classifying(model)(some.images).argmax(1)
    for name in names:
        network = classifying(model) if "-cam" in name else model
        reference = predicted if "-cam" in name else rank_1 if name.endswith("ram") else None
        assert_near(maps[name], explain(network, some.images, name, model.layer, reference=reference).cam)
    assert not torch.allclose(maps["grad-cam"], maps["grad-fam"]) and not torch.allclose(maps["ram"], maps["cg-ram"])


def test_layer_baseline_seed_and_place_in_the_rank_list_are_those_asked_for(
    model: ReidModel, queries: Queries, cache: Path
) -> None:
    some, layer = first(2, queries), "backbone.blocks.3"
    x, third = some.images, some.gallery[some.best[:, 2]]
    grad_fam = explain_queries(model, some, ["grad-fam"], cache, layer=layer)["grad-fam"]
    assert_near(grad_fam, explain(model, x, "grad-fam", layer).cam)
    score_fam = explain_queries(model, some, ["score-fam"], cache, baseline="mean colour")["score-fam"]
    assert_near(score_fam, explain(model, x, "score-fam", model.layer, baseline=torch.zeros_like).cam)
    ram = explain_queries(model, some, ["ram"], cache, other=2)["ram"]
    assert_near(ram, explain(model, x, "ram", model.layer, reference=third).cam)
    noise = explain_queries(model, some, ["random-map"], cache, seed=3)["random-map"]
    assert torch.equal(noise, explain(model, x, "random-map", model.layer, seed=3).cam)


def test_saliency_is_that_of_explain(model: ReidModel, queries: Queries, cache: Path) -> None:
    names = ["grad-fam", "ram", "all-ones"]
    found = saliencies(explain_queries(model, queries, names, cache), SIZE)
    rank_1 = queries.gallery[queries.best[:, 0]]
    for name in names:
        expected = explain(model, queries.images, name, model.layer, reference=rank_1 if name == "ram" else None)
        torch.testing.assert_close(found[name], expected.saliency, rtol=0, atol=1e-4)
    assert found["all-ones"].eq(1).all()


def test_baselines_are_mean_colour_and_black_in_the_networks_colours(model: ReidModel, queries: Queries) -> None:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
    made = {name: make(queries.images) * std + mean for name, make in baselines(model).items()}
    torch.testing.assert_close(made["black"], torch.zeros_like(queries.images), rtol=0, atol=1e-6)
    torch.testing.assert_close(made["mean colour"], mean.expand_as(queries.images))
    torch.testing.assert_close(made["blurred"], gaussian_blur(queries.images) * std + mean)


def test_the_smaller_blur_is_the_papers_on_an_image_twice_as_large(model: ReidModel, queries: Queries) -> None:
    def blurred(name: str, images: Tensor) -> Tensor:
        return baselines(model)[name](images)

    torch.testing.assert_close(
        blurred("blurred, kernel 25", queries.images), gaussian_blur(queries.images, kernel_size=25, sigma=25.0)
    )
    # A step from black to white in the middle: where it is crossed in pixels doubles with the image and the kernel.
    small, large = (torch.arange(n).ge(n // 2).float().expand(1, 3, 2 * n, n).contiguous() for n in (64, 128))
    ramp, wide = blurred("blurred, kernel 25", small)[0, 0, 0], blurred("blurred", large)[0, 0, 0]
    torch.testing.assert_close(ramp, wide.view(-1, 2).mean(1), rtol=0, atol=0.02)
    assert (blurred("blurred", small)[0, 0, 0] - ramp).abs().max() > 0.2


# ---- rules ---------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.sampled_from(range(10, 100, 10)), st.integers(0, 9))
def test_insertion_keeps_the_top_share_and_deletion_its_complement(percent: int, seed: int) -> None:
    saliency = torch.rand(2, 12, 5, generator=torch.Generator().manual_seed(seed))
    kept, left = (RULES[name](saliency) for name in (str(percent), f"without {percent}"))
    assert torch.equal(kept, top_share_mask(saliency, percent / 100))
    assert torch.equal(kept + left, torch.ones_like(saliency))
    assert kept.sum((1, 2)).tolist() == [round(0.6 * percent)] * 2
    assert saliency[0][kept[0] == 1].min() >= saliency[0][left[0] == 1].max()


def test_the_rules_are_eq_14_and_nine_steps_of_two_curves() -> None:
    assert len(RULES) == 19 and RULES[EQ14] is explanation_mask
    assert AREAS == ("10", "20", "30", "50") and set(AREAS) < set(RULES)


# ---- results -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maps(model: ReidModel, queries: Queries, cache: Path) -> dict[str, Tensor]:
    return explain_queries(model, queries, ["grad-fam", "cg-ram", "all-ones"], cache)


@pytest.fixture(scope="module")
def results(model: ReidModel, queries: Queries, maps: dict[str, Tensor], cache: Path) -> pd.DataFrame:
    return score_queries(model, queries, maps, cache=cache)


def test_there_is_one_row_for_each_method_rule_and_query(results: pd.DataFrame, queries: Queries) -> None:
    assert len(results) == 3 * len(RULES) * len(queries)
    assert not results.duplicated(["method", "keep", "query"]).any()
    assert set(results["query"]) == {path.name for path in queries.image_set.paths}
    lonely = results["query"].str.startswith(f"{LONELY:04d}")
    scores = [f"{score}_{which}" for score in ("as", "ap", "trapezoid") for which in "xeb"]
    assert results.loc[lonely, scores].isna().all(axis=None) and results.loc[~lonely, scores].notna().all(axis=None)
    assert results[["area", "cosine", "cosine_b"]].notna().all(axis=None)


@pytest.mark.parametrize("method", ["grad-fam", "cg-ram"])
@pytest.mark.parametrize("ap", ["standard", "trapezoid"])
def test_eq_14_results_are_those_of_an_independent_measurement(
    model: ReidModel, queries: Queries, maps: dict[str, Tensor], results: pd.DataFrame, method: str, ap: str
) -> None:
    saliency, blurred = saliencies(maps, SIZE)[method], gaussian_blur(queries.images)
    changed = explanation_map(queries.images, blurred, saliency)
    with torch.no_grad():
        x, e, b = (model(images) for images in (queries.images, changed, blurred))
    expected = measure(x, e, b, queries.gallery, queries.labels, ap=ap)
    part = results[(results.method == method) & (results["keep"] == EQ14)]
    stem = {"standard": "ap", "trapezoid": "trapezoid"}[ap]
    for which in "xeb":
        for ours, theirs in ((f"as_{which}", f"as_{which}"), (f"{stem}_{which}", f"ap_{which}")):
            assert part[ours].tolist() == pytest.approx(getattr(expected, theirs).tolist(), abs=1e-5, nan_ok=True)
    assert part.area.tolist() == pytest.approx(explanation_mask(saliency).double().mean((1, 2)).tolist(), abs=1e-6)
    assert part.cosine.tolist() == pytest.approx(torch.cosine_similarity(x, e).tolist(), abs=1e-5)
    assert part.cosine_b.tolist() == pytest.approx(torch.cosine_similarity(x, b).tolist(), abs=1e-5)


@pytest.mark.parametrize("keep", ["30", "without 30"])
def test_the_other_rules_replace_what_they_name(
    model: ReidModel, queries: Queries, maps: dict[str, Tensor], results: pd.DataFrame, keep: str
) -> None:
    mask = top_share_mask(saliencies(maps, SIZE)["grad-fam"], 0.3)
    mask = mask if keep == "30" else 1 - mask
    blurred = gaussian_blur(queries.images)
    with torch.no_grad():
        e = model(torch.where(mask[:, None] == 1, queries.images, blurred))
    part = results[(results.method == "grad-fam") & (results["keep"] == keep)]
    assert part.cosine.tolist() == pytest.approx(torch.cosine_similarity(queries.features, e).tolist(), abs=1e-5)
    assert part.area.unique() == pytest.approx([mask.double().mean().item()])


@pytest.mark.parametrize("baseline", ["blurred", "mean colour", "black"])
def test_keeping_everything_loses_exactly_nothing_and_keeping_nothing_gives_the_baseline(
    model: ReidModel, queries: Queries, tmp_path: Path, baseline: str
) -> None:
    maps = {name: torch.ones(len(queries), 6, 3) for name in ("all-ones", "score-fam")}
    results = score_queries(model, queries, maps, ONLY_EQ14, tmp_path, baseline=baseline)
    everything, nothing = (results[results.method == name].dropna() for name in maps)
    for score in ("as", "ap", "trapezoid"):
        assert everything[f"{score}_e"].tolist() == everything[f"{score}_x"].tolist()
        assert nothing[f"{score}_e"].tolist() == nothing[f"{score}_b"].tolist()
        assert everything[f"{score}_e"].tolist() != nothing[f"{score}_e"].tolist()
    assert (everything.area == 1).all() and (nothing.area == 0).all()
    assert results.flat.all(), "neither map has any variation"


def test_a_map_is_flat_where_its_saliency_is(model: ReidModel, queries: Queries, tmp_path: Path) -> None:
    cams = torch.full((2, 6, 3), 0.1)
    cams[0, 0, 0] += 1e-8  # one unit in the last place: rounding
    cams[1, 0, 0] += 1e-3
    results = score_queries(model, first(2, queries), {"grad-fam": cams}, ONLY_EQ14, tmp_path)
    assert results.flat.tolist() == [True, False]
    assert saliencies({"grad-fam": cams}, SIZE)["grad-fam"].amax((1, 2)).tolist() == [0, 1]


# ---- shards --------------------------------------------------------------------------------------------------

Computed = list[tuple[str, int]]  # (method, queries) of every call


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Computed:
    """What is computed rather than read, maps and results alike."""
    calls: Computed = []
    explain_all, score_shard = evaluation.explain_all, evaluation._score_shard

    def explaining(model, images, methods, *args, **options):
        calls.extend((method.name, len(images)) for method in methods)
        return explain_all(model, images, methods, *args, **options)

    def scoring(model, queries, gallery, cams, method, *args):
        calls.append((method, len(queries)))
        return score_shard(model, queries, gallery, cams, method, *args)

    monkeypatch.setattr(evaluation, "explain_all", explaining)
    monkeypatch.setattr(evaluation, "_score_shard", scoring)
    return calls


METHODS = ("ram", "score-fam", "uniform")


@pytest.mark.parametrize("shard", range(6))
def test_killed_at_any_shard_of_maps_the_run_goes_on_to_the_same_bits(
    model: ReidModel, queries: Queries, cache: Path, tmp_path: Path, monkeypatch, computed: Computed, shard: int
) -> None:
    monkeypatch.setattr(evaluation, "MAP_SHARD", 2)
    some = first(3, queries)  # a shard of two and one of one, of three methods
    whole = explain_queries(model, some, METHODS, cache / "whole")
    with killing(monkeypatch, shard), pytest.raises(KeyboardInterrupt):
        explain_queries(model, some, METHODS, tmp_path)
    kept = {path: path.read_bytes() for path in (tmp_path / "maps").iterdir()}
    assert len(kept) == shard
    computed.clear()
    resumed = explain_queries(model, some, METHODS, tmp_path)
    assert computed == [*((name, 2) for name in METHODS), *((name, 1) for name in METHODS)][shard:]
    assert {path: path.read_bytes() for path in kept} == kept
    assert all(torch.equal(whole[name], resumed[name]) for name in METHODS)


@pytest.mark.parametrize("shard", range(6))
def test_killed_at_any_shard_of_results_the_run_goes_on_to_the_same_digits(
    model: ReidModel, queries: Queries, cache: Path, tmp_path: Path, monkeypatch, computed: Computed, shard: int
) -> None:
    monkeypatch.setattr(evaluation, "SCORE_SHARD", 4)
    maps, rules = explain_queries(model, queries, METHODS, cache), {keep: RULES[keep] for keep in (EQ14, "10")}
    whole = score_queries(model, queries, maps, rules, cache / "whole")
    with killing(monkeypatch, shard), pytest.raises(KeyboardInterrupt):
        score_queries(model, queries, maps, rules, tmp_path)
    assert len(list((tmp_path / "results").iterdir())) == shard
    computed.clear()
    resumed = score_queries(model, queries, maps, rules, tmp_path)
    assert computed == [(name, n) for name in METHODS for n in (4, 2)][shard:]
    pd.testing.assert_frame_equal(whole, resumed, check_exact=True)
    computed.clear()
    pd.testing.assert_frame_equal(whole, score_queries(model, queries, maps, rules, tmp_path), check_exact=True)
    assert not computed


def reweighted(model: ReidModel) -> ReidModel:
    other = tiny_model()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.neck.weight[0] += 0.1
    return other


def relabelled(images: ImageSet) -> ImageSet:
    return ImageSet(images.paths, images.ids + 100 * (images.ids == images.ids[0]), images.cams)


def redrawn(queries: Queries, tmp_path: Path) -> Queries:
    """The same names and labels, other pictures."""
    return replace(queries, image_set=blocks_again(tmp_path).query.subset(torch.arange(len(queries))))


def blocks_again(tmp_path: Path) -> ReidData:
    return blocks(tmp_path / "again", seed=1)


Change = Callable[[ReidModel, Queries, Path], tuple[ReidModel, Queries, dict]]
CHANGES: dict[str, Change] = {
    "weights": lambda m, q, _: (reweighted(m), q, {}),
    "feature": lambda m, q, _: (m.returning("before_bn"), q, {}),
    "baseline": lambda m, q, _: (m, q, {"baseline": "black"}),
    "images": lambda m, q, path: (m, redrawn(q, path), {}),
    "size": lambda m, q, _: (m, replace(q, images=q.images[..., :64, :]), {}),
}
CHANGES_OF_MAPS = CHANGES | {
    "layer": lambda m, q, _: (m, q, {"layer": "backbone.blocks.3"}),
    "seed": lambda m, q, _: (m, q, {"seed": 1}),
}
CHANGES_OF_RESULTS = CHANGES | {
    "rules": lambda m, q, _: (m, q, {"rules": {"10": RULES["10"]}}),
    "gallery": lambda m, q, _: (m, replace(q, gallery_set=q.gallery_set.subset(range(14)), gallery=q.gallery[:14]), {}),
    "gallery's pictures": lambda m, q, path: (m, replace(q, gallery_set=blocks_again(path).gallery), {}),
    "gallery's labels": lambda m, q, _: (m, replace(q, gallery_set=relabelled(q.gallery_set)), {}),
    "queries' labels": lambda m, q, _: (m, replace(q, image_set=relabelled(q.image_set)), {}),
}


@pytest.mark.parametrize("change", CHANGES_OF_MAPS)
def test_maps_of_other_conditions_are_not_taken_for_these(
    model: ReidModel, queries: Queries, tmp_path: Path, computed: Computed, change: str
) -> None:
    some, names = first(2, queries), ["grad-fam", "uniform"]
    explain_queries(model, some, names, tmp_path)
    other, others, options = CHANGES_OF_MAPS[change](model, some, tmp_path)
    computed.clear()
    explain_queries(other, others, names, tmp_path, **options)
    assert computed == [(name, 2) for name in names]
    explain_queries(model, some, names, tmp_path)
    assert len(computed) == 2, "the first maps are still there"


def test_another_reference_concerns_only_the_methods_that_have_one(
    model: ReidModel, queries: Queries, tmp_path: Path, computed: Computed
) -> None:
    some, names = first(2, queries), ["ram", "grad-fam"]
    explain_queries(model, some, names, tmp_path)
    computed.clear()
    explain_queries(model, some, names, tmp_path, other=1)
    assert computed == [("ram", 2)]


@pytest.mark.parametrize("change", CHANGES_OF_RESULTS)
def test_results_of_other_conditions_are_not_taken_for_these(
    model: ReidModel, queries: Queries, tmp_path: Path, computed: Computed, change: str
) -> None:
    some, maps = first(2, queries), {"grad-fam": torch.rand(2, 6, 3)}
    options = {"rules": ONLY_EQ14}
    score_queries(model, some, maps, cache=tmp_path, **options)
    other, others, changed = CHANGES_OF_RESULTS[change](model, some, tmp_path)
    score_queries(other, others, maps, cache=tmp_path, **options | changed)
    assert len(computed) == 2
    score_queries(model, some, {"grad-fam": maps["grad-fam"] + 0.1}, cache=tmp_path, **options)
    score_queries(model, some, {"all-ones": maps["grad-fam"]}, cache=tmp_path, **options)  # not stretched to [0, 1]
    assert len(computed) == 4
    score_queries(model, some, {"ram": maps["grad-fam"]}, cache=tmp_path, **options)
    assert len(computed) == 4, "one map has one result, whoever made it"


def test_the_rounding_of_features_on_another_machine_loses_nothing(
    model: ReidModel, queries: Queries, tmp_path: Path, computed: Computed
) -> None:
    some = first(2, queries)
    elsewhere = replace(some, gallery=some.gallery * (1 + 1e-6), features=some.features * (1 + 1e-6))
    for each in (some, elsewhere):
        score_queries(model, each, explain_queries(model, each, ["ram"], tmp_path), ONLY_EQ14, tmp_path)
    assert computed == [("ram", 2)] * 2


def test_without_a_folder_the_cache_is_the_workbooks(
    model: ReidModel, queries: Queries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    some = first(1, queries)
    score_queries(model, some, explain_queries(model, some, ["uniform"]), ONLY_EQ14)
    assert [len(list((tmp_path / name).iterdir())) for name in ("maps", "results")] == [1, 1]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [lambda _: b"half a file", lambda _: b"", lambda _: bytes(range(256)), cut])
def test_a_damaged_shard_is_named(model: ReidModel, queries: Queries, tmp_path: Path, damage) -> None:
    some = first(2, queries)
    maps = explain_queries(model, some, ["uniform"], tmp_path)
    score_queries(model, some, maps, cache=tmp_path)
    for folder, again in (
        ("maps", lambda: explain_queries(model, some, ["uniform"], tmp_path)),
        ("results", lambda: score_queries(model, some, maps, cache=tmp_path)),
    ):
        (shard,) = (tmp_path / folder).iterdir()
        shard.write_bytes(damage(shard.read_bytes()))
        with pytest.raises(ValueError, match=f"{shard.name} in the cache is damaged: delete it and run again"):
            again()


def test_table_2_has_the_papers_methods_and_the_controls() -> None:
    papers = [name for name in TABLE2_METHODS[:8] if name != "score-cam-logit"]
    assert papers == ["grad-cam", "score-cam", "ram", "cg-ram", "grad-ram", "grad-fam", "score-fam"]
    assert TABLE2_METHODS[2] == "score-cam-logit"  # beside score-cam, the other reading of "class confidence"
    assert TABLE2_METHODS[8:] == ("uniform", "random-weights", "random-map", "centre-prior", "all-ones")
