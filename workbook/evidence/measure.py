"""One network explained and measured: one row for each method, rule of keeping pixels and query."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fam_lib.methods import METHODS, Method
from fam_lib.retrieval import cmc, mean_ap
from fam_lib.similarity import pearson
from workbook.cache.context import Context
from workbook.evidence import truth
from workbook.evidence.networks import Network
from workbook.images import load_images, normalise
from workbook.reid.ablation import RAM_EQ5, REWEIGHTED
from workbook.reid.data import ReidData
from workbook.reid.evaluation import AREAS, EQ14, RULES, TABLE2_METHODS, explain_queries, score_queries
from workbook.reid.model import ReidModel
from workbook.reid.motivation import (
    CLASS_MAPS,
    PAIR_MAPS,
    REFERENCES,
    STRANGERS,
    UNIFORM_MAPS,
    mean_correlation,
    runners_up,
    strangers,
)
from workbook.reid.queries import Queries, choose, look_up
from workbook.reid.tables import curve_areas, measured

FEATURES = {"after_bn": "after neck", "before_bn": "before neck"}  # how the tables call them
KEPT = (EQ14, *AREAS)
CODE_VERSION = 1  # count up when a change of this module changes what is measured

LOGIT_MAPS = "score-cam-logit: correlation between maps of the three best classes"
CLASS_METHODS = {"score-cam": CLASS_MAPS, "score-cam-logit": LOGIT_MAPS}
COMPARED = ("score-cam", "score-cam-logit", "ram", "uniform")


def methods_of(network: Network) -> list[Method]:
    """What a network is explained by: Table 2, RAM by the letter of Eq. 5, Score-FAM with other temperatures.

    Without a classifier there are no class methods, and both kinds of RAM need an affine head (`Network.affine`).
    """
    rows = [*(METHODS[name] for name in TABLE2_METHODS), RAM_EQ5, *REWEIGHTED.values()]
    if network.model.head is None:
        rows = [row for row in rows if row.reference != "class"]
    if not network.affine:
        rows = [row for row in rows if row.name not in ("ram", RAM_EQ5.name)]
    return rows


def measure(
    network: Network, data: ReidData, n_queries: int, context: Context
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Explain and measure a network by each of its features; every part is kept in the cache as it is made.

    Args:
        network: what is explained.
        data: queries and gallery.
        n_queries: queries to evaluate, drawn by the seed; 0 takes all. All networks of a data set get the same.
        context: where and how to compute.

    Returns:
        - cells: network, feature, method, kind, keep, query, person, as_drop, ap_drop, ap_increase (fractions),
          as_lost, as_could, ap_lost and ap_could (what Eq. 15 and 16 divide, where defined), area; where keep is
          "eq14" uniform (correlation with the uniform map) and, of the first feature and the methods of Table 2,
          insertion and deletion (areas under the curves);
        - statements: network, feature, statement, query, person, value;
        - retrieval: feature -> (rank-1, mAP) of all queries, in percent.
    """
    chosen = choose(data.query, n_queries, context.seed)
    cells, statements, retrieval = [], [], {}
    for feature in network.features:
        model = network.model.returning(feature)
        named = {"network": network.name, "feature": FEATURES[feature]}
        whole = look_up(model, data.query, data.gallery, network.size, context=context).ranking
        retrieval[FEATURES[feature]] = (100 * cmc(whole, (1,))[1], 100 * mean_ap(whole))
        queries = look_up(model, chosen, data.gallery, network.size, context=context)
        rows = methods_of(network)
        others = {} if model.head is None else {name: runners_up(model, name) for name in CLASS_METHODS}
        maps = explain_queries(model, queries, [*rows, *chain.from_iterable(others.values())], context)
        shown = {row.name: maps[row.name] for row in rows}
        results = _score(model, queries, shown, with_curves=feature == network.features[0], context=context)
        kinds = {row.name: row.kind for row in rows}
        cells.append(_cells(results, queries, shown, kinds).assign(**named))
        facts = {
            CLASS_METHODS[name]: mean_correlation([maps[name], *(maps[row.name] for row in more)])
            for name, more in others.items()
        }
        if "ram" in maps:
            rams = [explain_queries(model, queries, ["ram"], context, other=k)["ram"] for k in range(REFERENCES)]
            facts[PAIR_MAPS] = mean_correlation(rams)
        facts[UNIFORM_MAPS] = pearson(maps["score-fam"], maps["uniform"])
        ids = queries.image_set.ids
        facts |= {STRANGERS.format(name): strangers(maps[name], ids) for name in COMPARED if name in maps}
        statements += [_by_person(queries, value=v).assign(statement=name, **named) for name, v in facts.items()]
    return pd.concat(cells, ignore_index=True), pd.concat(statements, ignore_index=True), retrieval


def _score(
    model: ReidModel, queries: Queries, maps: dict[str, Tensor], *, with_curves: bool, context: Context
) -> pd.DataFrame:
    """The results of all methods; curves, three quarters of the forwards, for those of Table 2 alone if at all."""
    curves = {name: cams for name, cams in maps.items() if with_curves and name in TABLE2_METHODS}
    others = {name: cams for name, cams in maps.items() if name not in curves}
    rules = {name: RULES[name] for name in KEPT}
    parts = [score_queries(model, queries, curves, context=context)] if curves else []
    parts += [score_queries(model, queries, others, rules, context)] if others else []
    return pd.concat(parts, ignore_index=True)


def _cells(results: pd.DataFrame, queries: Queries, maps: dict[str, Tensor], kinds: dict[str, str]) -> pd.DataFrame:
    """The rows of one network and feature."""
    kept = measured(results[results["keep"].isin(KEPT)])
    for stem in ("as", "ap"):
        x, e, b = (kept[f"{stem}_{which}"] for which in "xeb")
        defined = kept[f"{stem}_drop"].notna()
        kept[f"{stem}_lost"], kept[f"{stem}_could"] = (x - e).clip(lower=0).where(defined), (x - b).where(defined)
    kept = kept.assign(kind=kept.method.map(kinds))
    kept = kept.merge(_by_person(queries)[["query", "person"]], on="query", validate="many_to_one")
    columns = ["method", "kind", "keep", "query", "person", "as_drop", "ap_drop", "ap_increase"]
    columns += ["as_lost", "as_could", "ap_lost", "ap_could", "area"]
    more = _uniform_likeness(queries, maps).merge(_curve_areas(results), on=["method", "query"], how="left")
    return kept[columns].merge(more.assign(keep=EQ14), on=["method", "keep", "query"], how="left")


def _curve_areas(results: pd.DataFrame) -> pd.DataFrame:
    """Areas under the curves of the methods that have them: method, query, insertion, deletion."""
    drawn = results.method[~results["keep"].isin(KEPT)].unique()
    if not len(drawn):
        return pd.DataFrame(columns=["method", "query", "insertion", "deletion"])
    areas = {name: frame.unstack() for name, frame in curve_areas(results[results.method.isin(drawn)]).items()}
    return pd.DataFrame(areas).rename_axis(["method", "query"]).reset_index()


def _uniform_likeness(queries: Queries, maps: dict[str, Tensor]) -> pd.DataFrame:
    """Correlation of each raw map with the uniform control's: method, query, uniform; NaN for a flat map."""
    frames = [_by_person(queries, uniform=pearson(m, maps["uniform"])).assign(method=name) for name, m in maps.items()]
    return pd.concat(frames, ignore_index=True)[["method", "query", "uniform"]]


def _by_person(queries: Queries, **columns: Tensor) -> pd.DataFrame:
    """Query, person and more columns (Q,), in the order of the queries."""
    names = [path.name for path in queries.image_set.paths]
    values = {name: np.asarray(column.double()) for name, column in columns.items()}
    return pd.DataFrame({"query": names, "person": queries.image_set.ids.numpy(), **values})


# ---- truth by occlusion -------------------------------------------------------------------------------

EARLIER = "backbone.blocks.4"  # lesson 04's earlier layer
N_TRUTH = 16  # queries
N_CALIBRATION = 120  # training images from which randomised batch norms take their statistics


def hold_against_truth(network: Network, data: ReidData, n_queries: int, context: Context) -> pd.DataFrame:
    """The maps of a network that was trained here against the truth by occlusion, at an earlier layer and the last map.

    Score-FAM at the last map is left out: it costs a forward a channel for each random network, and its map there is
    the mean activation's.

    Args:
        network: what is explained.
        data: queries, and training images for the batch norms of random networks.
        n_queries: as in :func:`measure`; of these the first :data:`N_TRUTH` are occluded.
        context: where to keep what is computed, and the seed.

    Returns:
        The rows of :func:`workbook.evidence.truth.truth_table`, without the columns dataset and seed, its network as
        `state`, and before them network and feature. Empty for a network that others trained: a random one of its kind
        would need training images of theirs.
    """
    if EARLIER not in dict(network.model.named_modules()):
        return pd.DataFrame(columns=["network"])
    model = network.model.returning(network.features[0])
    images = look_up(model, choose(data.query, n_queries, context.seed), data.gallery, network.size, context=context)
    some = data.train.paths[:: max(1, len(data.train) // N_CALIBRATION)]
    calibration = normalise(load_images(some, network.size), model.mean, model.std)
    last = next(name for name, module in model.named_modules() if module is model.layer)
    cheap = [method for method in truth.METHODS if method != "score-fam"]
    tables = [
        truth.truth_table(
            model, images.images[:N_TRUTH], [layer], data.label, methods, [context.seed],
            groups=images.image_set.ids[:N_TRUTH], calibration=calibration, cache=context.folder("truth"),
        )
        for layer, methods in ((EARLIER, truth.METHODS), (last, cheap))
    ]  # fmt: skip
    rows = pd.concat(tables, ignore_index=True).drop(columns=["dataset", "seed"]).rename(columns={"network": "state"})
    named = {"network": network.name, "feature": FEATURES[network.features[0]]}
    return pd.DataFrame(named, index=rows.index).join(rows)
