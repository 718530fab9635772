"""The estimate for large query sets, by hand and by its limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation_toys import SIZE, blocks, tiny_model
from workbook.reid import scale
from workbook.reid.scale import Rates, estimate


def test_the_device_with_the_most_shards_decides() -> None:
    measure = {"Market1501": 0.5, "MSMT17": 1.5}
    table = estimate(Rates(feature=0.01, explain=10, measure=measure)).set_index(["dataset", "devices"])
    # Market1501: 23,100 images are 181 shards of features; 842 of 4 maps, 13 x 211 = 2,743 of 16 results.
    # MSMT17: 93,820 images are 733 shards of features; 2,915 of maps, 13 x 729 = 9,477 of results.
    by_hand = {
        ("Market1501", 1): 181 * 1.28 + 842 * 40 + 2743 * 8,
        ("Market1501", 8): 23 * 1.28 + 106 * 40 + 343 * 8,
        ("Market1501", 64): 3 * 1.28 + 14 * 40 + 43 * 8,
        ("MSMT17", 1): 733 * 1.28 + 2915 * 40 + 9477 * 24,
        ("MSMT17", 8): 92 * 1.28 + 365 * 40 + 1185 * 24,
        ("MSMT17", 64): 12 * 1.28 + 46 * 40 + 149 * 24,
    }
    assert table.seconds.to_dict() == pytest.approx(by_hand)
    assert table.n_queries.tolist() == [3368] * 3 + [11659] * 3
    assert table.speedup["Market1501", 1] == 1


rates = st.floats(1e-4, 100)


@given(rates, rates, rates, st.integers(1, 300))
def test_no_number_of_devices_is_faster_than_its_share_or_slower_than_one(
    feature: float, explain: float, measure: float, devices: int
) -> None:
    table = estimate(Rates(feature, explain, dict.fromkeys(scale.QUERY_SETS, measure)), (1, devices))
    assert table.speedup.between(1, devices * (1 + 1e-9)).all()


def test_the_rates_are_those_of_the_queries_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than sixteen, and what the first call costs more is not counted: it comes before the clock starts."""
    data, ticks = blocks(tmp_path), iter((0.0, 30.0, 100.0, 420.0, 500.0, 516.0, 600.0, 664.0))
    monkeypatch.setattr(scale.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(scale, "QUERY_SETS", {"Market1501": (3368, 197), "MSMT17": (11659, 821)})  # smaller galleries
    calls, galleries = [], []
    explain_queries = scale.explain_queries
    monkeypatch.setattr(
        scale,
        "explain_queries",
        lambda model, queries, **options: (
            calls.append(len(queries)) or explain_queries(model, queries, ["score-fam"], **options)
        ),
    )
    score_queries = scale.score_queries
    monkeypatch.setattr(
        scale,
        "score_queries",
        lambda model, queries, maps, **options: (
            galleries.append((len(queries.gallery), len(queries.gallery_set)))
            or score_queries(model, queries, maps, **options)
        ),
    )
    n = len(data.query)
    found = scale.measure(tiny_model(), data, SIZE)
    assert n < 16 and calls == [1, n]
    assert galleries == [(197, 197), (821, 821)]
    measured = {"Market1501": 16 / n, "MSMT17": 64 / n}
    assert found == Rates(feature=30 / (n + len(data.gallery)), explain=320 / n, measure=measured)
