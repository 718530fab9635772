"""Pretext tasks compared by one table: the same pictures, backbone and epochs, and several trainings of each.

One training is one network. Which of two tasks looks more at the foreground is a question about tasks, so what counts
as chance here is the training, not the picture: intervals are over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fam_lib.localisation import region_share
from workbook import paths
from workbook.byol.analysis import explain_checkpoints, measure_maps
from workbook.byol.checkpoints import checkpoints
from workbook.byol.experiments import Experiment
from workbook.byol.training import Checkpoint
from workbook.tables import interval_columns, over_seeds

UNTRAINED = "untrained"  # stands among the pretext tasks: what the weights at the start are worth
MEASURES = ("energy", "pointing", "area", "entropy", "knn")


def run_pretexts(
    experiment: Experiment,
    pretexts: Sequence[str],
    seeds: Iterable[int],
    methods: Sequence[str],
    *,
    device: str = "cpu",
    n_workers: int = 0,
    n_threads: int | None = None,
) -> pd.DataFrame:
    """Train each pretext task with each seed, explain the networks at both layers, and measure.

    Networks and maps are kept in :data:`workbook.paths.CACHE`, the maps in its ``byol-maps``, as soon as they are
    there, so a call that was killed goes on where it was.

    Args:
        experiment: its pictures, layers and quiz, and all settings but pretext and seed. The pictures are those of
            the experiment whatever the seed, which decides on weights, order and views.
        pretexts: names for :class:`BYOLConfig`.
        seeds: of the trainings.
        methods: names that need no other image.
        device: of the explained networks.
        n_workers: see :func:`~workbook.byol.training.train_byol`.
        n_threads: see :func:`~workbook.byol.training.train_byol`.

    Returns:
        A row for each seed, network (untrained, then the end of each training), map and method: columns pretext,
        seed, map, layer, method, n (pictures), foreground (its percentage of their pixels), and the means over the
        pictures of energy, pointing, area, entropy and knn, in percent, as in :func:`checkpoint_table`.
    """
    rows = []
    for seed in seeds:
        networks = {}
        for pretext in pretexts:
            config = replace(experiment.config, pretext=pretext, seed=seed)
            first, *_, last = checkpoints(experiment.pictures, config, n_workers=n_workers, n_threads=n_threads)
            networks |= {UNTRAINED: first, pretext: last}
        for checkpoint in networks.values():
            checkpoint.backbone.to(device)
        rows += [{"seed": seed, **row} for row in _outcomes(experiment, networks, methods, paths.CACHE / "byol-maps")]
    return pd.DataFrame(rows)


def _outcomes(
    experiment: Experiment, networks: Mapping[str, Checkpoint], methods: Sequence[str], cache: Path
) -> Iterator[dict[str, Any]]:
    """A row for each network, map and method."""
    found = list(networks.values())
    maps = {
        which: explain_checkpoints(found, experiment.images, experiment.config, methods, layer, cache=cache)
        for which, layer in experiment.layers.items()
    }
    foreground = 100 * region_share(experiment.masks).mean().item()
    knn = [100 * experiment.accuracy(checkpoint.backbone) for checkpoint in found]
    for which, by_method in measure_maps(maps, experiment.masks).items():
        for method, series in by_method.items():
            for pretext, values, accuracy in zip(networks, series, knn, strict=True):
                row = {"pretext": pretext, "map": which, "layer": experiment.layers[which], "method": method}
                row |= {"n": len(experiment.masks), "foreground": foreground}
                yield row | {name: value.nanmean().item() for name, value in values.items()} | {"knn": accuracy}


def pretext_table(runs: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The pretext tasks side by side: a row for each task (and the untrained network), map and method.

    Args:
        runs: from :func:`run_pretexts`.
        reference: the pretext task that all others are compared with.

    Returns:
        Columns pretext, map, layer, method, n, foreground, n_seeds; for each of :data:`MEASURES` its mean over the
        seeds in percent, and as ``_diff`` the mean of the differences to the reference at the same seed, in points;
        both with a 95 % t interval over the seeds, ``_lo`` and ``_hi``, which is NaN for a single seed.

    Raises:
        ValueError: the runs have no such pretext task.
    """
    if reference not in set(runs["pretext"]):
        raise ValueError(f"reference must be one of {sorted(set(runs['pretext']))}, got {reference!r}")
    training, what = ["seed", "map", "method"], ["pretext", "map", "layer", "method", "n", "foreground"]
    base = runs[runs["pretext"] == reference].set_index(training)[list(MEASURES)].add_suffix("_base")
    rows = []
    for group, own in runs.join(base, on=training).groupby(what, sort=False):
        row = {**dict(zip(what, group, strict=True)), "n_seeds": len(own)}
        for name in MEASURES:
            row |= interval_columns(name, over_seeds(own[name]))
            row |= interval_columns(f"{name}_diff", over_seeds(own[name] - own[f"{name}_base"]))
        rows.append(row)
    return pd.DataFrame(rows)
