"""What Figure 1 shows, for one query as a picture and for many as numbers: does a map depend on its reference?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor, nn

from fam_lib.explain import explain
from fam_lib.faithfulness import summarise
from fam_lib.features import extract
from fam_lib.methods import METHODS, Method
from fam_lib.similarity import pearson
from fam_lib.targets import Target
from workbook.cache.context import ALONE, Context
from workbook.images import load_images
from workbook.reid.data import ReidData
from workbook.reid.evaluation import explain_queries
from workbook.reid.model import ReidModel
from workbook.reid.queries import Queries

REFERENCES = 3  # classes or gallery images that Figure 1 compares

# The statements of the tables, as the ledger looks for them.
CLASS_MAPS = "score-cam: correlation between maps of the three best classes"
PAIR_MAPS = "ram: correlation between maps of the three best gallery images"
UNIFORM_MAPS = "score-fam: correlation with the uniform control"
STRANGERS = "strangers: correlation between maps of different people ({})"  # the level of no relation, of a method


def runners_up(model: ReidModel, method: str = "score-cam") -> list[Method]:
    """A class method for the second and the third best class, as rows that share its masked forwards."""
    row = METHODS[method]
    return [
        Method(_class_name(place, method), row.weighting, partial(_of_ranked, row.target, model.head, place), "self")
        for place in range(1, REFERENCES)
    ]


def _class_name(place: int, method: str = "score-cam") -> str:
    return f"{method}, class {place + 1}" if place else method


def _of_ranked(target: Target, head: nn.Module, place: int, features: Tensor, own: Tensor) -> Tensor:
    """The score of the class that the image's own feature ranks at `place`; features and own are (n, D)."""
    return target(head(features), head(own).argsort(1, descending=True)[:, place])


def dependence_table(
    dataset: str,
    model: ReidModel,
    queries: Queries,
    maps: Mapping[str, Tensor],
    context: Context = ALONE,
) -> pd.DataFrame:
    """How alike the maps of one query are for several references; 1 means that the reference does not matter.

    Args:
        dataset: name for the first column.
        model: the network.
        queries: whose maps these are.
        maps: of :func:`explain_queries`, with the rows of :func:`runners_up`, score-fam and uniform.
        context: where and how to compute.

    Returns:
        Columns dataset, statement, value (mean over queries of Pearson's r between raw maps), lo, hi (resampling
        identities), n. The rows "strangers: ..." give the level of no relation: the same of two people's maps.
    """
    rams = [explain_queries(model, queries, ["ram"], context, other=place)["ram"] for place in range(REFERENCES)]
    classes = [maps[_class_name(place)] for place in range(REFERENCES)]
    facts = {
        CLASS_MAPS: mean_correlation(classes),
        PAIR_MAPS: mean_correlation(rams),
        UNIFORM_MAPS: pearson(maps["score-fam"], maps["uniform"]),
    }
    ids = queries.image_set.ids
    for method, raw in (("score-cam", maps["score-cam"]), ("ram", rams[0]), ("uniform", maps["uniform"])):
        facts[STRANGERS.format(method)] = strangers(raw, ids)
    rows = []
    for statement, values in facts.items():
        mean, lo, hi, n, _ = summarise(values, groups=ids)
        rows.append({"dataset": dataset, "statement": statement, "value": mean, "lo": lo, "hi": hi, "n": n})
    return pd.DataFrame(rows)


def mean_correlation(maps: Sequence[Tensor]) -> Tensor:
    """Mean correlation (Q,) of every two of several maps (Q, h, w) of each query."""
    return torch.stack([pearson(a, b) for a, b in combinations(maps, 2)]).mean(0)


def strangers(maps: Tensor, ids: Tensor) -> Tensor:
    """Correlation of each query's map with that of a query of another person, (Q,); NaN where it finds none.

    The other query lies the same number of places ahead for all: the smallest that meets another person most often.
    """

    def met(shift: int) -> int:
        return int((ids.roll(-shift) != ids).sum())

    shift = max(range(1, max(2, len(ids))), key=met)
    return pearson(maps, maps.roll(-shift, 0)).masked_fill(ids.roll(-shift) == ids, torch.nan)


def figure1(model: ReidModel, data: ReidData, queries: Queries, index: int = 0) -> dict[str, object]:
    """What Figure 1 shows of one query: the arguments of :func:`workbook.plots.fig1_motivation`.

    Score-CAM is asked for the three training identities with the highest confidence, RAM for the three best
    gallery images; every training identity is shown by its first image.
    """
    device, size = next(model.parameters()).device, queries.images.shape[-2:]
    x = queries.images[index : index + 1].to(device)
    with torch.no_grad():
        confidence, classes = model.head(extract(model, x)).softmax(1)[0].topk(REFERENCES)
    best = queries.best[index, :REFERENCES]
    repeated = x.expand(REFERENCES, -1, -1, -1)
    score_cam = explain(model, repeated, "score-cam", model.layer, reference=classes, classifier=model.head).saliency
    ram = explain(model, repeated, "ram", model.layer, reference=queries.gallery[best]).saliency
    identities = data.train.ids.unique()[classes.cpu()]
    shown = [int((data.train.ids == identity).nonzero()[0]) for identity in identities]
    labels = [f"identity {i}, {c:.0%}" for i, c in zip(identities.tolist(), confidence.tolist(), strict=True)]
    same = (queries.gallery_set.ids[best] == queries.image_set.ids[index]).tolist()
    ranks = [f"rank {rank}, {'same' if ok else 'other'} person" for rank, ok in enumerate(same, start=1)]
    train, gallery = data.train.subset(shown), queries.gallery_set.subset(best)
    return {
        "query": load_images(queries.image_set.subset([index]).paths, size)[0],
        "score_fam": explain(model, x, "score-fam", model.layer).saliency[0],
        "identities": list(zip(load_images(train.paths, size), labels, score_cam, strict=True)),
        "gallery": list(zip(load_images(gallery.paths, size), ranks, ram, strict=True)),
    }
