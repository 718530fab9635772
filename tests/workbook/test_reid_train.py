"""workbook.reid.batches and train: every part by value; determinism, resume, cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from reid_toys import SIZE, write_image, write_rectangles
from workbook.reid import training
from workbook.reid.batches import erasing_box, identity_batches, random_erasing, random_flip, random_shift
from workbook.reid.config import TrainConfig
from workbook.reid.data import ReidData, load_market_layout
from workbook.reid.losses import ReidLoss, center_loss
from workbook.reid.model import ReidModel
from workbook.reid.training import augment, cache_key, class_labels, learning_rate, train

TINY = TrainConfig(
    backbone="test_efficientnet",
    init="random",
    size=SIZE,
    epochs=3,
    ids_per_batch=2,
    images_per_id=2,
    warmup_epochs=1,
)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return load_market_layout(write_rectangles(tmp_path_factory.mktemp("data") / "rectangles"))


@pytest.fixture(scope="module")
def trained(data: ReidData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReidModel]:
    """An uninterrupted training and its cache."""
    cache = tmp_path_factory.mktemp("cache")
    return cache, train(data, TINY, cache, progress=False)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train_epoch", lambda *_args: pytest.fail("trained again"))


def same_bits(a: ReidModel, b: ReidModel) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- sampler ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(1, 11), min_size=3, max_size=8),
    ids_per_batch=st.integers(1, 3),
    images_per_id=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_every_batch_is_p_identities_by_k_images(counts, ids_per_batch, images_per_id, seed) -> None:
    labels = torch.tensor([person for person, count in enumerate(counts) for _ in range(count)])
    batches = identity_batches(labels, ids_per_batch, images_per_id, generator(seed))
    seen = torch.cat(batches)
    for batch in batches:
        people = labels[batch].view(ids_per_batch, images_per_id)
        assert people.eq(people[:, :1]).all()
        assert len(people[:, 0].unique()) == ids_per_batch
    for person, count in enumerate(counts):
        mine = seen[labels[seen] == person]
        assert len(mine) <= max(count // images_per_id, 1) * images_per_id
        if count >= images_per_id:
            assert len(mine.unique()) == len(mine), "an image stands twice in an epoch"
    left = [
        max(count // images_per_id, 1) - (labels[seen] == person).sum().item() // images_per_id
        for person, count in enumerate(counts)
    ]
    assert sum(groups > 0 for groups in left) < ids_per_batch, "another batch was possible"


def test_share_of_the_images_seen_when_identities_are_alike() -> None:
    labels = torch.arange(12).repeat_interleave(10)
    batches = identity_batches(labels, 12, 4, generator())
    # Each identity has two groups of four: two batches of all twelve, 96 of the 120 images.
    assert len(batches) == 2
    assert len(torch.cat(batches).unique()) == 96


def test_an_identity_with_few_images_gives_one_group_with_repeats() -> None:
    labels = torch.tensor([0, 1, 1, 1, 1])
    (batch,) = identity_batches(labels, 2, 4, generator())
    assert sorted(batch.tolist()) == [0, 0, 0, 0, 1, 2, 3, 4]


def test_all_identities_are_drawn_alike() -> None:
    labels = torch.arange(6).repeat_interleave(2)
    source, counts = generator(), torch.zeros(6)
    for _ in range(500):
        counts[labels[identity_batches(labels, 4, 2, source)[0]].unique()] += 1
    # Four of six in every first batch: mean 333.3, standard deviation 10.5.
    assert counts.sum() == 2000
    assert (counts - 1000 / 3).abs().max() < 45


def test_too_few_identities_are_refused() -> None:
    with pytest.raises(ValueError, match="ids_per_batch is 3, but there are only 2"):
        identity_batches(torch.tensor([0, 1]), 3, 2, generator())


# --- augmentation -------------------------------------------------------------------------------------------


def boxes(height: int, width: int, count: int) -> Tensor:
    source = generator()
    return torch.tensor([erasing_box(height, width, source) for _ in range(count)], dtype=torch.float64)


def test_erased_area_and_aspect_are_uniform_in_their_ranges() -> None:
    side = 1000
    _, _, height, width = boxes(side, side, 4000).T
    share, aspect = height * width / side**2, height / width
    assert share.min() > 0.0195 and share.max() < 0.4005
    assert aspect.min() > 0.298 and aspect.max() < 3.35
    # Below a share of 0.3 every aspect fits into the square, so nothing was redrawn.
    small = share < 0.3
    n = small.sum().item()
    assert share[small].mean().item() == pytest.approx(0.16, abs=5 * 0.28 / math.sqrt(12 * n))
    middle = (0.3 + 1 / 0.3) / 2
    assert aspect[small].mean().item() == pytest.approx(middle, abs=5 * (1 / 0.3 - 0.3) / math.sqrt(12 * n))
    assert share[small].std().item() == pytest.approx(0.28 / math.sqrt(12), rel=0.05)
    assert torch.corrcoef(torch.stack([share[small], aspect[small]]))[0, 1].abs() < 5 / math.sqrt(n)


def test_erased_rectangles_lie_anywhere_inside_the_image() -> None:
    top, left, height, width = boxes(128, 64, 3000).T
    assert (top >= 0).all() and (top + height <= 128).all() and (height < 128).all()
    assert (left >= 0).all() and (left + width <= 64).all() and (width < 64).all()
    place = top / (128 - height)
    assert place.mean().item() == pytest.approx(0.5, abs=5 / math.sqrt(12 * 3000))
    assert (top == 0).any() and (top + height == 128).any()


def test_no_rectangle_fits_one_pixel() -> None:
    assert erasing_box(1, 1, generator()) == (0, 0, 0, 0)


def test_erasing_takes_its_share_of_the_images_and_touches_one_rectangle() -> None:
    images = torch.ones(2000, 3, 16, 8)
    erased = random_erasing(images, 0.5, generator())
    assert images.eq(1).all(), "the input was changed"
    hit = erased.flatten(1).eq(0).any(1)
    assert hit.float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))
    for image in erased[hit][:50]:
        rows, columns = image[0].eq(0).any(1), image[0].eq(0).any(0)
        assert torch.equal(image.eq(0), (rows[:, None] & columns).expand(3, 16, 8))
        assert rows.sum() * columns.sum() == image[0].eq(0).sum()


def test_erasing_writes_the_value_it_is_given() -> None:
    erased = random_erasing(torch.ones(20, 3, 16, 8), 1.0, generator(), (0.485, 0.456, 0.406))
    changed = erased.ne(1).any(1)
    assert changed.flatten(1).any(1).all()
    assert torch.equal(erased.movedim(1, -1)[changed].unique(dim=0), torch.tensor([[0.485, 0.456, 0.406]]))


def test_flip_mirrors_whole_images() -> None:
    images = torch.arange(2 * 3 * 2 * 4).view(2, 3, 2, 4).repeat(500, 1, 1, 1)
    flipped = random_flip(images, 0.5, generator())
    mirrored = flipped.eq(images.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(1000))
    assert torch.equal(random_flip(images, 1.0, generator()), images.flip(3))
    assert torch.equal(random_flip(images, 0.0, generator()), images)


def test_shift_moves_by_up_to_the_padding_and_fills_with_black() -> None:
    images = torch.zeros(3000, 1, 7, 7, dtype=torch.uint8)
    images[:, :, 3, 3] = 255
    shifted = random_shift(images, 2, generator())
    assert shifted.shape == images.shape and shifted.dtype == torch.uint8
    places = shifted.nonzero()[:, 2:] - 3
    assert len(places) == 3000
    for axis in (0, 1):
        counts = places[:, axis].add(2).bincount(minlength=5)
        assert len(counts) == 5 and (counts - 600).abs().max() < 110  # sd 21.9
    white = random_shift(torch.full((50, 1, 4, 4), 9, dtype=torch.uint8), 2, generator())
    assert set(white.unique().tolist()) == {0, 9}
    assert random_shift(images, 0, generator()) is images


def test_augment_scales_the_padding_and_normalises() -> None:
    pixels = torch.full((64, 3, 32, 16), 255, dtype=torch.uint8)
    off = replace(TINY, flip=0, pad=0, erasing=0)
    plain = augment(pixels, off, (0.5, 0.5, 0.5), (0.25, 0.5, 0.5), generator())
    assert plain[:, 0].eq(2).all() and plain[:, 1:].eq(1).all()
    # 16 pixels of an image 256 high are 2 of one 32 high; black is -1 after normalisation.
    moved = augment(pixels, replace(off, pad=16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), generator())
    dark_rows = moved[:, 0, :, 8].eq(-1).sum(1)
    assert dark_rows.max() == 2 and moved.unique().tolist() == [-1, 1]


def test_augment_is_determined_by_the_generator() -> None:
    pixels = torch.randint(256, (8, 3, *SIZE), generator=generator(5), dtype=torch.uint8)
    first, again, other = (augment(pixels, TINY, (0.5,) * 3, (0.5,) * 3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


# --- schedule and loss --------------------------------------------------------------------------------------


def test_step_schedule_gives_the_bag_of_tricks_rates() -> None:
    bag = TrainConfig(lr=3.5e-4, epochs=120, warmup_epochs=10, schedule="step", milestones=(40, 70))
    expected = {
        1: 3.815e-5,
        2: 7.28e-5,
        5: 1.7675e-4,
        10: 3.5e-4,
        39: 3.5e-4,
        40: 3.5e-5,
        69: 3.5e-5,
        70: 3.5e-6,
    }
    for epoch, rate in expected.items():
        assert learning_rate(bag, epoch) == pytest.approx(rate, rel=1e-9)
    assert learning_rate(bag, 1.99) == learning_rate(bag, 1)
    assert learning_rate(bag, 39.99) == 3.5e-4


def test_cosine_schedule_by_hand() -> None:
    config = TrainConfig(lr=1.0, epochs=9, warmup_epochs=2, warmup_factor=0.0, schedule="cosine")
    assert learning_rate(config, 1) == pytest.approx(0.5)
    assert learning_rate(config, 2) == pytest.approx(1.0)
    assert learning_rate(config, 4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(config, 6) == pytest.approx(0.5)
    assert learning_rate(config, 10) == pytest.approx(0.0, abs=1e-12)
    unwarmed = replace(config, warmup_epochs=0)
    assert learning_rate(unwarmed, 1) == 1.0
    assert learning_rate(TrainConfig(lr=1.0, epochs=1, warmup_epochs=2, warmup_factor=0.0), 1.5) == 0.75


def test_triplet_loss_by_hand() -> None:
    loss = ReidLoss(replace(TINY, triplet_margin=0.3, label_smoothing=0.0), 2, 2)
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [7.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1])
    certain = 1000.0 * torch.eye(2)[labels]  # no identity loss
    # Farthest positive - nearest negative + 0.3: 1-3, 1-2 and 4-6 give nothing, 4-2 gives 2.3; four anchors.
    assert loss(features, certain, labels).item() == pytest.approx(2.3 / 4)
    # Not normalised: ten times as far apart, (40 - 20 + 0.3) / 4.
    assert loss(10 * features, certain, labels).item() == pytest.approx(20.3 / 4)


def test_identity_loss_is_smoothed_cross_entropy() -> None:
    loss = ReidLoss(replace(TINY, label_smoothing=0.1), 5, 1)
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 0, 3, 3])
    apart = torch.tensor([[0.0], [0.0], [9.0], [9.0]])  # no triplet loss
    target = 0.9 * torch.eye(5, dtype=torch.float64)[labels] + 0.1 / 5
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert loss(apart, logits, labels).item() == pytest.approx(expected.item(), rel=1e-9)


def test_center_loss_by_hand() -> None:
    centers = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    features = torch.tensor([[3.0, 4.0], [1.0, 3.0]])
    # Squared distances 25 and 4, mean 14.5; weighted and added to the other two losses.
    assert center_loss(features, centers, torch.tensor([0, 1])).item() == 14.5
    torch.manual_seed(0)
    features, labels, logits = torch.randn(4, 2), torch.tensor([0, 0, 2, 2]), torch.randn(4, 3)
    with_centers = ReidLoss(replace(TINY, center_weight=0.1), 3, 2)
    with_centers.centers.copy_(centers)
    without = ReidLoss(TINY, 3, 2)
    difference = with_centers(features, logits, labels) - without(features, logits, labels)
    assert difference.item() == pytest.approx(0.1 * center_loss(features, centers, labels).item(), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0005, 1.0])
def test_centers_move_by_gradient_descent_whatever_their_weight(weight: float) -> None:
    torch.manual_seed(1)
    features, labels = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 1, 3])
    loss = ReidLoss(replace(TINY, center_weight=weight, center_lr=0.5), 4, 3)
    centers = loss.centers.clone().requires_grad_()
    optimizer = torch.optim.SGD([centers], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        center_loss(features, centers, labels).backward()
        optimizer.step()
        loss.move_centers(features, labels)
    torch.testing.assert_close(loss.centers, centers.detach())
    assert torch.equal(loss.centers[2], centers[2].detach()), "a center without an image moved"


def test_without_a_weight_there_are_no_centers() -> None:
    loss = ReidLoss(TINY, 4, 3)
    loss.move_centers(torch.randn(2, 3), torch.tensor([0, 1]))
    assert loss.centers.shape == (0, 3)


def test_class_labels_follow_the_order_of_identities(data: ReidData) -> None:
    chosen = data.train.subset([20, 0, 7])
    assert chosen.ids.tolist() == [4, 1, 2]
    assert class_labels(chosen).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"images_per_id": 1}, "images_per_id must be at least 2"),
        ({"size": (128,)}, "size must be two positive integers"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"seed": -1}, "seed must be 0 or larger"),
        ({"erasing": 1.5}, r"erasing must be in \[0, 1\]"),
        ({"schedule": "linear"}, "schedule must be 'cosine' or 'step'"),
        ({"milestones": (70, 40)}, "milestones must be increasing"),
        ({"erasing_value": (0.5,)}, "erasing_value must be three numbers"),
        ({"precision": "half"}, "precision must be one of 32-true"),
        ({"center_weight": -1.0}, "center_weight must be 0 or larger"),
    ],
)
def test_bad_configurations_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"TrainConfig: {message}"):
        TrainConfig(**options)


def test_lists_from_a_profile_become_tuples() -> None:
    assert TrainConfig(size=[128, 64], milestones=[4, 7]) == TrainConfig(size=(128, 64), milestones=(4, 7))


# --- training, cache, resume --------------------------------------------------------------------------------


def test_training_is_deterministic_and_leaves_the_random_state_alone(data, trained, tmp_path) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = train(data, TINY, tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(again, trained[1])
    other = train(data, replace(TINY, seed=1), tmp_path, progress=False)
    assert not torch.equal(other.classifier.weight, again.classifier.weight)


def test_training_lowers_the_loss_and_freezes_the_neck_bias(data: ReidData, monkeypatch, tmp_path) -> None:
    losses, original = [], training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda *args: losses.append(original(*args)) or losses[-1])
    model = train(data, replace(TINY, epochs=12, lr=3e-3, erasing=0), tmp_path, progress=False)
    assert len(losses) == 12 and losses[-1] < 0.6 * losses[0]
    assert not model.training
    assert model.neck.bias.eq(0).all()
    assert not model.neck.running_mean.eq(0).all()


def test_only_the_result_stays_in_the_cache(data: ReidData, trained) -> None:
    cache, _ = trained
    assert [path.relative_to(cache).as_posix() for path in cache.rglob("*.*")] == [f"reid/{cache_key(data, TINY)}.pt"]


@pytest.mark.parametrize("stopped_in", [1, 2, 3])
def test_a_killed_training_goes_on_to_the_same_bits(data, trained, tmp_path, monkeypatch, stopped_in) -> None:
    original = training.train_epoch

    def stop(*args) -> float:
        if args[-1] == stopped_in:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(training, "train_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train(data, TINY, tmp_path, progress=False)
    epochs = []
    monkeypatch.setattr(training, "train_epoch", lambda *args: epochs.append(args[-1]) or original(*args))
    resumed = train(data, TINY, tmp_path, progress=False)
    assert epochs == list(range(stopped_in, 4))
    assert same_bits(resumed, trained[1])


def test_a_kill_after_the_last_epoch_costs_nothing(data, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "atomic_path", _fails_for(".pt", ".epoch.pt"))
    with pytest.raises(OSError, match="disk is full"):
        train(data, TINY, tmp_path, progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(training, "train_epoch", lambda *_args: pytest.fail("trained again"))
    assert same_bits(train(data, TINY, tmp_path, progress=False), trained[1])


def _fails_for(suffix: str, but_not: str):
    from contextlib import contextmanager

    original = training.atomic_path

    @contextmanager
    def atomic_path(path: Path) -> Iterator[Path]:
        if path.name.endswith(suffix) and not path.name.endswith(but_not):
            raise OSError("disk is full")
        with original(path) as temporary:
            yield temporary

    return atomic_path


def test_a_cache_hit_does_not_train_and_gives_the_same_network(data, trained, no_training) -> None:
    cache, model = trained
    cached = train(data, TINY, cache, progress=False)
    assert same_bits(cached, model)
    assert not cached.training
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(cached(images), model(images))


def test_the_feature_is_no_part_of_the_training(data, trained, no_training) -> None:
    cache, model = trained
    before = train(data, replace(TINY, feature="before_bn"), cache, progress=False)
    assert before.feature == "before_bn"
    assert torch.equal(before.neck.running_var, model.neck.running_var)


def test_the_key_names_configuration_and_images(tmp_path: Path) -> None:
    root = write_rectangles(tmp_path / "one")
    data = load_market_layout(root)
    key = cache_key(data, TINY)
    assert cache_key(load_market_layout(write_rectangles(tmp_path / "two")), TINY) == key
    assert cache_key(data, replace(TINY, lr=2e-3)) != key
    write_image(root / "query" / "0005_c1_09.png")
    assert cache_key(load_market_layout(root), TINY) == key, "queries do not matter"
    write_image(data.train.paths[0], (1, 2, 3))
    assert cache_key(data, TINY) != key


@pytest.mark.parametrize("suffix", [".pt", ".epoch.pt"])
@pytest.mark.parametrize("content", [b"", b"no torch file", None])
def test_a_damaged_cache_is_one_clear_error(data, tmp_path, trained, suffix, content) -> None:
    name = cache_key(data, TINY)
    path = tmp_path / "reid" / f"{name}{suffix}"
    path.parent.mkdir()
    whole = (trained[0] / "reid" / f"{name}.pt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=rf"{name}{suffix} in the cache is damaged.*delete it"):
        train(data, TINY, tmp_path, progress=False)


def test_a_cache_of_another_shape_is_refused(data, tmp_path) -> None:
    path = tmp_path / "reid" / f"{cache_key(data, TINY)}.pt"
    path.parent.mkdir()
    torch.save({"model": {"neck.weight": torch.zeros(3)}}, path)
    with pytest.raises(ValueError, match="damaged"):
        train(data, TINY, tmp_path, progress=False)


def test_a_loss_that_explodes_is_reported_and_not_kept(data, tmp_path) -> None:
    with pytest.raises(FloatingPointError, match="choose a smaller lr"):
        train(data, replace(TINY, lr=1e30), tmp_path, progress=False)
    model_files = list(tmp_path.rglob(f"{cache_key(data, replace(TINY, lr=1e30))}.pt"))
    assert not model_files


def test_more_identities_than_there_are_is_refused_before_anything_is_written(data, tmp_path) -> None:
    with pytest.raises(ValueError, match="ids_per_batch is 9, but there are only 4"):
        train(data, replace(TINY, ids_per_batch=9), tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.pt"))


def test_images_that_do_not_fit_in_memory_are_read_batch_by_batch(data, trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "_PIXELS_IN_MEMORY", 0)
    assert same_bits(train(data, TINY, tmp_path, progress=False), trained[1])


def test_progress_goes_to_stderr_with_the_scores(data, tmp_path, capsys) -> None:
    train(data, replace(TINY, epochs=1), tmp_path, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err and "loss=" in err and "rank-1" in err and "mAP" in err
    train(data, TINY, tmp_path, progress=False)
    assert capsys.readouterr() == ("", "")
