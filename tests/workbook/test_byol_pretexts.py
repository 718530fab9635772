"""Pretext tasks compared: intervals over trainings, the table by hand, and runs measured as the other tables do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel

from workbook import byol, paths
from workbook.byol.config import PRETEXTS, BYOLConfig
from workbook.byol.experiments import Experiment, Quiz
from workbook.byol.pretexts import MEASURES, over_seeds

# ---- intervals ------------------------------------------------------------------------------------------


def test_the_interval_by_hand() -> None:
    found = over_seeds([1.0, 2.0, 3.0, float("nan")])  # deviation 1; t(0.975, 2) = 4.3027
    assert (found.mean, found.n, found.undefined) == (2, 3, 1)
    assert (found.lo, found.hi) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8).filter(lambda values: np.ptp(values) > 1e-3))
def test_the_interval_is_that_of_students_test(values: list[float]) -> None:
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = over_seeds(values)
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_one_training_has_no_interval_and_none_has_no_mean() -> None:
    one, none = over_seeds([3.0]), over_seeds([float("nan")])
    assert one.mean == 3 and np.isnan([one.lo, one.hi]).all()
    assert np.isnan([none.mean, none.lo, none.hi]).all() and (none.n, none.undefined) == (0, 1)


# ---- the table ------------------------------------------------------------------------------------------

ENERGIES = {  # of three seeds
    "untrained": [30.0, 32.0, 34.0],
    "byol": [40.0, 50.0, 60.0],
    "simclr": [41.0, 53.0, 65.0],
}


def toy_runs(n_seeds: int = 3) -> pd.DataFrame:
    """Other measures are energy times 2, 3, 4 and 5; the second method's are ten points more."""
    rows = []
    for seed in range(n_seeds):
        for method, more in (("grad-fam", 0.0), ("uniform", 10.0)):
            for pretext, energies in ENERGIES.items():
                where = {"pretext": pretext, "map": "last", "layer": "layer4", "method": method}
                values = {name: factor * energies[seed] + more for factor, name in enumerate(MEASURES, start=1)}
                rows.append({"seed": seed, **where, "n": 7, "foreground": 29.0, **values})
    return pd.DataFrame(rows)


def test_the_table_of_pretext_tasks_by_hand() -> None:
    table = byol.pretext_table(toy_runs(), "byol")
    assert table[["method", "pretext"]].values.tolist() == [[m, p] for m in ("grad-fam", "uniform") for p in ENERGIES]
    assert (table.n_seeds == 3).all() and (table.n == 7).all() and (table.foreground == 29).all()
    assert table.energy.tolist() == [32, 50, 53, 42, 60, 63]
    assert table.knn.tolist() == [160, 250, 265, 170, 260, 275]
    assert table.energy_diff.tolist() == pytest.approx([-18, 0, 3, -18, 0, 3])
    simclr = table.iloc[2]
    assert (simclr.energy_lo, simclr.energy_hi) == pytest.approx((53 - 29.81, 53 + 29.81), abs=0.01)  # deviation 12
    paired = ttest_rel(ENERGIES["simclr"], ENERGIES["byol"]).confidence_interval(0.95)  # differences 1, 3, 5
    assert (simclr.energy_diff_lo, simclr.energy_diff_hi) == pytest.approx((paired.low, paired.high))
    assert (table[table.pretext == "byol"][["energy_diff", "energy_diff_lo", "energy_diff_hi"]] == 0).all(axis=None)


def test_differences_are_taken_at_the_same_seed_whatever_the_order_of_the_runs() -> None:
    ordered, shuffled = (byol.pretext_table(runs, "byol") for runs in (toy_runs(), toy_runs()[::-1]))
    keys = ["pretext", "method"]
    pd.testing.assert_frame_equal(
        ordered.sort_values(keys).reset_index(drop=True), shuffled.sort_values(keys).reset_index(drop=True)
    )


def test_with_one_seed_there_are_differences_but_no_intervals() -> None:
    table = byol.pretext_table(toy_runs(1), "simclr")
    assert table.energy_diff.tolist() == [-11, -1, 0, -11, -1, 0] and (table.n_seeds == 1).all()
    assert table.filter(regex="_(lo|hi)$").isna().all(axis=None)


def test_an_unknown_reference_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['byol', 'simclr', 'untrained'\], got 'moco'"):
        byol.pretext_table(toy_runs(), "moco")


# ---- trainings ------------------------------------------------------------------------------------------


def toy_experiment() -> Experiment:
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    masks = torch.zeros(8, 32, 32, dtype=torch.bool)
    masks[:, :8] = True
    config = BYOLConfig(
        "test_resnet", epochs=2, batch_size=4, view_size=(32, 32), hidden_dim=8, output_dim=4, optimiser="sgd",
        learning_rate=2.0, warmup_epochs=0, seed=9,
    )  # fmt: skip
    quiz = Quiz(images, torch.arange(8) % 2)
    return Experiment("toy", "", config, {"last": "layer4", "earlier": "layer2"}, images, images, masks, quiz)


def test_each_task_and_seed_is_measured_as_the_table_of_checkpoints_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    experiment, methods = toy_experiment(), ["grad-fam", "uniform"]
    runs = byol.run_pretexts(experiment, PRETEXTS, [0, 3], methods)
    assert len(runs) == 2 * 3 * 2 * 2 and set(runs.foreground) == {25.0} and set(runs.n) == {8}

    config = replace(experiment.config, pretext="simclr", seed=3)
    checkpoints = byol.checkpoints(experiment.pictures, config)
    maps = {
        w: byol.explain_checkpoints(checkpoints, experiment.images, config, methods, layer)
        for w, layer in experiment.layers.items()
    }
    correct = [experiment.correct(checkpoint.backbone) for checkpoint in checkpoints]
    measures = byol.measure_maps(maps, experiment.masks)
    expected = byol.checkpoint_table(checkpoints, measures, experiment.layers, correct, 25.0)
    for pretext, share in (("untrained", 0), ("simclr", 1)):
        own = runs[(runs.pretext == pretext) & (runs.seed == 3)].set_index(["map", "layer", "method"])
        right = expected[expected.share == share].set_index(["map", "layer", "method"])
        pd.testing.assert_frame_equal(own[list(MEASURES)], right[list(MEASURES)].loc[own.index])
    assert not np.allclose(*(runs[runs.pretext == pretext].energy for pretext in PRETEXTS), equal_nan=True)

    monkeypatch.setattr("workbook.byol.training._train", None)  # any training or explaining would fail now
    monkeypatch.setattr("workbook.byol.analysis.explain_all", None)
    pd.testing.assert_frame_equal(byol.run_pretexts(experiment, PRETEXTS, [0, 3], methods), runs)
