"""The retrieval benchmark: its data have Market1501's shape, and its loop gives the textbook scores."""

import runpy
import sys

import pytest
import torch

from fam_lib.retrieval import Labels, matches
from workbook.benchmark import explaining, retrieval
from workbook.benchmark.retrieval import Retrieval, compare, market1501_shape, plain_loop


@pytest.fixture(scope="module")
def market():
    return market1501_shape()


def test_counts_are_those_of_market1501(market):
    assert market.query_features.shape == (3368, 64)
    assert market.gallery_features.shape == (15913, 64)
    labels = market.labels
    assert (len(labels.query_ids), len(labels.gallery_ids)) == (3368, 15913)
    assert labels.query_ids.unique().tolist() == list(range(1, 751))
    assert labels.gallery_ids.unique().tolist() == list(range(751))
    assert (labels.gallery_ids == 0).sum() == 2798
    assert labels.query_cams.unique().tolist() == labels.gallery_cams.unique().tolist() == list(range(6))


def test_every_query_has_matches_in_market1501_number(market):
    found = matches(market.labels).sum(1)
    assert found.min() == 1
    assert 60 <= found.max() <= 80
    assert found.double().mean().item() == pytest.approx(14.74, abs=0.25)


def test_an_identity_has_one_query_in_each_of_its_cameras(market):
    labels = market.labels
    pairs = list(zip(labels.query_ids.tolist(), labels.query_cams.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert labels.query_ids.bincount()[1:].min() == 2
    labelled = labels.gallery_ids > 0
    seen = zip(labels.gallery_ids[labelled].tolist(), labels.gallery_cams[labelled].tolist(), strict=True)
    assert set(seen) == set(pairs)


def test_the_data_are_the_same_every_time(market):
    again = market1501_shape()
    assert torch.equal(again.query_features, market.query_features)
    assert torch.equal(again.gallery_features, market.gallery_features)
    for name, values in vars(again.labels).items():
        assert torch.equal(values, getattr(market.labels, name)), name


@pytest.mark.parametrize("python_numbers", [True, False])
def test_plain_loop_by_hand(python_numbers):
    # In the order of similarity: own camera (dropped), match, two negatives, match. So the matches stand at
    # ranks 1 and 4, and precisions before them are 1 and 1/3.
    gallery = torch.tensor([[1.0, 0.1 * i] for i in range(5)])
    labels = Labels([7], [1], [7, 7, 0, 8, 7], [1, 2, 2, 1, 3])
    data = Retrieval(torch.tensor([[3.0, 0.0]]), gallery, labels)
    expected = [(1 + 2 / 4) / 2, ((1 + 1) / 2 + (2 / 4 + 1 / 3) / 2) / 2, 1]
    assert plain_loop(data, 1, python_numbers)[0].tolist() == pytest.approx(expected)


def test_evaluate_and_the_loop_agree(market, monkeypatch):
    monkeypatch.setattr(retrieval, "SAMPLE", 20)
    monkeypatch.setattr(retrieval, "REPEATS", 1)
    first = slice(150)
    data = Retrieval(market.query_features[first], market.gallery_features, market.labels.of_queries(first))
    frame = compare(data)
    ours, loop, sampled = (
        frame[frame["evaluation"].str.startswith(name)].iloc[0] for name in ("fam", "loop, P", "loop, N")
    )
    for score in ("map", "map_trapezoid", "rank1"):
        assert ours[score] == pytest.approx(loop[score], abs=1e-6)
        assert 0.5 < loop[score] < 1
        assert sampled[score] != sampled[score]
    assert (ours["ratio"], ours["queries_timed"], sampled["queries_timed"]) == (1, 150, 20)
    assert loop["ratio"] == pytest.approx(loop["seconds"] / ours["seconds"])


@pytest.mark.parametrize(
    ("words", "called"),
    [
        ([], ("explain", [])),
        (["--size", "64"], ("explain", ["--size", "64"])),
        (["explain", "--size", "64"], ("explain", ["--size", "64"])),
        (["retrieval"], ("retrieval", [])),
    ],
)
def test_the_first_word_says_which_benchmark(monkeypatch, words, called):
    calls = []
    monkeypatch.setattr(explaining, "main", lambda rest: calls.append(("explain", rest)))
    monkeypatch.setattr(retrieval, "main", lambda rest: calls.append(("retrieval", rest)))
    monkeypatch.setattr(sys, "argv", ["workbook.benchmark", *words])
    runpy.run_module("workbook.benchmark", run_name="__main__")
    assert calls == [called]
