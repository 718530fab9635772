"""The estimate for large query sets, by hand and by its limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation_toys import SIZE, blocks, tiny_model
from fam_lib.reid import scale
from fam_lib.reid.scale import Rates, estimate


def test_the_device_with_the_most_shards_decides_and_the_gallery_is_everyones() -> None:
    table = estimate(Rates(explain=10, measure=0.5, feature=0.01)).set_index(["dataset", "devices"])
    # Market1501: 842 shards of 4 maps, 12 x 211 = 2,532 shards of 16 results, 19,732 gallery images.
    # MSMT17: 2,915 shards of maps, 12 x 729 = 8,748 of results, 82,161 gallery images.
    by_hand = {
        ("Market1501", 1): 842 * 40 + 2532 * 8 + 197.32,
        ("Market1501", 8): 106 * 40 + 317 * 8 + 197.32,
        ("Market1501", 64): 14 * 40 + 40 * 8 + 197.32,
        ("MSMT17", 1): 2915 * 40 + 8748 * 8 + 821.61,
        ("MSMT17", 8): 365 * 40 + 1094 * 8 + 821.61,
        ("MSMT17", 64): 46 * 40 + 137 * 8 + 821.61,
    }
    assert table.seconds.to_dict() == pytest.approx(by_hand)
    assert table.n_queries.tolist() == [3368] * 3 + [11659] * 3
    assert table.serial["MSMT17", 64] == pytest.approx(821.61 / (46 * 40 + 137 * 8 + 821.61))
    assert table.speedup["Market1501", 1] == 1


rates = st.floats(1e-4, 100)


@given(rates, rates, rates, st.integers(1, 300))
def test_no_number_of_devices_is_faster_than_its_share_or_slower_than_one(
    explain: float, measure: float, feature: float, devices: int
) -> None:
    table = estimate(Rates(explain, measure, feature), (1, devices))
    assert table.speedup.between(1, devices * (1 + 1e-9)).all() and table.serial.between(0, 1).all()


def test_the_rates_are_those_of_sixteen_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, ticks = blocks(tmp_path), iter((0.0, 30.0, 100.0, 420.0, 500.0, 516.0))
    monkeypatch.setattr(scale.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(scale, "load_queries", lambda *arguments: arguments[3])
    monkeypatch.setattr(scale, "explain_queries", lambda _, n, cache: {"score-fam": n})
    monkeypatch.setattr(scale, "score_queries", lambda _, n, maps, cache: (n, maps))
    assert scale.measure(tiny_model(), data, SIZE) == Rates(explain=20, measure=1, feature=30 / len(data.gallery))
