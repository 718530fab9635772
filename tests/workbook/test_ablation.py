"""The ablations: one choice changed at a time, each against what Table 2 uses."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from evaluation_toys import SIZE, blocks
from fam_lib import Explanation, explain
from fam_lib.explain import combine, to_saliency
from fam_lib.faithfulness import Faithfulness, measure, ratio_of_means
from fam_lib.masking import blend, explanation_mask, gaussian_blur
from workbook.cache.context import Context
from workbook.images import load_images, normalise
from workbook.reid import evaluation
from workbook.reid.ablation import ABLATED, ANY_LAYER, RAM_EQ5, ablation_table
from workbook.reid.model import ReidModel
from workbook.reid.queries import Queries, load_queries, look_up
from workbook.reid.tables import table2

LAYER = "backbone.blocks.3"
DEFAULTS = {
    "AP": "standard",
    "average": "mean of ratios",
    "thresholds": "B_Low 0.3, B_High 0.6, delta 0.9",
    "weights": "softmax of S",
    "RAM": "batch norm folded",
    "baseline": "blurred",
    "layer": "the last map",
    "feature": "after BN",
}


@pytest.fixture(scope="module")
def queries(model: ReidModel, tmp_path_factory: pytest.TempPathFactory) -> Queries:
    everyone = load_queries(model, blocks(tmp_path_factory.mktemp("blocks")), SIZE)
    return everyone.subset(torch.tensor([0, 2, 3, 4]))


@pytest.fixture(scope="module")
def ablation(model: ReidModel, queries: Queries, cache: Path) -> pd.DataFrame:
    return ablation_table(model, queries, SIZE, "toy", [LAYER], context=Context(cache, progress=False))


def expected_scores(
    model: ReidModel, queries: Queries, saliency: Tensor, mask=explanation_mask, baseline=gaussian_blur, **options
) -> Faithfulness:
    """Eq. 15-17 of a saliency (Q, H, W), measured without the code under test."""
    x = queries.images
    images = (x, blend(x, baseline(x), mask(saliency)), baseline(x))
    with torch.no_grad():
        features = [model(each) for each in images]
    return measure(*features, queries.gallery, queries.labels, **options)


def assert_row(ablation: pd.DataFrame, choice: str, setting: str, method: str, expected: Faithfulness) -> None:
    rows = ablation[(ablation.choice == choice) & (ablation.setting == setting) & (ablation.method == method)]
    (row,) = rows.itertuples()
    for metric in ("as_drop", "ap_drop", "ap_increase"):
        mean = 100 * getattr(expected, metric).nanmean().item()
        assert getattr(row, metric) == pytest.approx(mean, rel=1e-3, abs=1e-3, nan_ok=True)
    assert row.as_undefined == expected.as_drop.isnan().sum() and row.ap_undefined == expected.ap_drop.isnan().sum()


def score_fam(model: ReidModel, queries: Queries, layer: str | None = None, **options) -> Explanation:
    return explain(model, queries.images, "score-fam", layer or model.layer, **options)


def test_each_choice_begins_with_its_one_default(ablation: pd.DataFrame) -> None:
    assert list(ablation.choice.unique()) == list(DEFAULTS)
    for choice, block in ablation.groupby("choice"):
        settings = list(block.setting.unique())
        assert settings[0] == DEFAULTS[choice] and len(settings) > 1
        assert (block.default == (block.setting == DEFAULTS[choice])).all()
        methods = {"weights": ["score-fam"], "RAM": ["ram"], "layer": [*ANY_LAYER]}.get(choice, [*ABLATED])
        assert block.groupby("setting").method.agg(list).tolist() == [methods] * len(settings)
    assert (ablation.n_queries == 4).all() and (ablation.dataset == "toy").all()


def test_without_other_layers_there_is_no_such_choice(model: ReidModel, queries: Queries, cache: Path) -> None:
    frame = ablation_table(model, queries, SIZE, "toy", context=Context(cache, progress=False))
    assert list(frame.choice.unique()) == [choice for choice in DEFAULTS if choice != "layer"]


@pytest.fixture(scope="module")
def usual(model: ReidModel, queries: Queries, cache: Path) -> pd.DataFrame:
    """The results of Table 2 for the same queries."""
    maps = evaluation.explain_queries(model, queries, ABLATED, Context(cache, progress=False))
    rules = {evaluation.EQ14: explanation_mask}
    return evaluation.score_queries(model, queries, maps, rules, Context(cache, progress=False))


def test_the_defaults_are_the_rows_of_table_2(ablation: pd.DataFrame, usual: pd.DataFrame) -> None:
    table = table2("toy", usual).set_index("method")
    columns = [c for c in table.columns if c in ablation.columns and c not in ("dataset", "n_queries")]
    assert len(columns) == 12
    for row in ablation[ablation.default].to_dict("records"):
        assert [row[c] for c in columns] == pytest.approx(table.loc[row["method"], columns].tolist(), nan_ok=True)


@pytest.mark.parametrize("method", ABLATED)
def test_average_precision_and_average_are_worked_out_from_the_same_results(
    ablation: pd.DataFrame, usual: pd.DataFrame, method: str
) -> None:
    own = usual[usual.method == method]
    rows = ablation[ablation.method == method].set_index(["choice", "setting"])
    x, e, b = (torch.tensor(own[f"trapezoid_{which}"].to_numpy()) for which in "xeb")
    drop = ((x - e).clamp(min=0) / (x - b))[x > b]
    trapezoid = rows.loc[("AP", "trapezoid")]
    assert trapezoid.ap_drop == pytest.approx(100 * drop.mean().item())
    assert trapezoid.ap_increase == pytest.approx(100 * (e > x + 1e-6).double().mean().item())
    ratio = rows.loc[("average", "ratio of means")]
    for metric, stem in (("as_drop", "as"), ("ap_drop", "ap")):
        scores = (torch.tensor(own[f"{stem}_{which}"].to_numpy()) for which in "xeb")
        assert ratio[metric] == pytest.approx(100 * ratio_of_means(*scores))
        assert pd.isna(ratio[f"{metric}_lo"]) and pd.isna(ratio[f"{metric}_hi"])
    assert ablation[ablation.setting == "trapezoid"].ap_drop.tolist() != (
        ablation[ablation.setting == "standard"].ap_drop.tolist()
    )


@pytest.mark.parametrize(
    ("setting", "alpha"),
    [
        ("softmax of S", lambda s: s.softmax(1)),
        ("raw S", lambda s: s),
        ("softmax of S / 0.3", lambda s: (s / 0.3).softmax(1)),
        ("softmax of S / 0.1", lambda s: (s / 0.1).softmax(1)),
        ("softmax of S / 0.03", lambda s: (s / 0.03).softmax(1)),
    ],
)
def test_weights_are_those_of_the_scores(
    ablation: pd.DataFrame, model: ReidModel, queries: Queries, setting: str, alpha
) -> None:
    scores = score_fam(model, queries).scores
    with torch.no_grad():
        cam = combine(alpha(scores), model.backbone(queries.images)).relu()
    expected = expected_scores(model, queries, to_saliency(cam, SIZE))
    assert_row(ablation, "weights", setting, "score-fam", expected)


def test_ram_to_the_letter_weights_with_what_the_other_image_pooled(
    ablation: pd.DataFrame, model: ReidModel, queries: Queries
) -> None:
    others = queries.gallery_set.subset(queries.best[:, 0])
    with torch.no_grad():
        v = model.pooled(normalise(load_images(others.paths, SIZE), model.mean, model.std))
        cam = combine(v / v.norm(dim=1, keepdim=True), model.backbone(queries.images))
    assert_row(ablation, "RAM", "Eq. 5 to the letter", "ram", expected_scores(model, queries, to_saliency(cam, SIZE)))
    reference = model(queries.images).detach().flip(0)
    folded, letter = (explain(model, queries.images, m, model.layer, reference=reference) for m in ("ram", RAM_EQ5))
    assert not torch.allclose(folded.weights, letter.weights, atol=0.02)


def test_without_a_neck_ram_to_the_letter_is_ram(model: ReidModel, queries: Queries) -> None:
    bare = model.returning("before_bn")
    with torch.no_grad():
        reference = bare(queries.images).flip(0)
    folded, letter = (explain(bare, queries.images, m, model.layer, reference=reference) for m in ("ram", RAM_EQ5))
    torch.testing.assert_close(letter.cam, folded.cam)


def test_a_head_that_cannot_be_inverted_is_refused_by_ram_to_the_letter(model: ReidModel, queries: Queries) -> None:
    broken = copy.deepcopy(model)
    broken.neck.weight.data[0] = 0
    with pytest.raises(ValueError, match="what was pooled cannot be had from the feature behind this head"):
        explain(broken, queries.images, RAM_EQ5, broken.layer, reference=model(queries.images).detach())


@pytest.mark.parametrize(
    "zones",
    [(0.2, 0.5, 0.9), (0.4, 0.7, 0.9), (0.3, 0.6, 0.5), (0.3, 0.6, 1.0)],
)
def test_thresholds_are_those_named(
    ablation: pd.DataFrame, model: ReidModel, queries: Queries, zones: tuple[float, float, float]
) -> None:
    low, high, delta = zones
    saliency = explain(model, queries.images, "uniform", model.layer).saliency
    expected = expected_scores(model, queries, saliency, partial(explanation_mask, low=low, high=high, delta=delta))
    assert_row(ablation, "thresholds", f"B_Low {low}, B_High {high}, delta {delta}", "uniform", expected)


@pytest.mark.parametrize("name", ["blurred, kernel 25", "mean colour", "black"])
def test_another_baseline_serves_the_maps_and_the_metric(
    ablation: pd.DataFrame, model: ReidModel, queries: Queries, name: str
) -> None:
    baseline = evaluation.baselines(model)[name]
    saliency = score_fam(model, queries, baseline=baseline).saliency
    expected = expected_scores(model, queries, saliency, baseline=baseline)
    assert_row(ablation, "baseline", name, "score-fam", expected)


@pytest.mark.parametrize("method", ANY_LAYER)
def test_another_layer_gives_its_own_maps(
    ablation: pd.DataFrame, model: ReidModel, queries: Queries, method: str
) -> None:
    saliency = explain(model, queries.images, method, LAYER).saliency
    assert_row(ablation, "layer", LAYER, method, expected_scores(model, queries, saliency))


@pytest.mark.parametrize("method", ["ram", "score-fam"])
def test_the_other_feature_retrieves_and_is_explained(
    ablation: pd.DataFrame, model: ReidModel, queries: Queries, method: str
) -> None:
    changed = model.returning("before_bn")
    again = look_up(changed, queries.image_set, queries.gallery_set, SIZE)
    reference = again.gallery[again.best[:, 0]] if method == "ram" else None
    saliency = explain(changed, queries.images, method, model.layer, reference=reference).saliency
    assert_row(ablation, "feature", "before BN", method, expected_scores(changed, again, saliency))
    assert model.feature == "after_bn"


def test_from_the_other_feature_the_names_are_swapped(model: ReidModel, queries: Queries, cache: Path) -> None:
    changed = model.returning("before_bn")
    again = look_up(changed, queries.image_set, queries.gallery_set, SIZE)
    frame = ablation_table(changed, again, SIZE, "toy", context=Context(cache, progress=False))
    block = frame[frame.choice == "feature"]
    assert block.setting.tolist() == ["before BN"] * 4 + ["after BN"] * 4
    assert block.default.tolist() == [True] * 4 + [False] * 4
