"""Figure 1 as a picture and as numbers: the maps are those of the references that it names."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from evaluation_toys import SIZE, TRAIN_IDS, blocks, classifying
from fam_lib import explain
from fam_lib.faithfulness import summarise
from workbook.cache.context import Context
from workbook.images import load_images
from workbook.reid.data import ImageSet, ReidData
from workbook.reid.evaluation import explain_queries
from workbook.reid.model import ReidModel
from workbook.reid.motivation import dependence_table, figure1, runners_up, strangers
from workbook.reid.queries import Queries, load_queries, look_up

STATEMENTS = [
    "score-cam: correlation between maps of the three best classes",
    "ram: correlation between maps of the three best gallery images",
    "score-fam: correlation with the uniform control",
    *(f"strangers: correlation between maps of different people ({name})" for name in ("score-cam", "ram", "uniform")),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReidData:
    return blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def queries(model: ReidModel, data: ReidData) -> Queries:
    return load_queries(model, data, SIZE, top=3).subset(torch.arange(3))


def maps_of(model: ReidModel, queries: Queries, cache: Path) -> dict[str, Tensor]:
    names = ["score-cam", "score-fam", "uniform", *runners_up(model)]
    return explain_queries(model, queries, names, Context(cache, progress=False))


def ranked_classes(model: ReidModel, queries: Queries) -> Tensor:
    with torch.no_grad():
        return classifying(model)(queries.images).argsort(1, descending=True)


@pytest.mark.parametrize("feature", ["after_bn", "before_bn"])
def test_maps_of_the_runners_up_are_score_cams_of_their_classes(
    model: ReidModel, queries: Queries, tmp_path: Path, feature: str
) -> None:
    model = model.returning(feature)
    some = look_up(model, queries.image_set, queries.gallery_set, SIZE, top=3)
    found, classes = maps_of(model, some, tmp_path), ranked_classes(model, some)
    names = ["score-cam", "score-cam, class 2", "score-cam, class 3"]
    for place, name in enumerate(names):
        expected = explain(classifying(model), some.images, "score-cam", reference=classes[:, place]).cam
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-4 * float(expected.max()))
    assert not any(torch.allclose(found[a], found[b], rtol=1e-3) for a, b in combinations(names, 2))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    return torch.tensor([np.corrcoef(x.flatten(), y.flatten())[0, 1] for x, y in zip(a, b, strict=True)])


def test_dependence_is_the_mean_correlation_between_maps_of_three_references(
    model: ReidModel, queries: Queries, tmp_path: Path
) -> None:
    maps, x = maps_of(model, queries, tmp_path), queries.images
    frame = dependence_table("toy", model, queries, maps, Context(tmp_path, progress=False)).set_index("statement")
    assert list(frame.index) == STATEMENTS and (frame.n == 3).all() and (frame.dataset == "toy").all()
    classes = ranked_classes(model, queries)
    cams = [explain(classifying(model), x, "score-cam", reference=classes[:, place]).cam for place in range(3)]
    best = [queries.gallery[queries.best[:, place]] for place in range(3)]
    rams = [explain(model, x, "ram", model.layer, reference=other).cam for other in best]
    fam, mean = (explain(model, x, name, model.layer).cam for name in ("score-fam", "uniform"))
    expected = [
        torch.stack([pearson(a, b) for a, b in combinations(cams, 2)]).mean(0),
        torch.stack([pearson(a, b) for a, b in combinations(rams, 2)]).mean(0),
        pearson(fam, mean),
        *(pearson(maps, maps[[1, 2, 0]]) for maps in (cams[0], rams[0], mean)),
    ]
    for statement, values in zip(STATEMENTS, expected, strict=True):
        summary = summarise(values)
        found = frame.loc[statement, ["value", "lo", "hi"]].tolist()
        assert found == pytest.approx([summary.mean, summary.lo, summary.hi], abs=1e-4)
        assert -1 <= summary.lo < 0.999, "the toy must not answer for us"


def test_a_query_with_a_flat_map_is_left_out(model: ReidModel, queries: Queries, tmp_path: Path) -> None:
    maps = maps_of(model, queries, tmp_path)
    for name in ("score-cam, class 3", "uniform"):
        maps[name] = maps[name].clone()
        maps[name][1] = 0.5
    frame = dependence_table("toy", model, queries, maps, Context(tmp_path, progress=False))
    assert frame.n.tolist() == [2, 3, 2, 3, 3, 1]


def test_strangers_are_different_people_and_intervals_resample_people(
    model: ReidModel, queries: Queries, tmp_path: Path
) -> None:
    maps = maps_of(model, queries, tmp_path)
    context = Context(tmp_path, progress=False)

    def table(ids: list[int]) -> pd.DataFrame:
        people = ImageSet(queries.image_set.paths, torch.tensor(ids), queries.image_set.cams)
        named = replace(queries, image_set=people)
        return dependence_table("toy", model, named, maps, context).set_index("statement")

    mean = maps["uniform"]
    other, strangers = table([5, 5, 6]), STATEMENTS[-1]
    # Each map with the next: the first meets its own person and is left out.
    expected = pearson(mean[1:], mean[[2, 0]])
    assert (other.loc[strangers, "value"], other.loc[strangers, "n"]) == (pytest.approx(expected.mean().item()), 2)
    values = pearson(maps["score-fam"], mean)
    summary = summarise(values, groups=[5, 5, 6])
    assert other.loc[STATEMENTS[2], ["lo", "hi"]].tolist() == pytest.approx([summary.lo, summary.hi], abs=1e-4)
    alone = table([5, 5, 5])
    assert (alone.loc[strangers, "n"], alone["lo"].notna().any()) == (0, False)


def test_strangers_lie_as_far_apart_as_need_be() -> None:
    maps = torch.rand(6, 4, 2, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([1, 1, 2, 2, 3, 3])
    assert strangers(maps, ids).tolist() == pytest.approx(pearson(maps, maps.roll(-2, 0)).tolist(), abs=1e-5)


def test_figure_1_shows_what_it_names(model: ReidModel, data: ReidData, queries: Queries) -> None:
    index = 1
    shown, x = figure1(model, data, queries, index), queries.images[index : index + 1]
    assert torch.equal(shown["query"], load_images(queries.image_set.paths[index : index + 1], SIZE)[0])
    torch.testing.assert_close(shown["score_fam"], explain(model, x, "score-fam", model.layer).saliency[0])
    classes = ranked_classes(model, queries)[index, :3]
    with torch.no_grad():
        confidence = classifying(model)(x).softmax(1)[0]
    for place, (picture, label, saliency) in enumerate(shown["identities"]):
        chosen = classes[place : place + 1]
        identity = TRAIN_IDS[int(chosen)]
        assert label == f"identity {identity}, {confidence[chosen].item():.0%}"
        example = data.train.paths[data.train.ids.tolist().index(identity)]
        assert torch.equal(picture, load_images([example], SIZE)[0])
        expected = explain(classifying(model), x, "score-cam", reference=chosen).saliency[0]
        torch.testing.assert_close(saliency, expected, rtol=0, atol=1e-3)
    for place, (picture, label, saliency) in enumerate(shown["gallery"]):
        best = queries.best[index, place : place + 1]
        same = bool(queries.gallery_set.ids[best] == queries.image_set.ids[index])
        assert label == f"rank {place + 1}, {'same' if same else 'other'} person"
        assert torch.equal(picture, load_images([queries.gallery_set.paths[int(best)]], SIZE)[0])
        expected = explain(model, x, "ram", model.layer, reference=queries.gallery[best]).saliency[0]
        torch.testing.assert_close(saliency, expected, rtol=0, atol=1e-3)


def test_the_label_of_a_gallery_image_says_whose_it_is(model: ReidModel, data: ReidData, queries: Queries) -> None:
    own = int((queries.gallery_set.ids == queries.image_set.ids[0]).nonzero()[0])
    other = int((queries.gallery_set.ids != queries.image_set.ids[0]).nonzero()[0])
    arranged = replace(queries, best=torch.tensor([[own, other, own]]))
    labels = [label for _, label, _ in figure1(model, data, arranged)["gallery"]]
    assert labels == ["rank 1, same person", "rank 2, other person", "rank 3, same person"]
