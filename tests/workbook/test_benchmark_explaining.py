"""The benchmark of explanations: every call finds what it should, and the table says what was measured."""

import json
import math

import pandas as pd
import pytest
import torch
from torch import nn

from fam_lib import explain
from fam_lib.capture import run_with_layer
from toys import GapNet, assert_untouched, census, pictures, seeded, summing
from workbook import paths
from workbook.benchmark import explaining, floor
from workbook.benchmark.agreement import agreement
from workbook.benchmark.explaining import compare, main, measure, table1
from workbook.benchmark.floor import forward_costs
from workbook.benchmark.memory import peak_beyond_now, peak_memory
from workbook.benchmark.networks import Subject, narrow
from workbook.benchmark.peers import Found
from workbook.benchmark.rows import Row, all_rows, masked_forwards, plain_forwards, table1_rows

CPU = torch.device("cpu")
HALF, BUDGET = ("score-fam", "fam_lib bfloat16"), ("score-fam", "fam_lib 25%")
PEERS = [("grad-fam", "captum"), *((m, lib) for m in ("grad-fam", "score-fam") for lib in ("torchcam", "grad-cam"))]


def toy(channels: int = 12, seed: int = 1) -> Subject:
    model = seeded(GapNet(channels), seed)
    return Subject(model, model.relu, pictures(1, (64, 32), seed=2))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(floor, "BATCHES", {"cpu": (2, 4)})


# ---- what is timed ------------------------------------------------------------------------------------


def test_every_call_finds_what_its_own_masks_say_and_grad_fam_is_one_map_for_all():
    subject = toy()
    rows = all_rows(subject, 4)
    found = agreement(rows, subject)
    assert set(PEERS) <= set(found)
    assert set(rows) - set(found) == {("forward", "torch"), ("forwards", "torch, batch 4")}
    for name, (agrees, error) in found.items():
        if name[0] == "score-fam" and name not in (HALF, BUDGET):
            assert error < 1e-5, name
            assert agrees > 0.9, name
        if name[0] in ("grad-fam", "fam"):
            assert agrees > 0.9999, name
            assert math.isnan(error), name
    assert found["score-fam", "fam_lib"].agrees == pytest.approx(1, abs=1e-9)
    assert found["score-fam", "loop"].agrees == pytest.approx(1, abs=1e-6)
    assert found["uniform", "fam_lib"].agrees < 0.999
    assert 1e-5 < found[HALF].score_error < 1e-1
    assert found[BUDGET].score_error > 1e-4


@pytest.mark.parametrize("name", [("score-fam", "torchcam"), ("score-fam", "fam_lib")])
def test_scores_that_are_others_are_seen(name):
    subject = toy()
    rows = all_rows(subject, 4)
    saliency, weights = rows[name].run()
    rows[name] = Row(lambda: Found(saliency, weights.roll(1, 1)), 12)
    assert agreement(rows, subject)[name].score_error > 1e-3


def test_a_row_says_how_many_masked_images_it_forwards():
    model = seeded(GapNet(12), 1)
    model.conv.weight.data[3], model.conv.bias.data[3] = model.conv.weight[0] * 4, model.conv.bias[0] * 4  # one mask
    model.conv.weight.data[5], model.conv.bias.data[5] = 0, 1  # dead
    subject = Subject(model, model.relu, pictures(1, (64, 32), seed=2))
    activations = run_with_layer(model, model.relu, subject.image)[0]
    seen = []
    model.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    for name, row in all_rows(subject, 5).items():
        seen.clear()
        row.run()
        # Beside the masked images the image, which a peer sees twice, and ours, like the loop, blurred too.
        others = {"torch, batch 5": 0, "loop": 3}.get(name[1], 2)
        if row.forwards:
            assert sum(seen) == row.forwards + others, name
    live = [len(channel.unique()) > 1 for channel in activations[0]]
    assert masked_forwards(activations) == sum(live) - (live[0] and live[3])
    assert sum(live) < 12


def test_plain_forwards_are_as_many_as_was_said():
    seen = []
    model = nn.Sequential(nn.Flatten())
    model.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    plain_forwards(Subject(model, model[0], torch.zeros(1, 3, 2, 2)), 11, 4)
    assert seen == [4, 4, 3]


def test_a_narrowed_network_answers_the_same_and_explains_the_first_channels_alone():
    subject = toy()
    before = census(subject.model)
    narrowed = narrow(subject, 5)
    assert torch.equal(narrowed.model(subject.image), subject.model(subject.image))
    for method in ("grad-fam", "score-fam", "fam"):
        ours = explain(narrowed.model, subject.image, method, narrowed.layer).weights
        whole = explain(subject.model, subject.image, method, subject.layer).weights[:, :5]
        expected = whole / whole.sum() if method == "score-fam" else whole
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert_untouched(before, census(subject.model))


# ---- measuring ----------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_only_cheap_calls_are_warmed_up():
    calls, told = [], []
    rows = {
        ("a", "x"): Row(lambda: calls.append("a")),
        ("b", "y"): Row(lambda: calls.append("b"), 7),
    }
    seconds = measure(rows, CPU, 3, told.append)
    assert "".join(calls) == "a" + "ab" * 3
    assert {name: len(times) for name, times in seconds.items()} == {("a", "x"): 3, ("b", "y"): 3}
    assert told[-1].startswith("round 3 of 3: b y ")


def test_the_floor_is_the_time_of_a_forward_at_each_batch_size(monkeypatch):
    plain, ours = iter([9.0, 4.0, 9.0, 8.0]), iter([9.0, 6.0, 9.0, 2.0])  # of two runs the second counts
    monkeypatch.setattr(floor, "_plain", lambda _subject, total, _batch: next(plain) * total / 4)
    monkeypatch.setattr(floor, "_masked", lambda subject, _batch: next(ours) * _masks(subject) / 4)
    frame = forward_costs(toy())
    assert frame.to_dict("list") == {
        "batch": [2, 4], "plain_ms": [1000, 2000], "ours_ms": [1500, 500], "ratio": [1.5, 0.25]
    }  # fmt: skip


def _masks(subject: Subject) -> int:
    return masked_forwards(run_with_layer(subject.model, subject.layer, subject.image)[0])


def test_the_time_of_masked_forwards_is_a_part_of_the_whole():
    subject, seconds = toy(), []
    whole = measure({("a", "b"): Row(lambda: seconds.append(floor._masked(subject, 3)))}, CPU, 1)
    assert 0 < seconds[-1] < whole["a", "b"][0]


def test_peak_memory_is_that_of_the_call_beyond_what_there_was():
    kept = torch.ones(20_000_000)  # 80 MB that do not count
    assert 95 <= peak_beyond_now(lambda: torch.ones(25_000_000).sum() + kept[0]) < 130
    assert peak_beyond_now(lambda: kept.sum()) < 30


def test_peak_memory_is_measured_in_a_process_of_its_own():
    assert 40 <= peak_memory(summing, seeded(GapNet()), 10_000_000) < 80


def test_where_the_system_cannot_tell_the_peak_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("workbook.benchmark.memory.PROCESS", tmp_path)
    with pytest.raises(OSError, match="leave out --memory"):
        peak_beyond_now(lambda: None)


# ---- tables -------------------------------------------------------------------------------------------


def test_ratios_are_medians_over_rounds_to_ours_of_the_same_kind(monkeypatch):
    def times(rows, _device, _repeats, _say):
        seconds = {name: [1.0, 2.0, 4.0] for name in rows}
        return seconds | {("score-fam", "torchcam"): [3.0, 4.0, 20.0], ("grad-fam", "captum"): [0.5, 0.5, 0.5]}

    monkeypatch.setattr(explaining, "measure", times)
    said = []
    frame = compare(toy(), 3, False, said.append).set_index(["method", "library"])
    ratio = ["ratio", "ratio_min", "ratio_max"]
    assert frame.loc[("score-fam", "torchcam"), ratio].tolist() == [3, 2, 5]
    assert frame.loc[("grad-fam", "captum"), ratio].tolist() == [0.25, 0.125, 0.5]
    assert frame.loc[("score-fam", "fam_lib"), ratio].tolist() == [1, 1, 1]
    torchcam = frame.loc["score-fam", "torchcam"]
    assert torchcam[["seconds", "seconds_min", "seconds_max", "masked_forwards"]].tolist() == [4, 3, 20, 12]
    assert torchcam["ms_per_forward"] == pytest.approx(1000 * 4 / 12)
    assert torchcam["score_error"] < 1e-5
    assert frame["peak_mb"].isna().all()
    assert "plain_ms" in said[0]
    assert "3 rounds of" in said[1]


def test_the_command_writes_a_table_for_each_network(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(explaining, "NETWORKS", {"one": toy, "two": lambda: toy(6)})
    monkeypatch.setattr(explaining, "load", lambda name: explaining.NETWORKS[name]())
    main(["--network", "all", "--repeats", "1", "--channels", "5"])
    for name in ("one", "two"):
        frame = pd.read_csv(tmp_path / "bench" / f"{name}.csv").set_index(["method", "library"])
        assert frame.loc[("score-fam", "grad-cam"), "masked_forwards"] == 5
        assert (frame["seconds"] > 0).all()
    shown = capsys.readouterr()
    assert "one: image 64 x 32" in shown.out
    assert "round 1 of 1: score-fam loop" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--network", "vgg"], "invalid choice"), (["--repeats", "0"], "at least 1"), (["--channels", "0"], "at least 1")],
)
def test_bad_arguments_are_refused(capsys, words, message):
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err


def test_table_1_is_measured_once_and_then_read(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    model, layer, image = toy()
    model.layer = layer
    first = table1(model, image)
    monkeypatch.setattr(explaining, "measure", lambda *_: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(table1(model, image), first)
    rows = {(row["method"], row["library"]): row for row in first.to_dict("records")}
    assert list(rows) == list(table1_rows(toy()))
    assert list(first) == [
        "method", "library", "seconds", "seconds_min", "seconds_max", "masked_forwards", "device", "paper_seconds"
    ]  # fmt: skip
    paper = first.dropna(subset="paper_seconds").set_index(["method", "library"])["paper_seconds"]
    assert paper.to_dict() == {("grad-fam", "fam_lib"): 0.05, ("score-fam", "fam_lib"): 9.69}
    (stored,) = (tmp_path / "benchmarks").glob("*.json")
    times = {(method, library): found for method, library, found in json.loads(stored.read_text(encoding="utf-8"))}
    for name, row in rows.items():
        low, middle, high = sorted(times[name])
        assert (row["seconds_min"], row["seconds"], row["seconds_max"]) == (low, middle, high)
