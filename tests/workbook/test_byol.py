"""BYOL and SimCLR: losses, schedules, target, views, resuming and k-NN, against closed forms and oracles."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from byol_toys import TINY, train_in
from fam_lib import explain
from fam_lib.localisation import map_area
from workbook import byol, paths
from workbook.byol import BYOL, Views, analysis, byol_loss, footage, training
from workbook.byol.analysis import extract, measure, measure_maps, nearest_correct
from workbook.byol.config import PAPER, PRETEXTS, QUICK, BYOLConfig
from workbook.byol.network import SimCLR, make_backbone, make_network, make_optimiser, simclr_loss
from workbook.byol.schedule import peak_rate, rate_at, tau_at
from workbook.byol.training import Checkpoint, milestones, spread
from workbook.byol.views import batches, normalise

CONTRASTIVE = replace(TINY, pretext="simclr")
IMAGES = torch.randint(0, 256, (9, 3, 32, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def tensors(generator_seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(generator_seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# ---- loss and networks ----------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    p0, t1 = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])  # cosines 0.96, 0
    p1, t0 = torch.tensor([[1.0, 1.0], [0.0, 5.0]]), torch.tensor([[-2.0, -2.0], [0.0, 1.0]])  # cosines -1, 1
    assert byol_loss(p0, p1, t0, t1).item() == pytest.approx(-2 * (0.48 + 0.0), abs=1e-6)
    assert byol_loss(p0, p0, p0, p0).item() == pytest.approx(-4, abs=1e-6)


def test_the_loss_is_symmetric_and_that_of_the_paper_up_to_a_constant() -> None:
    p0, p1, t0, t1 = tensors(0, (6, 5), (6, 5), (6, 5), (6, 5))
    torch.testing.assert_close(byol_loss(p0, p1, t0, t1), byol_loss(p1, p0, t1, t0))
    distance = [(F.normalize(p, dim=1) - F.normalize(t, dim=1)).square().sum(1).mean() for p, t in ((p0, t1), (p1, t0))]
    torch.testing.assert_close(byol_loss(p0, p1, t0, t1) + 4, sum(distance))


def test_the_forward_is_the_loss_of_its_parts() -> None:
    model = BYOL(TINY).eval()
    view0, view1 = tensors(1, (4, 3, 32, 16), (4, 3, 32, 16))
    loss, z0 = model(view0, view1)
    online = [model.projector(model.backbone(v)) for v in (view0, view1)]
    target = [model.target_projector(model.target_backbone(v)) for v in (view0, view1)]
    torch.testing.assert_close(loss, byol_loss(*(model.predictor(z) for z in online), *target))
    torch.testing.assert_close(z0, online[0])


def test_the_target_gets_no_gradient_and_the_online_network_gets_one_everywhere() -> None:
    model = BYOL(TINY)
    model(*tensors(2, (4, 3, 32, 16), (4, 3, 32, 16)))[0].backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None and not parameter.requires_grad
        else:
            assert parameter.grad is not None, name


def test_the_target_starts_as_the_online_network_and_moves_by_one_minus_tau() -> None:
    model = BYOL(TINY)
    assert same_weights(model.backbone, model.target_backbone)
    before = model.target_projector.layers[0].weight.clone()
    with torch.no_grad():
        model.projector.layers[0].weight.add_(1)
    model.move_target(0.9)
    torch.testing.assert_close(model.target_projector.layers[0].weight, before + 0.1)


def test_the_target_has_batch_norm_statistics_of_its_own() -> None:
    model = BYOL(TINY)
    norm = next(m for m in model.target_backbone.modules() if isinstance(m, nn.BatchNorm2d))
    before = norm.running_mean.clone()
    model.move_target(0.5)
    assert torch.equal(norm.running_mean, before)
    model(*tensors(3, (4, 3, 32, 16), (4, 3, 32, 16)))
    assert not torch.equal(norm.running_mean, before)


def nt_xent(z0: Tensor, z1: Tensor, temperature: float = 0.5) -> Tensor:
    """Equation 1 of the SimCLR paper, view by view and term by term."""
    views, n = [*z0, *z1], len(z0)
    losses = []
    for i, z in enumerate(views):
        likeness = [torch.exp(z @ other / (z.norm() * other.norm()) / temperature) for other in views]
        losses.append(-torch.log(likeness[(i + n) % (2 * n)] / (sum(likeness) - likeness[i])))
    return sum(losses) / (2 * n)


def test_the_contrastive_loss_is_the_explicit_sum_and_so_is_its_gradient() -> None:
    z0, z1 = (z.requires_grad_() for z in tensors(4, (5, 3), (5, 3)))
    loss, expected = simclr_loss(z0, z1), nt_xent(z0, z1)
    torch.testing.assert_close(loss, expected)
    for found, right in zip(torch.autograd.grad(loss, (z0, z1)), torch.autograd.grad(expected, (z0, z1)), strict=True):
        torch.testing.assert_close(found, right)  # both views get one: nothing is detached


def test_the_contrastive_loss_by_hand() -> None:
    east, north = torch.eye(2)
    # The other view has cosine 1, the two others 0: e^2 of e^2 + 2.
    agree = torch.stack([east, north])
    assert simclr_loss(agree, 3 * agree).item() == pytest.approx(-math.log(math.e**2 / (math.e**2 + 2)), abs=1e-6)
    # Collapse costs what guessing among the three other views costs.
    alike = torch.stack([east, east])
    assert simclr_loss(alike, alike).item() == pytest.approx(math.log(3), abs=1e-6)


def test_simclr_is_one_network_whose_gradient_reaches_every_weight() -> None:
    model = SimCLR(CONTRASTIVE)
    views = tensors(1, (4, 3, 32, 16), (4, 3, 32, 16))
    loss, z0 = model(*views)
    online = [model.projector(model.backbone(view)) for view in views]
    torch.testing.assert_close(loss, nt_xent(*online))
    torch.testing.assert_close(z0, online[0].detach())
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert same_weights(make_backbone(CONTRASTIVE), make_backbone(TINY)), "both tasks start from one network"


# ---- schedules and optimiser ----------------------------------------------------------------------------


def test_tau_at_given_steps() -> None:
    config = replace(TINY, epochs=11, tau=0.9)  # 11 epochs of one step: T - 1 = 10
    assert tau_at(0, 1, config) == pytest.approx(0.9)
    assert tau_at(5, 1, config) == pytest.approx(1 - 0.1 * 0.5)
    assert tau_at(2, 1, config) == pytest.approx(1 - 0.1 * (math.cos(0.2 * math.pi) + 1) / 2)
    assert tau_at(10, 1, config) == 1.0


def test_learning_rate_at_given_steps() -> None:
    config = replace(TINY, epochs=10, warmup_epochs=2, batch_size=128, learning_rate=0.4)
    assert peak_rate(config) == pytest.approx(0.2)
    rates = [rate_at(step, 3, config) for step in range(30)]
    assert rates[:6] == pytest.approx([0.2 * (i + 1) / 6 for i in range(6)])
    assert rates[6] == pytest.approx(0.2)
    assert rates[17] == pytest.approx(0.2 * (math.cos(math.pi * 11 / 23) + 1) / 2)
    assert rates[29] == pytest.approx(0)


@pytest.mark.parametrize("pretext", PRETEXTS)
@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_biases_and_norm_layers_are_not_decayed_and_the_target_is_not_optimised(name: str, pretext: str) -> None:
    model = make_network(replace(TINY, pretext=pretext))
    decayed, plain = make_optimiser(model, replace(TINY, optimiser=name)).param_groups
    assert decayed["weight_decay"] == TINY.weight_decay and plain["weight_decay"] == 0
    assert all(p.dim() > 1 for p in decayed["params"]) and all(p.dim() == 1 for p in plain["params"])
    online = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in (*decayed["params"], *plain["params"])} == {id(p) for p in online}


def test_milestones_are_those_of_the_paper() -> None:
    assert milestones(200) == (80, 140, 200)
    assert milestones(5) == (2, 4, 5)
    assert milestones(1) == (1,)


@pytest.mark.parametrize(
    "wrong",
    [{"optimiser": "adam"}, {"epochs": 0}, {"batch_size": 1}, {"warmup_epochs": 6}, {"tau": 1.1}, {"pretext": "moco"}],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(TINY, **wrong)


# ---- views and batches ----------------------------------------------------------------------------------


def test_views_depend_on_seed_epoch_and_image_only() -> None:
    views = Views(IMAGES, TINY)
    first = views[0, 3]
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    again = Views(IMAGES, TINY)[0, 3]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape == (3, 32, 16)
    others = (views[1, 3], views[0, 4], Views(IMAGES, replace(TINY, seed=1))[0, 3])
    assert not any(torch.equal(first[0], other[0]) for other in others)


def test_views_leave_the_global_random_states_alone() -> None:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    Views(IMAGES, TINY)[0, 0]
    make_backbone(TINY)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_an_epoch_sees_each_image_at_most_once_and_processes_share_it() -> None:
    config = replace(TINY, batch_size=4)
    whole = batches(2, 11, config)
    assert [len(batch) for batch in whole] == [4, 4]
    assert len({i for batch in whole for _, i in batch}) == 8
    halves = [batches(2, 11, config, rank, 2) for rank in (0, 1)]
    for batch, a, b in zip(whole, *halves, strict=True):
        assert sorted(batch) == sorted(a + b)
    assert whole != batches(3, 11, config)


# ---- training -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Checkpoint], list[str]]:
    folder, lines = tmp_path_factory.mktemp("cache"), []
    return folder, train_in(folder, IMAGES, TINY, progress=lines.append), lines


def test_training_returns_the_untrained_network_and_three_checkpoints(trained) -> None:
    _, checkpoints, lines = trained
    assert [c.epoch for c in checkpoints] == [0, 2, 4, 5]
    assert not any(module.training for c in checkpoints for module in c.backbone.modules())
    assert checkpoints[0].history == () and len(checkpoints[-1].history) == 5
    assert checkpoints[-1].loss == checkpoints[-1].history[-1]["loss"]
    assert all(-4 <= row["loss"] <= 4 for row in checkpoints[-1].history)
    assert len(lines) == 5 and lines[-1].startswith("epoch 5/5")
    assert checkpoints[-1].backbone(torch.rand(1, 3, 64, 32)).shape == (1, 96)


def test_the_online_backbone_is_kept_not_the_target(trained) -> None:
    # With tau = 1 from the start the target would still be the untrained network.
    untrained, *rest = trained[1]
    for checkpoint in rest:
        assert not torch.equal(checkpoint.backbone.conv1[0].weight, untrained.backbone.conv1[0].weight)


@pytest.mark.parametrize("config", [TINY, CONTRASTIVE], ids=PRETEXTS)
def test_an_interrupted_training_ends_with_the_same_weights(config: BYOLConfig, tmp_path: Path) -> None:
    expected = train_in(tmp_path / "whole", IMAGES, config)
    part = train_in(tmp_path / "parts", IMAGES, config, stop_after=3)
    assert [c.epoch for c in part] == [0, 2]
    finished = train_in(tmp_path / "parts", IMAGES, config)
    for a, b in zip(finished, expected, strict=True):
        assert a.epoch == b.epoch and a.history == b.history
        assert same_weights(a.backbone, b.backbone)
    assert not same_weights(finished[0].backbone, finished[-1].backbone)


def test_the_tasks_have_folders_named_by_them_and_by_the_hash_of_all_else(tmp_path: Path) -> None:
    tasks = [replace(config, epochs=1) for config in (TINY, CONTRASTIVE)]
    trained = [train_in(tmp_path, IMAGES, config)[-1] for config in tasks]
    assert not same_weights(*(checkpoint.backbone for checkpoint in trained))
    byol_folder, simclr_folder = sorted(path.name for path in tmp_path.iterdir())
    assert byol_folder.startswith("byol-") and simclr_folder == byol_folder.replace("byol", "simclr")


def test_simclr_says_its_loss_and_no_tau(tmp_path: Path) -> None:
    lines = []
    history = train_in(tmp_path, IMAGES, CONTRASTIVE, progress=lines.append)[-1].history
    assert all(0 < row["loss"] < math.log(7) + 2 / 0.5 for row in history)  # no two cosines differ by more than 2
    for line, row in zip(lines, history, strict=True):
        assert f"loss {row['loss']:+.3f}" in line and "tau" not in line


def test_a_finished_training_is_read_from_the_cache(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, expected, _ = trained
    monkeypatch.setattr(training, "_train", None)  # any training would fail now
    again = train_in(folder, IMAGES, TINY)
    assert same_weights(again[-1].backbone, expected[-1].backbone)
    (cached,) = folder.iterdir()
    assert sorted(path.name for path in cached.iterdir()) == [
        "epoch-0002.pt",
        "epoch-0004.pt",
        "epoch-0005.pt",
    ]
    for images, config in ((255 - IMAGES, TINY), (IMAGES, replace(TINY, seed=1))):
        with pytest.raises(TypeError):
            train_in(folder, images, config)


def test_workers_change_nothing(trained, tmp_path: Path) -> None:
    config = replace(TINY, epochs=2)
    alone = train_in(tmp_path / "alone", IMAGES, config)
    helped = train_in(tmp_path / "helped", IMAGES, config, n_workers=2)
    assert same_weights(alone[-1].backbone, helped[-1].backbone)


def test_milestones_are_judged_and_said(tmp_path: Path) -> None:
    lines, asked = [], []

    def judge(backbone: nn.Module) -> float:
        asked.append(copy.deepcopy(backbone.state_dict()))
        return 0.25

    checkpoints = train_in(tmp_path, IMAGES, TINY, progress=lines.append, judge=judge)
    assert [i for i, line in enumerate(lines, start=1) if line.endswith("k-NN accuracy 25.0%")] == [2, 4, 5]
    for checkpoint, state in zip(checkpoints[1:], asked, strict=True):
        assert torch.equal(checkpoint.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_the_published_recipes_and_what_lies_between() -> None:
    paper = PAPER
    assert (paper.backbone, paper.epochs, paper.batch_size, paper.optimiser) == ("hrnet_w30", 200, 4096, "lars")
    assert paper.learning_rate == pytest.approx((0.45 + 0.3) / 2)  # DeepMind's for 100 and for 300 epochs
    assert peak_rate(paper) == pytest.approx(6.0)
    steps = 1_281_167 // 4096
    assert rate_at(10 * steps, steps, paper) == pytest.approx(6.0)
    assert rate_at(105 * steps, steps, paper) == pytest.approx(3.0, rel=1e-3)  # half-way down the cosine
    assert tau_at(100 * steps, steps, paper) == pytest.approx(0.995, abs=1e-5)


def test_the_target_moves_after_the_step_by_the_scheduled_tau(tmp_path: Path) -> None:
    config = replace(TINY, epochs=2, warmup_epochs=0, tau=0.8)
    train_in(tmp_path, IMAGES[:4], config, stop_after=1)
    (state,) = tmp_path.glob("*/state.pt")
    weights = torch.load(state, weights_only=True)["model"]
    start, name = make_backbone(config).state_dict(), "conv1.0.weight"
    expected = 0.8 * start[name] + 0.2 * weights[f"backbone.{name}"]
    torch.testing.assert_close(weights[f"target_backbone.{name}"], expected)
    assert not torch.equal(weights[f"backbone.{name}"], start[name])


def test_a_diverging_training_is_stopped_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    config = replace(TINY, learning_rate=math.inf, warmup_epochs=0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train_in(tmp_path, IMAGES, config)
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("images", [IMAGES.float(), IMAGES[:, :1], IMAGES[:3]])
def test_wrong_images_are_refused(images: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images"):
        train_in(tmp_path, images, TINY)


# ---- features -------------------------------------------------------------------------------------------


def test_spread_is_one_for_isotropic_features_and_zero_for_one_direction() -> None:
    (features,) = tensors(5, (4000, 64))
    assert spread(features).item() == pytest.approx(1, abs=0.02)
    assert spread(torch.ones(10, 64) * torch.arange(1, 11)[:, None]).item() == pytest.approx(0, abs=1e-6)


def test_collapse_is_said() -> None:
    row = {"epoch": 3, "loss": -4.0, "spread": 0.02, "rate": 0.1, "tau": 0.99}
    assert "COLLAPSED" in byol.describe(row, TINY)
    assert "COLLAPSED" not in byol.describe(row | {"spread": 0.6}, TINY)


def test_the_nearest_neighbour_is_scikit_learns() -> None:
    (features,) = tensors(6, (40, 8))
    labels = torch.arange(40) % 5
    expected = []
    for i in range(40):
        others = torch.arange(40) != i
        model = KNeighborsClassifier(1, metric="cosine").fit(features[others], labels[others])
        expected.append(bool(model.predict(features[i : i + 1])[0] == labels[i]))
    assert nearest_correct(features, labels).tolist() == expected


def test_images_of_one_group_are_no_neighbours() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.5, 0.5]])
    labels, cameras = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    assert nearest_correct(features, labels).tolist() == [True, True, False, True]
    # Without its own camera, image 0 finds image 3, image 2 finds image 1.
    assert nearest_correct(features, labels, cameras).tolist() == [True, True, False, True]
    assert nearest_correct(features, 1 - labels, torch.tensor([0, 0, 1, 2])).tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match="no neighbour"):
        nearest_correct(features, labels, torch.zeros(4))


def test_features_are_those_of_single_normalised_images(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "BATCH", 4)
    backbone = copy.deepcopy(trained[1][-1].backbone)
    features = extract(backbone, IMAGES, TINY)
    with torch.no_grad():
        alone = torch.cat([backbone((image[None] / 255 - 0.5) / 0.5) for image in IMAGES])
    torch.testing.assert_close(features, alone, rtol=1e-4, atol=1e-5)


HALF = torch.zeros(2, 4, 4, dtype=torch.bool)
HALF[:, :2] = True  # the upper half


def toy_measures() -> tuple[list[Checkpoint], dict[str, dict[str, list[dict[str, Tensor]]]], list[Tensor]]:
    """Three checkpoints and two pictures: a map in the upper left corner, one in the lower half, one that is flat."""
    corner, below = torch.zeros(2, 4, 4), 1 - HALF.float()
    corner[:, 0, :2] = 1
    checkpoints = [Checkpoint(epoch, nn.Identity(), -1.0 * epoch, 1.0, ()) for epoch in (0, 2, 5)]
    maps = {"last": {"a": [below, corner, corner], "b": [corner, below, 0 * corner]}}
    correct = [torch.tensor([False, False]), torch.tensor([True, False]), torch.tensor([True, True])]
    return checkpoints, measure_maps(maps, HALF), correct


def test_the_table_of_checkpoints_by_hand() -> None:
    checkpoints, measures, correct = toy_measures()
    table = byol.checkpoint_table(checkpoints, measures, {"last": "layer4"}, correct, 50.0)
    expected = [[epoch, share, method] for epoch, share in ((0, 0), (2, 0.4), (5, 1)) for method in "ab"]
    assert table[["epoch", "share", "method"]].values.tolist() == expected
    assert set(table["map"]) == {"last"} and set(table.layer) == {"layer4"} and set(table.foreground) == {50}
    assert table.energy.tolist()[:5] == [0, 100, 100, 0, 100] and math.isnan(table.energy[5])
    assert table.pointing.tolist()[:5] == [0, 100, 100, 0, 100] and math.isnan(table.pointing[5])
    assert table.area.tolist() == [50, 12.5, 12.5, 50, 12.5, 0]
    assert table.entropy[0] == pytest.approx(75)  # log 8 of log 16
    assert table.entropy[2] == pytest.approx(25)  # log 2 of log 16
    assert table.knn.tolist() == [0, 0, 50, 50, 100, 100]
    assert table.undefined.tolist() == [0, 0, 0, 0, 0, 2]
    assert (table.n == 2).all() and table.loss.tolist() == [0, 0, -2, -2, -5, -5]
    assert (table.energy_lo[:5] == table.energy[:5]).all()  # both pictures agree: no spread


def test_changes_are_paired_and_between_the_right_checkpoints() -> None:
    checkpoints, measures, correct = toy_measures()
    table = byol.changes_table(checkpoints, measures, {"last": "layer4"}, correct)

    def found(method: str, measure: str) -> pd.DataFrame:
        return table[(table.method == method) & (table.measure == measure)]

    pairs = [[0, 0.4], [0, 1], [0.4, 1]]
    assert found("a", "energy")[["from_share", "to_share"]].values.tolist() == pairs
    assert found("a", "energy").change.tolist() == [100, 100, 0]
    assert found("a", "area").change.tolist() == [-37.5, -37.5, 0]
    assert found("b", "area").change.tolist() == [37.5, -12.5, -50]
    assert found("b", "energy").n.tolist() == [2, 0, 0]  # at the end its maps are flat
    assert found("b", "energy").change.isna().tolist() == [False, True, True]
    knn = table[table.measure == "knn"]
    assert set(knn["map"]) == set(knn.method) == {""} and knn.change.tolist() == [50, 100, 50]


def test_a_paired_interval_leaves_out_what_pictures_have_in_common() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = HALF[:1].expand(40, -1, -1)
    share = torch.rand(40, generator=generator)[:, None, None] * 0.5

    def cams(more: float) -> Tensor:  # energy above is share + more, in another amount for each picture
        above = (share + more).expand(-1, 4, 4) * masks + (1 - share - more) * ~masks
        corner = torch.zeros(40, 4, 4)
        corner[:, 0, 0], corner[:, 3, 3] = 1, -1  # fixes the ends, so that min-max changes nothing
        return above.where(corner == 0, corner.relu())

    checkpoints = [Checkpoint(epoch, nn.Identity(), 0.0, 1.0, ()) for epoch in (0, 1)]
    measures = measure_maps({"last": {"a": [cams(0.0), cams(0.2)]}}, masks)
    found = checkpoints, measures, {"last": ""}, [torch.ones(40)] * 2
    change = byol.changes_table(*found).query("measure == 'energy'").iloc[0]
    levels = byol.checkpoint_table(*found, foreground=50.0)
    assert 0 < change.lo < change.change < change.hi
    assert change.hi - change.lo < 0.2 * min(levels.energy_hi - levels.energy_lo)


def test_maps_of_checkpoints_are_those_of_explain_in_any_chunks_and_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, view_size=(64, 32))
    backbone = make_backbone(config).eval()
    checkpoint = Checkpoint(1, backbone, 0.0, 1.0, ())
    images = torch.randint(0, 256, (3, 3, 64, 32), dtype=torch.uint8)
    asked = [checkpoint, checkpoint], images, config, ["grad-fam", "uniform"], "layer2"
    monkeypatch.setattr(analysis, "CHUNK", 2)
    maps = byol.explain_checkpoints(*asked, cache=tmp_path)
    assert list(maps) == ["grad-fam", "uniform"] and [len(found) for found in maps.values()] == [2, 2]
    for method, found in maps.items():
        expected = explain(backbone, normalise(images, config), method, "layer2")
        torch.testing.assert_close(found[1], expected.cam)
        values = measure(found[1], torch.ones(3, 64, 32, dtype=torch.bool))
        torch.testing.assert_close(values["area"], 100 * map_area(expected.saliency))
    assert len(list(tmp_path.iterdir())) == 2  # equal checkpoints share the files of the two chunks
    monkeypatch.setattr(analysis, "explain_all", None)  # any explaining would fail now
    again = byol.explain_checkpoints(*asked, cache=tmp_path)
    assert torch.equal(again["grad-fam"][1], maps["grad-fam"][1])
    with pytest.raises(TypeError):
        byol.explain_checkpoints(*asked[:-1], "layer1", cache=tmp_path)


# ---- pictures -------------------------------------------------------------------------------------------


def test_footage_shows_each_person_several_times_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(footage, "N_PEOPLE", 2)
    monkeypatch.setattr(footage, "PER_PERSON", 2)
    seen = footage.watch(camera=2, seed=5)
    assert seen.images.shape == (4, 3, 128, 64) and seen.images.dtype == torch.uint8
    assert seen.masks.shape == (4, 128, 64) and seen.masks.dtype == torch.bool
    assert 0.1 < seen.masks.float().mean() < 0.6
    assert seen.people.tolist() == [0, 0, 1, 1]
    assert not any(torch.equal(seen.images[i], seen.images[j]) for i in range(4) for j in range(i))
    monkeypatch.setattr("workbook.pedestrians.synthetic.render", None)  # any drawing would fail now
    assert all(torch.equal(a, b) for a, b in zip(seen, footage.watch(camera=2, seed=5), strict=True))
    for camera, seed in ((2, 6), (1, 5)):
        with pytest.raises(TypeError):
            footage.watch(camera, seed)


def test_the_quick_settings_give_the_map_the_notebook_shows() -> None:
    backbone = make_backbone(QUICK)
    assert backbone.forward_features(torch.rand(1, 3, 128, 64)).shape == (1, 128, 8, 4)
