"""What one explanation costs, ours and the peers' in one run: Table 1, and a longer comparison on several networks.

The calls that are timed are interleaved, so that a slow moment of the machine hits all of them, and before they are
timed they are compared: see :mod:`workbook.benchmark.agreement`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from statistics import median

import pandas as pd
import torch
from torch import Tensor, nn

from fam_lib.capture import evaluating
from fam_lib.precision import float32_as
from workbook import paths, published
from workbook.benchmark.agreement import Agreement, agreement
from workbook.benchmark.clock import machine, timed
from workbook.benchmark.floor import forward_costs
from workbook.benchmark.memory import peak_memory
from workbook.benchmark.networks import NETWORKS, Subject, load, narrow
from workbook.benchmark.peers import Run
from workbook.benchmark.rows import OURS, Rows, all_rows, rival, table1_rows
from workbook.cache.digests import state_digest
from workbook.cache.store import key, write_json, write_text

CODE_VERSION = 5
REPEATS = 3
CHECKED_CHANNELS = 32

LEGEND = """\
ratio: to the seconds of score-fam fam_lib, or of grad-fam fam_lib for rows without masked forwards; round by round
agrees: correlation of the map with that row's; score_error: of S, from a loop with the library's own masks"""

Seconds = dict[tuple[str, str], list[float]]
Say = Callable[[str], object]


def measure(rows: Rows, device: torch.device, repeats: int = REPEATS, say: Say | None = None) -> Seconds:
    """Seconds of every row, the rows interleaved, after one warm-up of the cheap ones.

    Args:
        rows: what is timed; the model in eval mode.
        device: where it runs.
        repeats: rounds.
        say: told about every call that was timed.

    Returns:
        (method, library) -> its seconds, one per round.
    """
    seconds: Seconds = {name: [] for name in rows}
    for row in rows.values():
        if not row.forwards:
            row.run()
    for i in range(repeats):
        for name, row in rows.items():
            seconds[name].append(timed(row.run, device)[0])
            if say:
                say(f"round {i + 1} of {repeats}: {' '.join(name)} {seconds[name][-1]:.3g} s")
    return seconds


def table1(model: nn.Module, image: Tensor) -> pd.DataFrame:
    """Table 1 for a network and one image (1, 3, H, W); measured once, then read from :data:`workbook.paths.CACHE`.

    A time never repeats to the digit: without the cache every run would change the table.

    Args:
        model: its ``layer`` is explained; behind it global average pooling and an affine head, so that "fam" is the
            closed form of Grad-FAM.
        image: normalised as the model wants it.

    Returns:
        Columns method, library, seconds (median), seconds_min, seconds_max, masked_forwards (ours: distinct masks
        of live channels), device, paper_seconds.
    """
    subject = Subject(model, model.layer, image.to(next(model.parameters()).device))
    device = subject.image.device
    name = key(
        "table1", CODE_VERSION, state_digest(model), getattr(model, "feature", ""), list(image.shape),
        [name for name, module in model.named_modules() if module is subject.layer], machine(device),
        os.environ.get("OMP_WAIT_POLICY", ""),  # decides how long small operations take on several threads
    )  # fmt: skip
    path = paths.CACHE / "benchmarks" / f"{name}.json"
    with evaluating(model):
        rows = table1_rows(subject)
        if not path.exists():
            write_json(path, [[*name, times] for name, times in measure(rows, device).items()])
    stored = {(method, library): times for method, library, times in json.loads(path.read_text(encoding="utf-8"))}
    frame = _times(rows, stored, device)
    frame["paper_seconds"] = [published.TABLE1_SECONDS.get(m) if lib == OURS else None for m, lib in stored]
    return frame


def _times(rows: Rows, seconds: Seconds, device: torch.device) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": method,
            "library": library,
            "seconds": median(times),
            "seconds_min": min(times),
            "seconds_max": max(times),
            "masked_forwards": rows[method, library].forwards,
            "device": machine(device),
        }
        for (method, library), times in seconds.items()
    )


@float32_as("ieee")  # for every library
def compare(subject: Subject, repeats: int, memory: bool, say: Say) -> pd.DataFrame:
    """Compare ours with the peers, the loop and plain forwards: first what they find, then what they cost.

    Args:
        subject: network in eval mode, layer and image.
        repeats: rounds.
        memory: run every row once more, in a process of its own, for its peak memory.
        say: told about the progress, and given the table of :func:`workbook.benchmark.floor.forward_costs`.

    Returns:
        The columns of :func:`table1` but the paper's, and ms_per_forward (seconds / masked_forwards), ratio (median
        over the rounds of the seconds to those of our exact Score-FAM, or Grad-FAM for the rows without masked
        forwards), ratio_min, ratio_max, agrees and score_error (:class:`Agreement`, of the first 32 channels),
        peak_mb (:func:`peak_memory`; NaN if not asked for).
    """
    floor, device = forward_costs(subject), subject.image.device
    say(f"milliseconds of a forward on {machine(device)}\n{floor.round(2).to_string(index=False)}")
    batch = int(floor["batch"][floor["plain_ms"].idxmin()])
    checked = narrow(subject, CHECKED_CHANNELS)
    agreements = agreement(all_rows(checked, batch), checked)
    rows = all_rows(subject, batch)
    say(_expected_duration(rows, floor, repeats + memory))
    seconds = measure(rows, device, repeats, say)
    frame = _times(rows, seconds, device)
    frame["ms_per_forward"] = 1000 * frame["seconds"] / frame["masked_forwards"]
    frame[["ratio", "ratio_min", "ratio_max"]] = [_ratios(seconds[name], seconds[rival(rows[name])]) for name in rows]
    frame[["agrees", "score_error"]] = [agreements.get(name, Agreement(math.nan, math.nan)) for name in rows]
    frame["peak_mb"] = [peak_memory(_run_of, subject, batch, name) if memory else math.nan for name in rows]
    return frame


def _ratios(times: list[float], ours: list[float]) -> tuple[float, float, float]:
    ratios = [a / b for a, b in zip(times, ours, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def _run_of(subject: Subject, batch: int, name: tuple[str, str]) -> Run:
    return all_rows(subject, batch)[name].run


def _expected_duration(rows: Rows, floor: pd.DataFrame, rounds: int) -> str:
    """At most so long: every forward at the price of the dearest batch size."""
    forwards = sum(row.forwards or 0 for row in rows.values())
    minutes = rounds * forwards * floor["plain_ms"].max() / 60_000
    return f"{rounds} rounds of {forwards:,} forwards, at most about {math.ceil(minutes)} min"


def _at_least_1(word: str) -> int:
    if int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {word}")
    return int(word)


def main(arguments: list[str] | None = None) -> None:
    """Time ours beside the peers, the loop and plain forwards, for ``make bench``; CSV files go to build/bench/."""
    parser = argparse.ArgumentParser(prog="workbook.benchmark explain", description=main.__doc__)
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="default", help="what to explain")
    parser.add_argument("--repeats", type=_at_least_1, default=REPEATS, help="rounds; the median is reported")
    parser.add_argument(
        "--channels", type=_at_least_1, help="explain only the first channels of the layer, in every library"
    )
    parser.add_argument("--memory", action="store_true", help="peak memory too: every row once more, in a new process")
    options = parser.parse_args(arguments)
    for name in NETWORKS if options.network == "all" else [options.network]:
        subject = load(name) if options.channels is None else narrow(load(name), options.channels)
        print(f"\n{name}: image {' x '.join(map(str, subject.image.shape[-2:]))}, {machine(subject.image.device)}")
        frame = compare(subject, options.repeats, options.memory, lambda text: print(text, file=sys.stderr))
        print(frame.drop(columns=["device"]).to_string(index=False, float_format="{:.4g}".format, na_rep=""))
        print(LEGEND)
        path = paths.BUILD / "bench" / f"{name}.csv"
        write_text(path, frame.to_csv(index=False, float_format="%.6g"))
        print(f"written to {path}")
