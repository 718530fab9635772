"""The table of budgets: each figure by its definition, and nothing made twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation_toys import SIZE, blocks, tiny_model
from fam_lib import explain
from fam_lib.faithfulness import measure
from fam_lib.masking import explanation_map, gaussian_blur
from workbook.cache.context import Context
from workbook.reid import budgeted, evaluation
from workbook.reid.budgeted import budget_table
from workbook.reid.model import ReidModel
from workbook.reid.queries import Queries, load_queries

SHARES = (0.2, 0.5, 0.999)  # the last one, rounded up, is every channel


@pytest.fixture(scope="module")
def queries(model: ReidModel, tmp_path_factory: pytest.TempPathFactory) -> Queries:
    return load_queries(model, blocks(tmp_path_factory.mktemp("blocks")), SIZE)


@pytest.fixture(scope="module")
def table(model: ReidModel, queries: Queries, cache: Path) -> pd.DataFrame:
    return budget_table(model, queries, SHARES, Context(cache, progress=False))


@pytest.mark.parametrize("share", SHARES[:2])
def test_a_row_holds_what_the_maps_of_its_share_and_of_all_channels_give(model, queries, table, share):
    row = table.set_index("share").loc[100 * share]
    x, b = queries.images, gaussian_blur(queries.images)
    exact, ours = (explain(model, x, layer=model.layer, budget=each) for each in (1.0, share))
    pairs = zip(exact.saliency.flatten(1).numpy(), ours.saliency.flatten(1).numpy(), strict=True)
    correlation = np.array([np.corrcoef(*pair)[0, 1] for pair in pairs])
    difference = (exact.saliency - ours.saliency).abs().flatten(1).amax(1).numpy()
    expected = {
        "n_queries": 6,
        "scored": np.ceil(share * exact.scored.sum(1).numpy()).mean(),
        "correlation": correlation.mean(),
        "correlation_min": correlation.min(),
        "difference": difference.mean(),
        "difference_max": difference.max(),
        "bound": ours.bound.mean().item(),
        "bound_max": ours.bound.max().item(),
        "within": 100,
    }
    assert 0.001 < row.difference_max < row.bound_max
    for suffix, saliency in (("", ours.saliency), ("_exact", exact.saliency)):
        with torch.no_grad():
            features = [model(images) for images in (x, explanation_map(x, b, saliency), b)]
        found = measure(*features, queries.gallery, queries.labels)
        expected |= {f"{name}{suffix}": 100 * getattr(found, name).nanmean().item() for name in ("as_drop", "ap_drop")}
    assert list(row.index) == list(expected)
    np.testing.assert_allclose(row.to_numpy(float), list(expected.values()), rtol=1e-3, atol=1e-3)


def test_a_budget_of_all_channels_changes_nothing(table):
    row = table.set_index("share").loc[99.9]
    assert (row.difference_max, row.bound_max, row.as_drop, row.ap_drop) == pytest.approx(
        (0, 0, row.as_drop_exact, row.ap_drop_exact), abs=1e-3
    )


def test_a_second_call_finds_every_map_in_the_cache(model, queries, table, cache, monkeypatch):
    monkeypatch.setattr(budgeted, "explain", None)
    pd.testing.assert_frame_equal(budget_table(model, queries, SHARES, Context(cache, progress=False)), table)


def test_the_exact_maps_are_those_of_table_2_whatever_the_seed(model, queries, table, cache, monkeypatch):
    context = Context(cache, progress=False, seed=3)
    evaluation.explain_queries(model, queries, ["uniform", "score-fam"], context)
    monkeypatch.setattr(evaluation, "explain_all", None)
    pd.testing.assert_frame_equal(budget_table(model, queries, SHARES, context), table)


def test_another_network_does_not_find_them(queries, table, cache):
    other = budget_table(tiny_model(seed=1), queries, SHARES[:1], Context(cache, progress=False))
    assert other.correlation[0] != table.correlation[0]
