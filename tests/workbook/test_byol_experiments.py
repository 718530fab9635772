"""What BYOL is trained on and judged by: photographs with masks, ImageNet's layout, quizzes, and the linear probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from byol_toys import BOX, noise, train_in, write_imagenet, write_street
from fam_lib.explain import explain_all
from fam_lib.similarity import spearman
from workbook import byol, profiles
from workbook.byol import experiments, probe
from workbook.byol.analysis import measure
from workbook.byol.config import BYOLConfig
from workbook.byol.network import make_backbone
from workbook.byol.pictures import open_classes, read_street_photos
from workbook.byol.training import Checkpoint
from workbook.byol.views import normalise

# ---- street photographs ---------------------------------------------------------------------------------


def test_street_photos_are_read_in_order_with_their_masks(tmp_path: Path) -> None:
    folder = write_street(tmp_path)
    photos = read_street_photos(folder, (24, 16))
    assert photos.images.shape == (5, 3, 24, 16) and photos.images.dtype == torch.uint8
    assert photos.masked.tolist() == [1, 3]
    assert photos.masks[:, :, :8].all() and not photos.masks[:, :, 8:].any()
    with Image.open(folder / "photos" / "0003.jpg") as image:
        expected = np.asarray(image.resize((16, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(photos.images[3].permute(1, 2, 0).numpy(), expected)


def test_a_pixel_of_a_smaller_mask_is_true_where_most_of_it_was(tmp_path: Path) -> None:
    folder = write_street(tmp_path, masked=(0,))
    mask = np.zeros((48, 32), dtype=np.uint8)
    mask[:, :5] = 1  # stored as 0 and 1; columns of the result are 4 wide: all of the first, a quarter of the second
    Image.fromarray(mask).save(folder / "masks" / "0000.png")
    found = read_street_photos(folder, (12, 8)).masks[0]
    assert found[:, 0].all() and not found[:, 1:].any()


def damage(folder: Path, what: str) -> None:
    if what == "no photos":
        for path in (folder / "photos").iterdir():
            path.unlink()
    elif what == "truncated":
        path = folder / "photos" / "0002.jpg"
        path.write_bytes(path.read_bytes()[:300])
    elif what == "orphan":
        noise(folder / "masks" / "0099.png", 48, 32)
    elif what == "size":
        Image.fromarray(np.ones((48, 30), dtype=bool)).save(folder / "masks" / "0003.png")
    else:
        Image.fromarray(np.zeros((48, 32), dtype=bool)).save(folder / "masks" / "0003.png")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no photos", r"no images .* in .*photos: data/README\.md"),
        ("truncated", r"0002\.jpg is no readable image"),
        ("orphan", r"0099\.png is the mask of no photograph"),
        ("size", r"0003\.png is \(30, 48\), but its photograph 0003\.jpg is \(32, 48\)"),
        ("empty", r"0003\.png marks nobody"),
    ],
)
def test_unsound_photographs_are_named(tmp_path: Path, what: str, message: str) -> None:
    folder = write_street(tmp_path)
    damage(folder, what)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_street_photos(folder, (24, 16))


def test_the_quiz_of_photographs_is_to_find_the_other_half(tmp_path: Path) -> None:
    write_street(tmp_path, n_photos=6, masked=(0, 2, 4))
    experiment = byol.open_experiment("street-photos", tmp_path, 2)
    assert len(experiment.pictures) == 6 and experiment.images.shape == (2, 3, 144, 96)
    assert torch.equal(experiment.images, experiment.pictures[[0, 2]]) and experiment.places is None
    quiz = experiment.quiz
    assert torch.equal(torch.cat([quiz.images[1], quiz.images[4]], dim=1), experiment.pictures[2])
    assert quiz.labels.tolist() == [0, 1, 2, 0, 1, 2] and quiz.groups.tolist() == [0, 0, 0, 1, 1, 1]

    class Known(nn.Linear):
        """Features that tell the photographs apart, but mistake the lower half of the last for that of the first."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0.9, 0.1, -0.1]])

    assert experiment.correct(Known(1, 1)).tolist() == [True, True, False, True, True, False]
    assert experiment.accuracy(Known(1, 1)) == pytest.approx(4 / 6)


# ---- ImageNet -------------------------------------------------------------------------------------------


def test_imagenet_is_read_from_classes_and_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_imagenet(tmp_path)
    small = replace(byol.PAPER, view_size=(56, 56))  # the shorter side of 64 stays: the middle is cut out
    monkeypatch.setattr(experiments, "PAPER", small)
    experiment = experiments.imagenet(tmp_path, 2, seed=3)
    assert experiment.config.seed == 3 and len(experiment.pictures) == 9
    assert [tuple(experiment.pictures[i].shape) for i in (0, 1)] == [(3, 40, 60), (3, 50, 50)]
    assert experiment.quiz.labels.tolist() == [0, 0, 1, 1] and experiment.places.tolist() == [0, 2]
    assert torch.equal(experiment.images, experiment.quiz.images[experiment.places])
    rows, columns = (experiment.masks[0].any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    xmin, ymin, xmax, ymax = (side - 4 for side in BOX)
    assert [rows[0], rows[-1], columns[0], columns[-1]] == [ymin, ymax, xmin, xmax]
    assert int(experiment.masks[0].sum()) == (ymax - ymin + 1) * (xmax - xmin + 1)


def test_a_folder_of_pictures_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    folder = write_imagenet(tmp_path) / "train"
    pictures, labels = open_classes(folder, (32, 32))
    assert pictures.names[0] == "n01/0.JPEG" and labels.tolist() == [0] * 5 + [1] * 4
    before = pictures.digest()
    assert open_classes(folder, (64, 64))[0].digest() == before  # the size is no property of the files
    (folder / "n02" / "1.JPEG").unlink()
    assert open_classes(folder, (32, 32))[0].digest() != before


@pytest.mark.parametrize(
    ("missing", "message"),
    [("train", "train is not there"), ("val", "val is not there"), ("Annotations", r"ILSVRC2012_val_0\.xml is not")],
)
def test_what_imagenet_lacks_is_named(tmp_path: Path, missing: str, message: str) -> None:
    folder = write_imagenet(tmp_path)
    (folder / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=message):
        experiments.imagenet(tmp_path, 1, 0)


def test_a_folder_trains_as_its_pictures_in_memory_would(tmp_path: Path) -> None:
    """The same pictures of one size, from a folder (PNG, so without loss) and from a tensor."""
    for i in range(5):
        noise(tmp_path / "set" / "a" / f"{i}.png", 32, 32)
    pictures, _ = open_classes(tmp_path / "set", (28, 28))
    config = BYOLConfig(
        "test_resnet", epochs=2, batch_size=4, view_size=(32, 32), hidden_dim=8, output_dim=4, warmup_epochs=0
    )
    a = train_in(tmp_path / "folder", pictures, config)[-1].backbone.state_dict()
    b = train_in(tmp_path / "memory", torch.stack([pictures[i] for i in range(5)]), config)[-1]
    assert all(torch.equal(a[name], value) for name, value in b.backbone.state_dict().items())


def test_an_unknown_experiment_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="synthetic, street-photos, street-photos-hrnet, imagenet, got 'mnist'"):
        byol.open_experiment("mnist", tmp_path, 1)


def test_profiles_name_experiments_that_exist() -> None:
    named = {name: profiles.load(name).parameters.get("experiment", "synthetic") for name in profiles.names()}
    assert set(named.values()) <= set(experiments.EXPERIMENTS)
    assert named["street-photos"] == "street-photos" and profiles.load("street-photos").numbers_only


# ---- the linear probe -----------------------------------------------------------------------------------


def test_the_probe_is_scikit_learns_logistic_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DECAY", 0.02)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 5, generator=generator) * torch.tensor([1.0, 10, 0.1, 3, 1]) + labels[:, None] * 0.3 + 7
    classifier = byol.linear_probe(features, labels)
    x = ((features - features.mean(0)) / features.std(0)).double().numpy()
    oracle = LogisticRegression(C=1 / (60 * 0.02), tol=1e-10, max_iter=10_000).fit(x, labels)
    found = classifier(features).softmax(1)
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), oracle.predict_proba(x), atol=2e-4)


def test_the_probe_serves_grad_cam_and_the_table_compares_with_it() -> None:
    config = BYOLConfig("test_resnet", epochs=1, warmup_epochs=0, view_size=(64, 32))
    images = torch.randint(0, 256, (6, 3, 64, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    backbone = make_backbone(config).eval()
    checkpoints = [Checkpoint(epoch, backbone, 0.0, 1.0, ()) for epoch in (0, 1)]
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    probes = [byol.linear_probe(byol.extract(backbone, images, config), classes)] * 2
    asked = dict(classes=classes, probes=probes)
    cams = byol.explain_checkpoints(checkpoints, images, config, ["grad-cam"], "layer4", **asked)
    maps = cams | byol.explain_checkpoints(checkpoints, images, config, ["grad-fam"], "layer4")
    direct = explain_all(backbone, normalise(images, config), ["grad-cam"], classes=classes, classifier=probes[0])
    torch.testing.assert_close(cams["grad-cam"][0], direct["grad-cam"].cam)

    masks = torch.zeros(6, 64, 32, dtype=torch.bool)
    masks[:, :32] = True
    right = [classes == 0, classes >= 0]
    table = byol.probe_table(checkpoints, maps, masks, right, 4).set_index(["share", "method"])
    assert table.accuracy.tolist() == pytest.approx([100 / 3, 100 / 3, 100, 100])
    own = table.loc[(0, "grad-cam")]
    assert (own.excess, own.spearman) == pytest.approx((0, 1)) and own.n_labels == 4
    energies = {name: measure(maps[name][0], masks)["energy"] for name in maps}
    rival = table.loc[(0, "grad-fam")]
    assert rival.excess == pytest.approx((energies["grad-fam"] - energies["grad-cam"]).nanmean().item())
    assert rival.spearman == pytest.approx(spearman(maps["grad-fam"][0], maps["grad-cam"][0]).nanmean().item())
    assert rival.energy == pytest.approx(energies["grad-fam"].nanmean().item())
