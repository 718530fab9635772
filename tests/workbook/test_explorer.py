"""The explorer: its numbers are the library's, its maps are made once, its errors are on the panel."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

from fam_lib import explain
from fam_lib.masking import gaussian_blur
from toys import ConvHead, GapNet, assert_untouched, census, pictures, seeded
from workbook.explorer import (
    explorer,
    fig_matches,
    look_at_matches,
    match_explorer,
    matches,
    rank_lists,
    static_explorer,
)
from workbook.explorer.job import Job
from workbook.explorer.matches import RankList
from workbook.explorer.views import fig_views, look, read_picture
from workbook.plots import canvas, overlay


def three_images() -> dict[str, tuple[Tensor, Tensor]]:
    """Displayed values in [0, 1]; the normalised ones are 4 x - 2."""
    shown = pictures(3).sigmoid()
    return {name: (4 * x - 2, x) for name, x in zip(("ann", "bob", "cy"), shown, strict=True)}


def rank_list() -> RankList:
    """ann, who looks like bob and then like cy; only bob is right."""
    ann, bob, cy = three_images().values()
    return RankList(ann, [bob, cy], [True, False])


class Counting(nn.Module):
    """A network that counts the images that it and its copies have seen."""

    seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(GapNet())
        Counting.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        Counting.seen += len(images)
        return self.net(images)


def walk(panel: object) -> Iterator[object]:
    """All widgets of a panel."""
    yield panel
    for child in getattr(panel, "children", ()):
        yield from walk(child)


def find(panel: object, description: str) -> object:
    """The control of the panel with this description."""
    return next((w for w in walk(panel) if getattr(w, "description", None) == description), None)


def choose(panel: object, target: str, method: str) -> None:
    find(panel, "target").value, find(panel, "weighting").value = target, method


def message(panel: object) -> str:
    return panel.children[-2].value


def png(panel: object) -> list[bytes]:
    """The pictures that the panel shows."""
    return [base64.b64decode(code) for code in re.findall(r'base64,([^"]*)"', panel.children[-1].value)]


def drawn(figure: object) -> list[np.ndarray]:
    return [np.asarray(i.get_array()) for ax in figure.axes for i in ax.get_images()]


def texts(figure: object) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text)]


def file(name: str, content: bytes) -> dict:
    """What ipywidgets' FileUpload holds."""
    now = datetime.now(UTC)
    return {"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": now}


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


# --- one image --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["score-fam", "grad-fam", "uniform"])
def test_numbers_are_the_librarys(method: str) -> None:
    model, images = seeded(ConvHead()), three_images()
    view = look(model, images, "bob", method, low=0.2, high=0.5, delta=0.7)
    x = images["bob"][0][None]
    saliency = explain(model, x, method).saliency
    torch.testing.assert_close(view.saliency, saliency[0])
    # Eq. 14 written out.
    mask = (saliency >= 0.5).float() + 0.7 * ((saliency >= 0.2) & (saliency < 0.5)).float()
    assert view.retained_area == pytest.approx(mask.mean().item(), abs=1e-6)
    masked = x * mask + gaussian_blur(x) * (1 - mask)
    with torch.no_grad():
        f, e, b = model(x)[0], model(masked)[0], model(gaussian_blur(x))[0]
    assert view.cosine == pytest.approx((f @ e / f.norm() / e.norm()).item(), abs=1e-5)
    assert view.baseline_cosine == pytest.approx((f @ b / f.norm() / b.norm()).item(), abs=1e-5)
    assert not view.flat and view.bound is None


def test_figure_shows_image_overlay_and_explanation_map() -> None:
    model, images = seeded(ConvHead()), three_images()
    view = look(model, images, "ann", "grad-fam", low=0.2, high=0.5, delta=0.7)
    figure = fig_views(images["ann"][1], [view], "ann", (0.2, 0.5), note="toy data")
    image, over, kept = drawn(figure)[:3]
    shown = images["ann"][1]
    np.testing.assert_allclose(image, shown.numpy().transpose(1, 2, 0), atol=1e-6)
    np.testing.assert_allclose(over, overlay(shown, view.saliency), atol=1e-6)
    mask = (view.saliency >= 0.5).float() + 0.7 * ((view.saliency >= 0.2) & (view.saliency < 0.5)).float()
    expected = shown * mask + gaussian_blur(shown[None])[0] * (1 - mask)
    np.testing.assert_allclose(kept, expected.numpy().transpose(1, 2, 0), atol=1e-5)
    assert {"toy data", "grad-fam of ann", "0.2", "0.5", f"area {view.retained_area:.0%}"} <= set(texts(figure))
    assert f"cosine {view.cosine:.3f}" in texts(figure)
    assert f"{view.retained_area:.0%}" in view.text and f"{view.cosine:.3f}" in view.text


def test_static_picture_has_the_thresholds_of_the_paper() -> None:
    model, images = seeded(ConvHead()), three_images()
    expected = fig_views(images["bob"][1], [look(model, images, "bob", "uniform")], "bob", note="toy data")
    assert canvas.png(static_explorer(model, images, "bob", "uniform", note="toy data")) == canvas.png(expected)


def test_two_methods_stand_side_by_side_with_their_own_numbers() -> None:
    model, images = seeded(ConvHead()), three_images()
    views = [look(model, images, "ann", "grad-fam"), look(model, images, "ann", "grad-ram", reference="cy")]
    figure = fig_views(images["ann"][1], views, "ann")
    pixels = drawn(figure)
    for view, column in zip(views, (1, 3), strict=True):
        np.testing.assert_allclose(pixels[column], overlay(images["ann"][1], view.saliency), atol=1e-6)
        assert f"cosine {view.cosine:.3f}" in texts(figure)
    assert "grad-fam and grad-ram against cy of ann" in " ".join(texts(figure)).replace("\n", " ")


def test_explanation_map_is_shown_with_the_baseline_that_the_model_saw() -> None:
    view = look(seeded(GapNet()), three_images(), "ann", "uniform", low=1.0, high=1.0, baseline=torch.zeros_like)
    # Only the maximum is kept; zero in the model's space is 0.5 on the screen (4 x - 2).
    hidden = view.saliency < 1
    assert hidden.float().mean() > 0.9
    torch.testing.assert_close(
        view.explanation_map[:, hidden], torch.full((3, int(hidden.sum())), 0.5), atol=1e-5, rtol=0
    )


def test_thresholds_move_without_explaining_again() -> None:
    model, images, cache = Counting(), three_images(), {}
    first = look(model, images, "ann", "score-fam", cache=cache)
    seen = Counting.seen
    second = look(model, images, "ann", "score-fam", low=0.1, high=0.9, delta=0.5, cache=cache)
    assert Counting.seen == seen + 1  # the new explanation map, nothing else
    torch.testing.assert_close(first.saliency, second.saliency)
    fresh = look(model, images, "ann", "score-fam", low=0.1, high=0.9, delta=0.5)
    assert (second.retained_area, second.cosine) == (fresh.retained_area, fresh.cosine)


def test_cache_keeps_choices_apart() -> None:
    model, images, cache = seeded(GapNet()), three_images(), {}
    choices = [
        {"image": "ann", "method": "grad-fam"},
        {"image": "bob", "method": "grad-fam"},
        {"image": "ann", "method": "uniform"},
        {"image": "ann", "method": "grad-fam", "layer": "conv"},
        {"image": "ann", "method": "ram", "reference": "bob"},
        {"image": "ann", "method": "ram", "reference": "cy"},
        {"image": "ann", "method": "score-fam"},
        {"image": "ann", "method": "score-fam", "budget": 0.5},
    ]
    for n, choice in enumerate(choices, 1):
        view = look(model, images, cache=cache, **choice)
        assert len(cache) == n
        torch.testing.assert_close(view.saliency, look(model, images, **choice).saliency)
    # What a method does not look at makes no new map, and an empty layer is the default one.
    look(model, images, "ann", "grad-fam", "", reference="cy", budget=0.5, cache=cache)
    assert len(cache) == len(choices)


def test_budget_saves_forwards_and_states_its_bound() -> None:
    model, images = Counting(), three_images()
    full = look(model, images, "ann", "score-fam")
    of_full, Counting.seen = Counting.seen, 0
    view = look(model, images, "ann", "score-fam", budget=0.5)
    assert Counting.seen < of_full
    expected = explain(model, images["ann"][0][None], "score-fam", budget=0.5)
    torch.testing.assert_close(view.saliency, expected.saliency[0])
    assert view.bound == expected.bound.item() >= (view.saliency - full.saliency).abs().max().item()
    assert f"{view.bound:.2f} off" in view.text and "off" not in full.text


def test_other_image_is_the_reference() -> None:
    model, images = seeded(GapNet()), three_images()
    view = look(model, images, "ann", "ram", reference="cy")
    with torch.no_grad():
        v = model(images["cy"][0][None])
    expected = explain(model, images["ann"][0][None], "ram", reference=v).saliency[0]
    torch.testing.assert_close(view.saliency, expected)
    with pytest.raises(ValueError, match="ram compares with another image: choose a reference among .*'bob'"):
        look(model, images, "ann", "ram")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"image": "anne"}, r"unknown image 'anne'; did you mean one of \['ann'\]"),
        ({"image": "ann", "method": "score-fan"}, "unknown method 'score-fan'"),
        ({"image": "ann", "method": "ram", "reference": "dan"}, "unknown reference 'dan'"),
        ({"image": "ann", "low": 0.7, "high": 0.3}, "low <= high"),
        ({"image": "ann", "delta": 1.5}, "delta"),
    ],
)
def test_wrong_choices_are_refused_before_any_forward(choice: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        look(Counting(), three_images(), **choice)
    assert Counting.seen == 0


def test_displayed_image_must_fit_the_normalised_one() -> None:
    with pytest.raises(ValueError, match=r"image 'a'.*same shape, got \(3, 64, 32\) and \(3, 32, 64\)"):
        look(seeded(GapNet()), {"a": (torch.zeros(3, 64, 32), torch.zeros(3, 32, 64))}, "a")


def test_unknown_layer_is_named() -> None:
    with pytest.raises(ValueError, match="no layer 'convv'.*conv"):
        look(seeded(GapNet()), three_images(), "ann", layer="convv")


def test_model_is_left_as_it_was() -> None:
    model = seeded(GapNet(neck=True)).train()
    model.conv.weight.requires_grad_(False)
    before = census(model)
    look(model, three_images(), "ann", "grad-fam")
    look_at_matches(model, rank_list())
    assert_untouched(before, census(model))


def test_flat_map_is_said_to_be_flat() -> None:
    model = seeded(GapNet())
    nn.init.zeros_(model.conv.weight)
    nn.init.ones_(model.conv.bias)
    view = look(model, three_images(), "ann", "uniform")
    assert view.flat and view.retained_area == 0 and "flat" in view.text
    assert "flat" not in look(seeded(GapNet()), three_images(), "ann", "uniform").text


def test_uploaded_picture_is_cut_to_the_middle_and_normalised_like_the_others() -> None:
    # Twice as wide as needed: the outer columns are red, the middle is a grey of 51 / 255 = 0.2.
    pixels = np.full((64, 64, 3), 51, np.uint8)
    pixels[:, :16] = pixels[:, 48:] = (255, 0, 0)
    normalised, shown = read_picture("a.png", encoded(pixels), three_images()["ann"])
    torch.testing.assert_close(shown, torch.full((3, 64, 32), 0.2))
    torch.testing.assert_close(normalised, torch.full((3, 64, 32), 4 * 0.2 - 2), atol=1e-4, rtol=0)


def test_what_is_no_picture_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="letter.txt is no picture that can be read; upload a JPEG or PNG"):
        read_picture("letter.txt", b"dear sir", three_images()["ann"])
    with pytest.raises(ValueError, match="half.png is no picture"):
        read_picture("half.png", encoded(np.zeros((64, 64, 3), np.uint8))[:60], three_images()["ann"])


# --- a query and its rank list ----------------------------------------------------------------------------


def test_matches_are_explained_against_the_query_and_the_query_against_the_pair() -> None:
    model, (ann, bob, cy) = seeded(ConvHead()), three_images().values()
    found = look_at_matches(model, rank_list(), "cg-ram", rank=2)
    x = torch.stack([image for image, _ in (ann, bob, cy)])
    with torch.no_grad():
        f = model(x)
    torch.testing.assert_close(found.similarities, torch.cosine_similarity(f[:1], f[1:]))
    expected = explain(model, x, "cg-ram", reference=f[[2, 0, 0]])
    torch.testing.assert_close(found.saliency, expected.saliency)
    for name in ("grad-ram", "cg-ram"):
        pair = explain(model, x[[0, 2]], name, reference=f[[2, 0]])
        torch.testing.assert_close(found.pair[name].saliency, pair.saliency)
        torch.testing.assert_close(found.pair[name].target, pair.target)


def test_maps_of_a_rank_list_are_made_once() -> None:
    model, cache = Counting(), {}
    first = look_at_matches(model, rank_list(), "score-fam", "net.conv", cache=cache)
    seen = Counting.seen
    second = look_at_matches(model, rank_list(), "score-fam", "net.conv", rank=2, cache=cache)
    assert Counting.seen == seen + 3 + 2 * 2  # the features, and two maps of the pair
    assert torch.equal(first.saliency, second.saliency) and second.rank == 2
    # What compares with another image depends on the pair.
    one, two = (look_at_matches(model, rank_list(), "cg-ram", rank=rank, cache=cache) for rank in (1, 2))
    assert not torch.equal(one.saliency[0], two.saliency[0])
    for found in (one, two):
        torch.testing.assert_close(found.saliency[0], found.pair["cg-ram"].saliency[0])


def test_methods_without_another_image_explain_each_image_by_itself() -> None:
    model = seeded(ConvHead())
    found = look_at_matches(model, rank_list(), "grad-fam")
    x = torch.stack([image for image, _ in three_images().values()])
    torch.testing.assert_close(found.saliency, explain(model, x, "grad-fam").saliency)


def test_figures_show_similarities_frames_and_both_sides_of_the_pair() -> None:
    ranks = rank_list()
    found = look_at_matches(seeded(ConvHead()), ranks, rank=2)
    first, pair = fig_matches(ranks, found, "grad-ram", note="toy data")
    assert {f"cosine {s:.2f}" for s in found.similarities.tolist()} <= set(texts(first))
    np.testing.assert_allclose(drawn(first)[5], overlay(ranks.gallery[1][1], found.saliency[2]), atol=1e-6)
    np.testing.assert_allclose(drawn(pair)[2], overlay(ranks.query[1], found.pair["cg-ram"].saliency[0]), atol=1e-6)
    np.testing.assert_allclose(
        drawn(pair)[4], overlay(ranks.gallery[1][1], found.pair["grad-ram"].saliency[1]), atol=1e-6
    )
    assert "rank 2, against the query" in " ".join(texts(pair)).replace("\n", " ") and "toy data" in texts(pair)


@pytest.mark.parametrize("rank", [0, 3])
def test_rank_must_be_in_the_list(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"rank must lie in 1..2, got {rank}"):
        look_at_matches(seeded(GapNet()), rank_list(), rank=rank)


def test_rank_lists_are_those_of_the_queries(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbook.reid.data import ImageSet

    paths = []
    for i in range(4):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.full((8, 4, 3), 51 * i, np.uint8)).save(paths[-1])
    queries = SimpleNamespace(
        image_set=ImageSet((paths[0], paths[1]), torch.tensor([7, 5]), torch.tensor([1, 1])),
        gallery_set=ImageSet(tuple(paths[1:]), torch.tensor([5, 7, 7]), torch.tensor([2, 2, 2])),
        images=torch.zeros(2, 3, 8, 4),
        best=torch.tensor([[2, 0, 1], [0, 1, 2]]),
    )
    assert list(rank_lists(queries, (0.5,) * 3, (0.25,) * 3)) == ["query 1, id 7", "query 2, id 5"]
    monkeypatch.setattr(matches, "N_LISTS", 1)
    lists = rank_lists(queries, (0.5,) * 3, (0.25,) * 3, k=2)
    assert list(lists) == ["query 1, id 7"]
    query, gallery, correct = lists["query 1, id 7"]
    assert correct == [True, False]
    assert [round(shown.mean().item(), 4) for _, shown in (query, *gallery)] == [0, 0.6, 0.2]
    torch.testing.assert_close(gallery[0][0], torch.full((3, 8, 4), (0.6 - 0.5) / 0.25))


# --- work beside the event loop ---------------------------------------------------------------------------


def job_until(condition: Callable[[Job], bool], *actions: Callable[[Job], None]) -> Job:
    """Make a job in a running event loop, do the actions one after another, and wait for the condition."""

    async def scenario() -> Job:
        job = Job()
        for action in actions:
            action(job)
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while not condition(job):
                await asyncio.sleep(0.001)
        return job

    return asyncio.run(scenario())


def shown(job: Job) -> str:
    return job.widgets[1].value


def test_work_runs_beside_the_loop_and_its_result_is_shown() -> None:
    free = Event()
    job = job_until(
        lambda job: shown(job) == "42",
        lambda job: job.start(lambda progress: free.wait(20) and 42, lambda result: (str(result), "<img>")),
        lambda job: free.set(),  # would never be reached if the work kept the loop
    )
    assert job.widgets[2].value == "<img>"


def test_progress_is_shown_and_cancelling_ends_the_work() -> None:
    reached: list[int] = []
    go_on = Event()

    def work(progress: Callable) -> None:
        for step in progress(range(1000)):
            reached.append(step)
            if step == 2:
                go_on.wait(20)

    async def scenario() -> Job:
        job = Job()
        bar, button = job.widgets[0].children
        job.start(work, lambda result: ("done", ""))
        async with asyncio.timeout(20):
            while bar.value < 2:
                await asyncio.sleep(0.001)
            assert (bar.max, button.disabled) == (1000, False)
            button.click()
            go_on.set()
            with job._lock:  # the work has ended
                await asyncio.sleep(0)
        return job

    job = asyncio.run(scenario())
    assert reached == [0, 1, 2]
    assert shown(job).startswith("cancelled") and job.widgets[0].children[1].disabled


def test_new_work_takes_the_place_of_the_old() -> None:
    free = Event()
    results: list[str] = []

    def show(result: str) -> tuple[str, str]:
        results.append(result)
        return result, ""

    job_until(
        lambda job: shown(job) == "new",
        lambda job: job.start(lambda progress: free.wait(20) and "old", show),
        lambda job: job.start(lambda progress: "new", show),
        lambda job: free.set(),
    )
    assert results == ["new"]


@pytest.mark.parametrize("where", ["work", "show"])
def test_errors_of_work_and_of_drawing_are_shown(where: str) -> None:
    def fails(_: object) -> tuple[str, str]:
        raise RuntimeError("<out of memory>")

    def passes(_: object) -> tuple[str, str]:
        return "", ""

    work, show = (fails, passes) if where == "work" else (passes, fails)
    job = job_until(lambda job: "explaining" not in shown(job), lambda job: job.start(work, show))
    assert shown(job) == "<b>RuntimeError:</b> &lt;out of memory&gt;"


# --- the panels -------------------------------------------------------------------------------------------


def test_panel_shows_the_view() -> None:
    model, images = seeded(GapNet()), three_images()
    panel = explorer(model, images, note="toy data")
    assert png(panel) == [canvas.png(static_explorer(model, images, "ann", "score-fam", note="toy data"))]
    assert message(panel) == look(model, images, "ann", "score-fam").text
    find(panel, "image").value = "bob"
    choose(panel, "projection on itself", "grad-fam")
    find(panel, "boundaries").value = (0.1, 0.8)
    find(panel, "delta").value = 0.5
    view = look(model, images, "bob", "grad-fam", low=0.1, high=0.8, delta=0.5)
    assert png(panel) == [canvas.png(fig_views(images["bob"][1], [view], "bob", (0.1, 0.8), note="toy data"))]
    assert message(panel) == view.text


def test_target_and_weighting_choose_the_method() -> None:
    panel = explorer(seeded(GapNet()), three_images())
    assert (find(panel, "target").value, find(panel, "weighting").value) == ("cosine to itself", "score-fam")
    find(panel, "target").value = "projection on another image"
    assert ("grad-ram: gradient mean", "grad-ram") in find(panel, "weighting").options
    offered = {name for _, name in find(panel, "weighting").options}
    assert {"ram", "grad-ram", "score-ram"} <= offered and not {"cg-ram", "grad-fam", "uniform"} & offered
    find(panel, "weighting").value = "layer-ram"
    assert message(panel).startswith("layer-ram: retained area")


def test_second_method_stands_beside_the_first() -> None:
    model, images = seeded(GapNet()), three_images()
    panel = explorer(model, images)
    choose(panel, "projection on itself", "grad-fam")
    find(panel, "compare with").value = "uniform"
    views = [look(model, images, "ann", name) for name in ("grad-fam", "uniform")]
    assert message(panel) == "<br>".join(view.text for view in views)
    assert png(panel) == [canvas.png(fig_views(images["ann"][1], views, "ann"))]


def test_sliders_cost_one_forward_each() -> None:
    panel = explorer(Counting(), three_images())
    seen = Counting.seen
    find(panel, "boundaries").value = (0.2, 0.5)
    find(panel, "delta").value = 0.4
    assert Counting.seen == seen + 2
    find(panel, "image").value = "cy"
    find(panel, "image").value = "ann"
    after = Counting.seen
    find(panel, "delta").value = 0.3
    assert Counting.seen == after + 1


def test_panel_works_on_a_copy_of_the_network() -> None:
    model, images = seeded(GapNet()), three_images()
    panel = explorer(model, images)
    before = png(panel)
    nn.init.zeros_(model.conv.weight)
    find(panel, "delta").value = 0.5
    find(panel, "delta").value = 0.9
    assert png(panel) == before


def test_upload_is_explained_and_offered() -> None:
    panel = explorer(seeded(GapNet()), three_images())
    choose(panel, "projection on another image", "ram")
    before = png(panel)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
    upload = next(w for w in walk(panel) if hasattr(w, "accept"))
    upload.value = (file("me.png", encoded(pixels)),)
    assert find(panel, "image").value == "me.png" and find(panel, "other image").options[-1] == "me.png"
    assert find(panel, "other image").value == "cy"
    assert "retained area" in message(panel) and png(panel) != before
    upload.value = (file("me.png", encoded(255 - pixels)),)
    assert find(panel, "image").options == ("ann", "bob", "cy", "me.png", "me.png (2)")


def test_upload_that_is_no_picture_says_so_on_the_panel() -> None:
    panel = explorer(seeded(GapNet()), three_images())
    next(w for w in walk(panel) if hasattr(w, "accept")).value = (file("cv.pdf", b"%PDF"),)
    assert message(panel) == "<b>ValueError:</b> cv.pdf is no picture that can be read; upload a JPEG or PNG file"
    assert find(panel, "image").options == ("ann", "bob", "cy")


def test_errors_appear_on_the_panel_and_go_again() -> None:
    panel = explorer(seeded(GapNet()), three_images())
    good = png(panel)
    find(panel, "layer").value = "<conv>"
    assert message(panel).startswith("<b>ValueError:</b> the model has no layer &#x27;&lt;conv&gt;&#x27;")
    assert png(panel) == []
    find(panel, "layer").value = ""
    assert png(panel) == good and "retained area" in message(panel)


def test_an_error_of_the_model_appears_too() -> None:
    class Broken(GapNet):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    panel = explorer(Broken(), three_images())
    assert message(panel) == "<b>RuntimeError:</b> out of memory"


def test_controls_are_open_only_to_methods_that_look_at_them() -> None:
    panel = explorer(seeded(GapNet()), three_images())
    other, budget = find(panel, "other image"), find(panel, "budget")
    assert (other.disabled, budget.disabled) == (True, False)
    choose(panel, "projection on another image", "ram")
    assert (other.disabled, budget.disabled) == (False, True)
    before = png(panel)
    other.value = "bob"
    assert png(panel) != before
    find(panel, "compare with").value = "score-fam"
    assert (other.disabled, budget.disabled) == (False, False)


def test_defaults_offer_feature_methods_and_outer_layers() -> None:
    panel = explorer(seeded(ConvHead()), three_images())
    offered = find(panel, "compare with").options
    assert {"nothing", "grad-fam", "ram", "random-map"} <= set(offered) and not {"grad-cam", "cam"} & set(offered)
    assert find(panel, "layer").options == ("body", "body.0", "body.1", "conv", "head")


def test_class_methods_are_offered_with_a_classifier() -> None:
    panel = explorer(seeded(GapNet()), three_images(), classifier=seeded(nn.Linear(6, 4)))
    find(panel, "target").value = "score of the likeliest class"
    assert message(panel).startswith("grad-cam: retained area")


def test_match_panel_shows_the_list_and_the_pair() -> None:
    model, ranks = seeded(ConvHead()), rank_list()
    ann, bob, cy = three_images().values()
    panel = match_explorer(model, {"ann": ranks, "bob": RankList(bob, [cy, ann], [False, True])}, note="toy data")
    found = look_at_matches(model, ranks)
    assert png(panel) == [canvas.png(figure) for figure in fig_matches(ranks, found, "grad-ram", note="toy data")]
    assert message(panel) == f"rank 1 shows the same identity; cosine of the two features {found.similarities[0]:.3f}"
    whole, pair = png(panel)
    find(panel, "pair: rank").value = 2
    assert "another identity" in message(panel) and png(panel)[1] != pair
    find(panel, "target").value = "projection on itself"
    assert png(panel)[0] != whole
    find(panel, "query").value = "bob"
    assert "rank 2 shows the same identity" in message(panel)


def test_panels_need_something_to_show() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        explorer(seeded(GapNet()), {})
    with pytest.raises(ValueError, match="at least one rank list"):
        match_explorer(seeded(GapNet()), {})
