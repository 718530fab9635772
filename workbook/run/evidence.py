"""Explain and measure every network of a profile, and write what they say together.

``python -m workbook.run.evidence PROFILE`` trains the networks that are not there yet, explains the same queries by
each of them, and writes the tables and the figure over networks to ``figures/PROFILE/``. It can be killed at any
moment: what is done stays in ``data/cache``, and the same command goes on.

What others measured ships as rows in ``data/evidence/`` and is read from there, unless ``FAM_NETWORKS=mine``;
``--keep`` puts there what this run measures. ``--only NAME`` (several times) and ``--cached`` (whatever needs no
training) write the tables of some networks; the check of the profile's outputs then says that networks are missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from workbook import outputs, paths, profiles
from workbook.cache import store
from workbook.profiles import EVIDENCE, Profile
from workbook.run import parameters
from workbook.run.evaluate import NOTEBOOK

if TYPE_CHECKING:
    from workbook.evidence.kept import Measured
    from workbook.evidence.networks import Network
    from workbook.reid.data import ReidData


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m workbook.run.evidence", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("profile")
    parser.add_argument("--data-root", default="", help="folder of the data sets; empty: data/")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this network; may be repeated")
    parser.add_argument("--cached", action="store_true", help="leave out the networks that are not trained yet")
    parser.add_argument("--keep", action="store_true", help="for maintainers: add what is measured to data/evidence/")
    options = parser.parse_args(arguments)
    try:
        profile = profiles.load(options.profile)
        run(profile, options.data_root, options.only, cached=options.cached, keep=options.keep)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def settings(profile: Profile) -> dict[str, Any]:
    """`n_queries` and `seed`: notebook 03's values in this profile, unless `evidence` says otherwise.

    Raises:
        ValueError: an unknown or mistyped entry.
    """
    known = {name: kind for name, kind in parameters.declared(NOTEBOOK).items() if name in ("n_queries", "seed")}
    for name, value in profile.evidence.items():
        place = f"params/{profile.name}.yaml: evidence"
        if name not in known:
            raise ValueError(f"{place}: unknown entry {name!r}{profiles.hint(name, known)}")
        if not parameters.match_type(value, known[name]):
            raise ValueError(f"{place}: {name} must be {known[name]}, got {value!r}")
    used = {**parameters.defaults(NOTEBOOK), **parameters.values(profile, NOTEBOOK, {}), **profile.evidence}
    return {name: used[name] for name in known}


def run(
    profile: Profile, data_root: str = "", only: list[str] | None = None, *, cached: bool = False, keep: bool = False
) -> None:
    """Measure the networks one after the other, or read what was measured, then write the outputs.

    Raises:
        FileNotFoundError: the data, a notebook or a network's file is not there.
        ValueError: a bad profile, or a name that is no network of it.
    """
    used = settings(profile)
    # torch takes seconds to import: not for a mistyped profile
    from workbook import networks as shipping
    from workbook.evidence import kept, networks
    from workbook.prepare import load_data

    say = partial(print, file=sys.stderr, flush=True)
    start, chosen, root = time.time(), networks.names(profile, only or ()), paths.data_root(data_root)
    for name in chosen:  # a mistyped entry is found before the first hour
        networks.check(profile, name, root)
    data = load_data(profile.name, data_root)
    made_of = kept.names_of(profile, chosen, data, root, used)
    ships = shipping.choice() == shipping.SHIPPED
    measured: dict[str, Measured] = {}
    for number, name in enumerate(chosen, start=1):
        found = kept.read(kept.folder_of(profile, name, published=True), made_of[name]) if ships else None
        if found:
            say(f"{name}: as it was measured before, in data/evidence/")
        elif cached and not networks.is_there(profile, name, data):
            continue
        else:
            begin = time.time()
            say(f"{name} ({number} of {len(chosen)}): started")
            found = _measure(networks.open_network(profile, name, data, root), data, used)
            # Through the files, so that this run gives the digits of all that read them.
            found = kept.through(kept.folder_of(profile, name, published=keep), found, made_of[name])
            say(f"{name}: done in {time.time() - begin:.0f} s")
        measured[name] = found
    if not measured:
        raise ValueError(f"none of the networks of profile {profile.name!r} is trained yet")
    write(profile, data.label, measured)
    record(profile, used, [] if list(measured) == list(profile.networks) else list(measured), time.time() - start)


def _measure(network: Network, data: ReidData, used: dict[str, Any]) -> Measured:
    from workbook.cache.context import Context
    from workbook.evidence import kept
    from workbook.evidence.measure import hold_against_truth, measure

    context = Context(seed=used["seed"])
    cells, statements, retrieval = measure(network, data, used["n_queries"], context)
    truth = hold_against_truth(network, data, used["n_queries"], context)
    return kept.Measured(cells, statements, truth, {"recipe": network.recipe, **retrieval})


def write(profile: Profile, dataset: str, measured: Mapping[str, Measured]) -> None:
    """Write the promised tables and the figure."""
    import pandas as pd

    from workbook import plots
    from workbook.evidence import tables
    from workbook.evidence.measure import FEATURES
    from workbook.plots.networks import fig_networks
    from workbook.prepare import accelerator
    from workbook.reid.evaluation import AREAS
    from workbook.report import Report

    cells, statements, truth = (pd.concat([m[i] for m in measured.values()], ignore_index=True) for i in range(3))
    about = {name: m.about for name, m in measured.items()}
    plots.style.apply()
    report = Report(EVIDENCE, profile.name, device=accelerator())
    n = f"{len(about)} network{'s' if len(about) > 1 else ''} on {dataset}"
    each = tables.networks_table(dataset, cells, about)
    pooled = tables.pooled_table(dataset, cells)
    area = tables.area_table(dataset, each)
    brief = ["network", "feature", "method", "as_drop", "ap_drop", "retained_area"]
    report.table(each, "table_networks", show=brief, caption=f"Table 2 of each of {n}")
    equal = tables.networks_table(dataset, cells, about, AREAS)
    report.table(equal, "table_networks_area", show=[], caption=f"Equal retained area, each of {n}")
    report.table(pooled, "table_pooled", show=[], caption=f"Means over {n}; intervals over networks and people")
    paired = tables.pooled_paired_table(dataset, cells, FEATURES["after_bn"])
    report.table(paired, "table_pooled_paired", show=[], caption=f"Paired differences over {n}, percent points")
    report.table(area, "table_area", caption=f"What the retained area explains of the drops, {n}")
    maps = tables.maps_table(dataset, statements)
    brief = ["feature", "statement", "network", "value", "lo", "hi"]
    report.table(maps, "table_networks_maps", show=brief, caption=f"Do maps depend on the reference? {n}")
    if not truth.empty:
        held = tables.truth_networks_table(dataset, truth)
        report.table(held, "table_networks_truth", show=[], caption=f"Maps held against the truth by occlusion, {n}")
    note = f"{n}, {cells['query'].nunique()} queries of {cells.person.nunique()} people; feature after the neck"
    alt = (
        "AS drop and AP drop of every method on every network, with the mean and its interval over networks and "
        "people, the controls apart; beside them AS drop against the retained area of all networks and methods."
    )
    report.figure(fig_networks(each, pooled, note=note), "fig_networks", alt=alt)
    report.finish()


def record(profile: Profile, used: dict[str, Any], only: list[str], seconds: float) -> None:
    """Add to the part of the manifest how the job was run; a run of some networks alone does not count as made."""
    from workbook.run.run_notebook import how_it_ran

    part = outputs.read_part(profile, EVIDENCE)
    overrides = {"only": ",".join(only)} if only else {}
    part["run"] = how_it_ran(used, overrides, seconds)
    store.write_json(outputs.part_path(profile, EVIDENCE), part)


if __name__ == "__main__":
    sys.exit(main())
