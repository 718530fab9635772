"""The whole evaluation: what notebook 03 gets, and that kills change no number."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from evaluation_toys import SIZE, blocks, killing
from workbook.cache.context import Context
from workbook.reid import evaluation, experiment
from workbook.reid.ablation import ablation_table
from workbook.reid.data import ReidData
from workbook.reid.evaluation import TABLE2_METHODS
from workbook.reid.experiment import Evidence
from workbook.reid.model import ReidModel
from workbook.reid.queries import choose

SETTINGS = {"n_queries": 4, "n_ablated": 2, "layers": ["backbone.blocks.3"]}


def seeded(cache: Path | None) -> Context:
    return Context(cache, progress=False, seed=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def evidence(model: ReidModel, data: ReidData, cache: Path) -> Evidence:
    return experiment.run(model, data, SIZE, **SETTINGS, context=seeded(cache))


def test_the_evidence_is_of_the_queries_drawn_and_the_methods_of_table_2(evidence: Evidence, data: ReidData) -> None:
    drawn = choose(data.query, 4, 1)
    assert evidence.queries.image_set.paths == drawn.paths
    assert list(evidence.maps) == list(evidence.results.method.unique()) == list(TABLE2_METHODS)
    assert {maps.shape for maps in evidence.maps.values()} == {(4, 6, 3)}
    assert list(evidence.results["query"].unique()) == [path.name for path in drawn.paths]
    assert (evidence.dependence.dataset == "blocks (synthetic)").all() and (evidence.dependence.n == 4).all()


def test_the_ablation_is_of_the_first_queries(evidence: Evidence, model: ReidModel, cache: Path) -> None:
    some = evidence.queries.subset(torch.arange(2))
    layers, label = SETTINGS["layers"], "blocks (synthetic)"
    expected = ablation_table(model, some, SIZE, label, layers, seeded(cache))
    pd.testing.assert_frame_equal(evidence.ablation, expected, check_exact=True)
    assert (expected.n_queries == 2).all()


@pytest.mark.parametrize(("n_queries", "n_ablated", "expected"), [(0, 0, (6, 6)), (0, 4, (6, 4)), (3, 0, (3, 3))])
def test_none_stands_for_all(
    model: ReidModel,
    data: ReidData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_queries: int,
    n_ablated: int,
    expected: tuple[int, int],
) -> None:
    asked = []
    monkeypatch.setattr(experiment, "explain_queries", lambda *_, **__: dict.fromkeys(TABLE2_METHODS))
    monkeypatch.setattr(experiment, "score_queries", lambda _, queries, *__, **___: asked.append(len(queries)))
    monkeypatch.setattr(experiment, "ablation_table", lambda _, queries, *__, **___: asked.append(len(queries)))
    monkeypatch.setattr(experiment, "dependence_table", lambda *_: None)
    monkeypatch.setattr(experiment, "budget_table", lambda *_, **__: None)
    experiment.run(model, data, SIZE, n_queries, n_ablated, context=seeded(tmp_path))
    assert tuple(asked) == expected


def test_three_kills_change_no_number(
    model: ReidModel, data: ReidData, evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (5, 12, 25):  # among the maps, the results, the ablations
        with killing(monkeypatch, shard), pytest.raises(KeyboardInterrupt):
            experiment.run(model, data, SIZE, **SETTINGS, context=seeded(tmp_path))
    resumed = experiment.run(model, data, SIZE, **SETTINGS, context=seeded(tmp_path))
    for name, maps in evidence.maps.items():
        assert torch.equal(maps, resumed.maps[name])
    for table in ("results", "ablation", "dependence", "budget"):
        pd.testing.assert_frame_equal(getattr(evidence, table), getattr(resumed, table), check_exact=True)


def test_a_finished_run_computes_nothing_again(
    model: ReidModel, data: ReidData, evidence: Evidence, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(evaluation, "explain_all", refuse)
    monkeypatch.setattr(evaluation, "_score_shard", refuse)
    again = experiment.run(model, data, SIZE, **SETTINGS, context=seeded(cache))
    pd.testing.assert_frame_equal(again.results, evidence.results, check_exact=True)
