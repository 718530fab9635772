"""Figures: what is drawn is what was handed over, and no text covers another or leaves the page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from fam_lib.masking import min_max, upsample
from fam_lib.methods import METHODS
from workbook import plots
from workbook.plots import canvas, charts, overlays, style
from workbook.plots.charts import effective_channels

PERSON, PHOTO = (64, 32), (48, 48)
NOTE = "synthetic pedestrians"


def images(n: int, size: tuple[int, int] = PERSON, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed))


def maps(n: int, size: tuple[int, int] = PERSON, seed: int = 1) -> Tensor:
    coarse = torch.rand(n, 3, 2, generator=torch.Generator().manual_seed(seed))
    return min_max(upsample(coarse, size))


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]


def pictures(fig: Figure) -> list[np.ndarray]:
    """The images drawn, in reading order of their axes."""
    return [np.asarray(image.get_array()) for ax in fig.axes for image in ax.get_images()]


def ticks_off_the_axis(fig: Figure) -> set[mpl.text.Text]:
    """Labels of ticks beyond the limits: matplotlib keeps them but does not draw them."""
    off = set()
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        off |= {x for t in ticks if not low <= t.get_loc() <= high for x in (t.label1, t.label2)}
    return off


def visible_boxes(fig: Figure) -> Iterator[tuple[str, mpl.transforms.Bbox]]:
    fig.draw_without_rendering()
    off = ticks_off_the_axis(fig)
    for text in fig.findobj(mpl.text.Text):
        slanted = text.get_rotation() % 90
        if text.get_visible() and text.get_text().strip() and not slanted and text not in off:
            yield text.get_text(), text.get_window_extent()


def assert_legible(fig: Figure) -> None:
    """No text leaves the page, none covers another, none is below 9 points."""
    assert min(t.get_fontsize() for t in fig.findobj(mpl.text.Text) if t.get_text().strip()) >= 9
    page = fig.bbox
    boxes = list(visible_boxes(fig))
    for name, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, name
    for (a, p), (b, q) in combinations(boxes, 2):
        width, height = min(p.x1, q.x1) - max(p.x0, q.x0), min(p.y1, q.y1) - max(p.y0, q.y0)
        # A box reaches from ascender to descender: a pixel or two of overlap is white.
        assert width <= 1 or height <= 2.5, f"{a!r} and {b!r} overlap by {width:.0f} x {height:.0f} pixels"
    assert fig.get_figwidth() <= style.PAGE_WIDTH + 1e-6


@pytest.fixture
def look(request: pytest.FixtureRequest) -> Iterator[str]:
    """The look named by the parameter, in force for one test."""
    plots.use_look(request.param)
    yield request.param
    plots.use_look("default")


def contour_levels(ax: Axes) -> list[float]:
    return [float(v) for c in ax.collections if isinstance(c, mpl.contour.ContourSet) for v in c.levels]


# --- overlay and colour bar -------------------------------------------------------------------------------


@pytest.mark.parametrize(("look", "name"), [("default", "inferno"), ("paper", "jet")], indirect=["look"])
def test_overlay_is_the_blend_of_image_and_colour(look: str, name: str) -> None:
    image, saliency = images(1)[0], maps(1)[0]
    got = plots.overlay(image, saliency)
    base = image.numpy().transpose(1, 2, 0)
    if look == "default":
        base = (0.299 * base[..., 0] + 0.587 * base[..., 1] + 0.114 * base[..., 2])[..., None]
    expected = 0.45 * base + 0.55 * mpl.colormaps[name](saliency.double().numpy())[..., :3]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_overlay_in_grey_leaves_all_colour_to_the_map() -> None:
    image, flat = images(1)[0], torch.full(PERSON, 0.5)
    got = plots.overlay(image, flat)
    colour = np.array(mpl.colormaps["inferno"](0.5)[:3]) * overlays.ALPHA
    rest = got - colour
    np.testing.assert_allclose(rest[..., 0], rest[..., 1], atol=1e-7)
    np.testing.assert_allclose(rest[..., 1], rest[..., 2], atol=1e-7)


def test_show_overlay_draws_the_overlay_and_both_contours() -> None:
    fig = Figure()
    ax = fig.add_subplot()
    lines = overlays.show_overlay(ax, images(1)[0], maps(1)[0])
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), plots.overlay(images(1)[0], maps(1)[0]))
    assert lines.levels.tolist() == [0.3, 0.6]
    # The line of a ramp lies where the ramp has the level: 0.3 and 0.6 of the way down.
    ramp = torch.linspace(0, 1, 101)[:, None].expand(101, 20)
    ax = Figure().add_subplot()
    lines = overlays.show_overlay(ax, images(1, (101, 20))[0], ramp)
    for path, row in zip(lines.get_paths(), (30, 60), strict=True):
        np.testing.assert_allclose(path.vertices[:, 1], row, atol=1e-3)
    # Dashed and solid: told apart without colour.
    assert [style_[1] is None for style_ in lines.get_linestyle()] == [False, True]


@pytest.mark.parametrize(
    ("values", "levels"),
    [((0.0, 0.0), []), ((1.0, 1.0), []), ((0.0, 0.5), [0.3]), ((0.4, 1.0), [0.6]), ((0.0, 0.25), [])],
)
def test_only_boundaries_that_the_map_crosses_have_a_contour(values: tuple, levels: list[float]) -> None:
    ax = Figure().add_subplot()
    ramp = torch.linspace(*values, 32).expand(64, 32)
    lines = overlays.show_overlay(ax, images(1)[0], ramp)
    assert contour_levels(ax) == levels
    assert (lines is None) == (not levels)


def test_contours_follow_other_zones() -> None:
    ax = Figure().add_subplot()
    assert overlays.show_overlay(ax, images(1)[0], maps(1)[0], zones=(0.1, 0.9)).levels.tolist() == [0.1, 0.9]
    ax = Figure().add_subplot()
    assert overlays.show_overlay(ax, images(1)[0], maps(1)[0], zones=(0.5, 0.5)).levels.tolist() == [0.5]


@pytest.mark.parametrize("orientation", ["horizontal", "vertical"])
@pytest.mark.parametrize(("look", "name"), [("default", "inferno"), ("paper", "jet")], indirect=["look"])
def test_colour_bar_has_the_zones(orientation: str, look: str, name: str) -> None:
    fig, _ = canvas.page(4, 4)
    cax = canvas.axes_at(fig, 1, 1, *((2.5, 0.1) if orientation == "horizontal" else (0.1, 2.5)))
    bar = overlays.zone_colorbar(fig, cax, orientation)
    axis = cax.xaxis if orientation == "horizontal" else cax.yaxis
    assert bar.get_ticks().tolist() == [0, 0.3, 0.6, 1]
    assert [t.get_text() for t in axis.get_ticklabels()] == ["0", "0.3", "0.6", "1"]
    assert [t.get_text() for t in axis.get_ticklabels(minor=True)] == ["low", "medium", "high"]
    np.testing.assert_allclose(bar.get_ticks(minor=True), [0.15, 0.45, 0.8])
    assert bar.cmap.name == name
    assert (bar.vmin, bar.vmax) == (0, 1)
    assert_legible(fig)


def test_narrow_zones_go_unnamed() -> None:
    fig, _ = canvas.page(4, 4)
    cax = canvas.axes_at(fig, 1, 1, 2.5, 0.1)
    overlays.zone_colorbar(fig, cax, zones=(0.1, 0.2))
    assert [t.get_text() for t in cax.xaxis.get_ticklabels(minor=True)] == ["high"]


def test_default_map_grows_lighter_and_jet_does_not() -> None:
    values, weights = np.linspace(0, 1, 65), np.array([0.299, 0.587, 0.114])
    luma = [mpl.colormaps[style.LOOKS[look]](values)[:, :3] @ weights for look in ("default", "paper")]
    assert (np.diff(luma[0]) > 0).all()
    assert not (np.diff(luma[1]) > 0).all()


@pytest.mark.parametrize(
    ("image", "saliency", "message"),
    [
        (torch.randn(3, 64, 32) * 3, torch.zeros(64, 32), "image must lie in .* undo the normalisation"),
        (torch.zeros(64, 32, 3), torch.zeros(64, 32), r"image must have the shape \(3, H, W\)"),
        (torch.zeros(3, 64, 32), torch.zeros(32, 64), "same height and width"),
        (torch.zeros(3, 64, 32), torch.full((64, 32), 1.5), "saliency must lie in"),
        (torch.zeros(3, 64, 32), torch.full((64, 32), torch.nan), "not finite"),
        (torch.zeros(3, 64, 32), torch.zeros(1, 64, 32), r"saliency must have the shape \(H, W\)"),
    ],
)
def test_wrong_input_is_named(image: Tensor, saliency: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.overlay(image, saliency)


def test_unknown_look_is_refused_and_changes_nothing() -> None:
    with pytest.raises(ValueError, match="look must be one of .*'default', 'paper'.*got 'turbo'"):
        plots.use_look("turbo")
    assert style.current_look() == "default"


@pytest.mark.parametrize("look", ["paper"], indirect=True)
def test_the_look_holds_for_pictures_feature_maps_and_colour_bar(look: str) -> None:
    x, m = images(5), maps(5)
    numbers = (torch.zeros(3), torch.full((3,), 1 / 3))
    pipeline = plots.fig2_pipeline(x[0], x[1], torch.rand(3, 4, 2), m[:3], x[2:], [0, 1, 2], *numbers, m[3], 0.25)
    assert [ax.get_images()[0].cmap.name for ax in pipeline.axes[1:3]] == ["jet", "gray"]
    grid = plots.image_grid([[(x[0], m[0])]])
    np.testing.assert_array_equal(pictures(grid)[0], plots.overlay(x[0], m[0]))
    plots.use_look("default")
    assert (pictures(grid)[0] != plots.overlay(x[0], m[0])).any()


def test_arrays_and_tensors_give_the_same_picture() -> None:
    image, saliency = images(1)[0], maps(1)[0]
    np.testing.assert_array_equal(
        plots.overlay(image, saliency), plots.overlay(image.double().numpy(), saliency.double().numpy())
    )


def test_style_is_the_readers_again_after_a_figure() -> None:
    with mpl.rc_context({"font.size": 23, "image.cmap": "hot"}):
        plots.image_grid([[images(1)[0]]])
        assert mpl.rcParams["font.size"] == 23 and mpl.rcParams["image.cmap"] == "hot"
        style.apply()
        assert mpl.rcParams["font.size"] == style.FONT and mpl.rcParams["image.cmap"] == "inferno"


# --- grids ------------------------------------------------------------------------------------------------


def test_grid_draws_cells_in_order_with_one_colour_bar() -> None:
    x, m = images(2), maps(2)
    fig = plots.image_grid(
        [[x[0], (x[0], m[0])], [x[1], "no map"]], ["r1", "r2"], ["image", "map"], "A title", note=NOTE
    )
    drawn = pictures(fig)
    assert len(drawn) == 3 and len(fig.axes) == 5
    np.testing.assert_allclose(drawn[0], x[0].numpy().transpose(1, 2, 0))
    np.testing.assert_array_equal(drawn[1], plots.overlay(x[0], m[0]))
    np.testing.assert_allclose(drawn[2], x[1].numpy().transpose(1, 2, 0))
    assert {"r1", "r2", "image", "map", "A title", NOTE, "no map", "0.3", "0.6"} <= set(texts(fig))
    assert_legible(fig)


def test_grid_without_overlay_has_no_colour_bar() -> None:
    fig = plots.image_grid([[images(1)[0]]], title="t")
    assert len(fig.axes) == 1 and "0.3" not in texts(fig)


def test_grid_keeps_the_aspect_of_the_images() -> None:
    for size in (PERSON, PHOTO):
        ax = plots.image_grid([list(images(4, size))]).axes[0]
        box = ax.get_position()
        width, height = box.width * ax.figure.get_figwidth(), box.height * ax.figure.get_figheight()
        assert height / width == pytest.approx(size[0] / size[1])


def test_narrow_columns_slant_their_labels() -> None:
    names = [f"random-weights-{i}" for i in range(12)]
    fig = plots.image_grid([list(images(12))], column_labels=names, title="t")
    slanted = [t for t in fig.texts if t.get_rotation() == 40]
    assert [t.get_text() for t in slanted] == names
    right = max(t.get_window_extent().x1 for t in slanted)
    assert right <= fig.bbox.x1
    few = plots.image_grid([list(images(3))], column_labels=names[:3])
    assert not [t for t in few.texts if t.get_rotation()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_labels": ["a", "b"]}, "same length.*'rows': 1, 'row_labels': 2"),
        ({"column_labels": ["a"]}, "same length"),
        ({"captions": [["a"]]}, "captions must have 1 rows of 2"),
        ({"groups": [("g", 1)]}, "groups must add up to 2"),
        ({"frames": [[True]]}, "frames must have 1 rows of 2"),
    ],
)
def test_grid_lengths_must_agree(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.image_grid([list(images(2))], **options)


@pytest.mark.parametrize("rows", [[], [[]], [["text", None]]])
def test_grid_needs_an_image(rows: list) -> None:
    with pytest.raises(ValueError, match="row"):
        plots.image_grid(rows)


# --- the paper's figures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [PERSON, PHOTO])
def test_fig1(size: tuple[int, int]) -> None:
    x, m = images(7, size), maps(7, size)
    identities = [(x[i], f"identity {i}, confidence 0.{i}", m[i]) for i in (1, 2, 3)]
    gallery = [(x[i], f"rank {i}", m[i]) for i in (4, 5, 6)]
    fig = plots.fig1_motivation(x[0], m[0], identities, gallery, note=NOTE)
    drawn = pictures(fig)
    assert len(drawn) == 14 and len(fig.axes) == 15
    query = x[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(drawn[0], query)
    # The overlays show the query, whatever image stands beside them.
    np.testing.assert_array_equal(drawn[2], plots.overlay(x[0], m[1]))
    np.testing.assert_array_equal(drawn[7], plots.overlay(x[0], m[0]))
    np.testing.assert_array_equal(drawn[13], plots.overlay(x[0], m[6]))
    shown = " ".join(texts(fig))
    for part in ("(a)", "(b) Score-CAM", "(c) RAM", "(d)", "rank 5", NOTE, "Score-FAM", "medium"):
        assert part in shown
    assert_legible(fig)


def test_fig1_needs_as_many_identities_as_gallery_images() -> None:
    x, m = images(2), maps(2)
    with pytest.raises(ValueError, match="'identities': 1, 'gallery': 0"):
        plots.fig1_motivation(x[0], m[0], [(x[1], "a", m[1])], [])


def test_channels_with_highest_median_and_lowest_score() -> None:
    scores, everywhere = torch.tensor([0.1, 0.5, -0.2, 0.3, 0.2]), torch.ones(5, dtype=torch.bool)
    assert plots.pick_channels(scores, everywhere) == [1, 4, 2]
    assert plots.pick_channels(torch.zeros(3), everywhere[:3]) == [0, 1, 2]
    assert plots.pick_channels(scores[:1], everywhere[:1]) == [0, 0, 0]
    assert plots.pick_channels(scores, torch.tensor([True, False, True, True, False])) == [3, 0, 2]
    with pytest.raises(ValueError, match="no channel"):
        plots.pick_channels(torch.zeros(2), torch.zeros(2, dtype=torch.bool))


@pytest.mark.parametrize("size", [PERSON, PHOTO])
def test_fig2_shows_the_numbers_of_the_pipeline(size: tuple[int, int]) -> None:
    scores = torch.tensor([0.10, 0.52, -0.04, 0.31, 0.20])
    weights = scores.softmax(0)
    k = plots.pick_channels(scores, torch.ones(5))
    activations = torch.rand(3, 4, 2)
    activations[2] = 0.0
    intermediates = (activations, maps(3, size), images(3, size), k, scores, weights)
    fig = plots.fig2_pipeline(*images(2, size), *intermediates, maps(1, size)[0], 0.25, note=NOTE)
    shown = "\n".join(texts(fig))
    for i, name in zip(k, ("highest", "median", "lowest"), strict=True):
        s = f"{scores[i]:+.3f}".replace("-", "\N{MINUS SIGN}")
        expected = f"{name}\n{scores[i] + 0.25:.3f} $-$ 0.250\n$S_k$ = {s}\n$C a_k$ = {5 * weights[i]:.2f}"
        assert expected in shown
        assert f"$k$ = {i}" in shown
    assert f"$k$ = {k[2]}, dead" in shown and shown.count("dead") == 1
    for equation in ("(10)", "(11)", "(12)", "(13)", "Eq. 11", "Eq. 12", NOTE):
        assert equation in shown
    drawn = pictures(fig)
    assert len(drawn) == 3 * 3 + 3
    np.testing.assert_allclose(drawn[1], activations[0])
    assert_legible(fig)


def test_fig2_lengths_must_agree() -> None:
    args = [*images(2), torch.rand(3, 4, 2), maps(2), images(3), [0, 1, 2], torch.zeros(3), torch.ones(3) / 3]
    with pytest.raises(ValueError, match="'masks': 2"):
        plots.fig2_pipeline(*args, maps(1)[0], 0.2)
    args[5] = [0, 1]
    with pytest.raises(ValueError, match="'names': 3, 'channels': 2"):
        plots.fig2_pipeline(*args, maps(1)[0], 0.2)


def test_fig3_has_the_papers_five_columns() -> None:
    x, m = images(2), maps(2)
    masks = [images(2, seed=s) for s in (5, 6, 7)]
    fig = plots.fig3_explanation_maps(x, m, *masks, note=NOTE)
    drawn = pictures(fig)
    assert len(drawn) == 10
    np.testing.assert_array_equal(drawn[6], plots.overlay(x[1], m[1]))
    for j, maps_ in enumerate(masks):
        np.testing.assert_allclose(drawn[7 + j], maps_[1].numpy().transpose(1, 2, 0))
    heads = [t for t in texts(fig) if t.startswith("(")]
    assert heads == ["(a) image", "(b) result", "(c) top 50 %", "(d) top 10 %", "(e) Eq. 14"]
    assert NOTE in texts(fig)
    assert_legible(fig)


def test_fig4_sets_controls_apart() -> None:
    x = images(2)
    names = ["uniform", "grad-cam", "all-ones", "score-fam", "layer-fam"]
    methods = {name: maps(2, seed=i) for i, name in enumerate(names)}
    fig = plots.fig4_methods(x, methods, note=NOTE)
    order = ["grad-cam", "score-fam", "layer-fam", "uniform", "all-ones"]
    drawn = pictures(fig)
    for i in range(2):
        for j, name in enumerate(order):
            np.testing.assert_array_equal(drawn[6 * i + 1 + j], plots.overlay(x[i], methods[name][i]))
    lefts = [ax.get_position().x0 for ax in fig.axes[:6]]
    gaps = np.diff(lefts)
    assert gaps[[0, 2, 3]].min() > gaps[[1, 4]].max() * 1.05  # query | paper | new | controls
    assert {"methods of the paper", "new", "controls", NOTE} <= set(texts(fig))
    assert_legible(fig)


def test_fig4_of_all_methods_stays_legible() -> None:
    names = "grad-cam score-cam ram cg-ram grad-ram grad-fam score-fam uniform random-weights random-map "
    methods = {name: maps(1, seed=i) for i, name in enumerate((names + "centre-prior all-ones").split())}
    fig = plots.fig4_methods(images(1), methods, note=NOTE)
    assert_legible(fig)
    shown = [t for t in texts(fig) if " ".join(t.split()) in methods]
    assert len(shown) == 12


def test_fig4_wants_one_map_for_each_query() -> None:
    with pytest.raises(ValueError, match="'queries': 2, \"methods\\['ram'\\]\": 1"):
        plots.fig4_methods(images(2), {"ram": maps(1)})
    with pytest.raises(ValueError, match="kinds must be among"):
        plots.fig4_methods(images(1), {"ram": maps(1)}, kinds={"ram": "paperr"})


def test_rank_list_marks_hits_without_relying_on_colour() -> None:
    x = images(4)
    fig = plots.fig_rank_list(x[0], x[1:], [True, False, True], [0.91, 0.8, 0.756], note=NOTE)
    assert {"\N{CHECK MARK} 0.91", "\N{BALLOT X} 0.80", "\N{CHECK MARK} 0.76", "1", "3", NOTE} <= set(texts(fig))
    query, hit, miss, _ = fig.axes
    assert not query.spines["left"].get_visible()
    assert to_rgb(hit.spines["left"].get_edgecolor()) == to_rgb(style.GREEN)
    assert to_rgb(miss.spines["left"].get_edgecolor()) == to_rgb(style.RED)
    assert hit.spines["top"].get_linestyle() != miss.spines["top"].get_linestyle()
    assert miss.spines["top"].get_capstyle() == "butt"  # a longer cap would fill the gaps
    assert_legible(fig)


def test_rank_list_lengths_must_agree() -> None:
    x = images(3)
    with pytest.raises(ValueError, match="'gallery': 2, 'correct': 1"):
        plots.fig_rank_list(x[0], x[1:], [True], [0.9, 0.5])


def test_method_grid_has_every_method_in_its_cell_and_labels_the_rest() -> None:
    # A cell shows one method: Score-CAM by the probability, as its authors have it.
    targeted = [n for n, method in METHODS.items() if method.kind != "control" and n != "score-cam-logit"]
    drawn = {name: maps(1, PHOTO, seed=i)[0] for i, name in enumerate(targeted)}
    drawn["cg-fam"] = torch.zeros(PHOTO)
    del drawn["ablation-ram"]
    drawn["uniform"] = maps(1, PHOTO, seed=99)[0]
    image = images(1, PHOTO)[0]
    fig = plots.fig_method_grid(image, drawn, note=NOTE)
    names = [" ".join(t.split()).replace("- ", "-") for t in texts(fig)]
    for name in (*drawn, "ablation-ram"):
        assert names.count(name) == 1, name
    assert names.count("not drawn") == 1
    assert names.count("zero map") == 1
    assert names.count("the same map") == 4
    assert names.count("no method") == 5 * 7 - len(targeted)
    # First row: class targets, in the order of the columns.
    row = ["grad-cam", "cam", "score-cam", "grad-cam++", "xgrad-cam", "layer-cam", "ablation-cam", "uniform"]
    for picture, name in zip(pictures(fig), row, strict=False):
        np.testing.assert_array_equal(picture, plots.overlay(image, drawn[name]))
    assert_legible(fig)
    with pytest.raises(ValueError, match="unknown method 'grad-fan'"):
        plots.fig_method_grid(image, {"grad-fan": drawn["cam"]})


# --- numbers ----------------------------------------------------------------------------------------------


@given(st.integers(1, 40))
def test_effective_channels_of_uniform_weights_is_their_number(n: int) -> None:
    assert effective_channels(np.full(n, 1 / n)) == pytest.approx(n)
    assert effective_channels(np.eye(n)[0]) == pytest.approx(1)


def test_weights_histograms_count_every_channel() -> None:
    scores = torch.linspace(-0.1, 0.6, 200)
    weights = scores.softmax(0)
    fig = plots.fig_weights(scores, weights, note=NOTE)
    left, right = fig.axes
    assert sum(bar.get_height() for bar in left.patches) == 200
    assert sum(bar.get_height() for bar in right.patches) == 200
    near = np.mean(np.abs(200 * weights.numpy() - 1) <= 0.25)
    shown = " ".join(" ".join(texts(fig)).split())
    assert f"{near:.0%} of channels within 25% of uniform" in shown and NOTE in shown
    assert [line.get_xdata()[0] for line in right.lines] == [1]
    assert_legible(fig)
    with pytest.raises(ValueError, match="sum to 1"):
        plots.fig_weights(scores, scores)


def test_correlation_is_pearsons() -> None:
    a, b = maps(3), maps(3, seed=8)
    b[2] = 0.0
    got = charts._pearson(a, b)
    for i in range(2):
        assert got[i] == pytest.approx(np.corrcoef(a[i].flatten(), b[i].flatten())[0, 1], abs=1e-6)
    assert np.isnan(got[2])
    assert charts._pearson(a, 0.5 * a + 0.2)[0] == pytest.approx(1)


def test_correlation_figure_counts_pixels_and_names_flat_maps() -> None:
    a, b = maps(3), maps(3, seed=8)
    b[2] = 0.0
    fig = plots.fig_correlation(a, b, note=NOTE)
    mesh = next(c for c in fig.axes[0].collections if isinstance(c, QuadMesh))
    assert np.nansum(mesh.get_array()) == a.numel()
    dots = fig.axes[1].lines[0].get_xdata()
    np.testing.assert_allclose(dots, np.sort(charts._pearson(a, b)[:2]))
    shown = texts(fig)
    assert "(b) one dot an image (1 flat, left out)" in shown and {"score-fam", "uniform", NOTE} <= set(shown)
    assert_legible(fig)
    with pytest.raises(ValueError, match="flat"):
        plots.fig_correlation(a, torch.zeros_like(a))
    with pytest.raises(ValueError, match="of one shape"):
        plots.fig_correlation(a, b[:, :8])


def table(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = "grad-cam score-cam ram cg-ram grad-ram grad-fam score-fam layer-fam uniform random-map all-ones"
    rows = []
    for name in names.split():
        row = {
            "dataset": "d",
            "method": name,
            "kind": METHODS[name].kind,
            "retained_area": rng.uniform(15, 35),
        }
        for metric in ("as_drop", "ap_drop"):
            value = rng.uniform(60, 85)
            row |= {metric: value, metric + "_lo": value - 4, metric + "_hi": value + 5}
        rows.append(row)
    return pd.DataFrame(rows)


def test_metrics_figure_places_every_method_at_its_score() -> None:
    rows = table()
    fig = plots.fig_metrics(rows, note=NOTE)
    for ax, metric in zip(fig.axes, ("as_drop", "ap_drop"), strict=True):
        markers = {
            line.get_xydata()[0].tobytes(): line.get_marker() for line in ax.lines if line.get_linestyle() == "None"
        }
        assert len(markers) == len(rows)
        for _, row in rows.iterrows():
            point = np.array([row["retained_area"], row[metric]])
            assert markers[point.tobytes()] == {"paper": "o", "grid": "D", "control": "s"}[row["kind"]]
        assert sorted(t.get_text() for t in ax.texts) == sorted(rows["method"])
        bars = [line.get_ydata() for line in ax.lines if line.get_linewidth() == 1.2]
        np.testing.assert_allclose(bars, rows[[metric + "_lo", metric + "_hi"]].to_numpy())
    assert {"in the paper", "new in the grid", "control", NOTE, "retained area (%)"} <= set(texts(fig))
    assert_legible(fig)


def test_metrics_figure_names_undefined_methods() -> None:
    rows = table()
    rows.loc[2, ["ap_drop", "ap_drop_lo", "ap_drop_hi"]] = np.nan
    rows.loc[3, ["as_drop_lo", "as_drop_hi"]] = np.nan  # a score without an interval is drawn without one
    fig = plots.fig_metrics(rows.to_dict("records"))
    assert "undefined for every query: ram" in texts(fig)
    assert "ram" not in [t.get_text() for t in fig.axes[1].texts]
    assert "cg-ram" in [t.get_text() for t in fig.axes[0].texts]
    assert_legible(fig)


def test_metrics_figure_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match=r"lacks the columns \['ap_drop_lo'\]"):
        plots.fig_metrics(table().drop(columns="ap_drop_lo"))
    two = table()
    two.loc[0, "dataset"] = "e"
    with pytest.raises(ValueError, match="several data sets"):
        plots.fig_metrics(two)


@pytest.mark.parametrize("seed", range(2))
def test_labels_cover_neither_each_other_nor_markers(seed: int) -> None:
    points = np.random.default_rng(seed).normal([60, 120], [25, 20], (12, 2))
    sizes = np.full((12, 2), [50, 11])
    frame = (0, 0, 440, 195)
    markers = np.concatenate([points - 4, points + 4], 1)
    boxes = canvas.place_labels(points, sizes, frame, markers)
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sizes)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 440).all() and (boxes[:, 3] <= 195).all()
    for a, b in combinations([*boxes, *markers], 2):
        both_markers = a[2] - a[0] < 10 and b[2] - b[0] < 10
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart or both_markers
    np.testing.assert_array_equal(boxes, canvas.place_labels(points, sizes, frame, markers))


def test_curves_carry_their_areas() -> None:
    x = torch.linspace(0, 1, 101)
    panels = {
        "insertion": {"score-fam": x, "uniform": torch.ones(101)},
        "deletion": {"score-fam": 1 - x**2, "uniform": torch.zeros(101)},
    }
    fig = plots.fig_curves(x, panels, note=NOTE)
    legend = [t.get_text() for t in fig.legends[0].get_texts()]
    assert legend == ["uniform  1.00 / 0.00", "score-fam  0.50 / 0.67"]
    for ax, curves in zip(fig.axes, panels.values(), strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        for name, curve in curves.items():
            np.testing.assert_allclose(lines[name].get_ydata(), curve)
        assert lines["uniform"].get_linestyle() == "--" and lines["score-fam"].get_linestyle() == "-"
    assert_legible(fig)


def test_curves_must_match() -> None:
    x = torch.linspace(0, 1, 11)
    with pytest.raises(ValueError, match="panel 'b' must hold the methods"):
        plots.fig_curves(x, {"a": {"ram": x}, "b": {"cg-ram": x}})
    with pytest.raises(ValueError, match="'a\\['ram'\\]'|\"a\\['ram'\\]\": 5"):
        plots.fig_curves(x, {"a": {"ram": x[:5]}})


def test_twelve_curves_are_told_apart_without_colour() -> None:
    x = torch.linspace(0, 1, 11)
    names = [n for n, m in METHODS.items() if m.kind == "paper"][:7] + [
        n for n, m in METHODS.items() if m.kind == "control"
    ]
    fig = plots.fig_curves(x, {"insertion": dict.fromkeys(names, x), "deletion": dict.fromkeys(names, 1 - x)})
    looks = {(line.get_marker(), line.get_linestyle()) for line in fig.axes[0].lines}
    assert len(looks) == 12
    assert_legible(fig)


# --- the page ---------------------------------------------------------------------------------------------


def test_title_and_note_stand_above_everything() -> None:
    fig = plots.image_grid([list(images(2))], title="A long title " * 12, note=NOTE)
    title, note = (next(t for t in fig.texts if t.get_gid() == gid) for gid in ("title", "note"))
    assert "\n" in title.get_text() and note.get_text() == NOTE
    bottom = note.get_window_extent().y0
    assert title.get_window_extent().y0 >= bottom
    assert all(ax.get_window_extent().y1 <= bottom for ax in fig.axes)
    assert_legible(fig)


@given(st.text(alphabet="abc -", max_size=60), st.floats(0.3, 3))
def test_wrapping_keeps_the_text_and_the_width(text: str, width: float) -> None:
    wrapped = canvas.wrap(text, width)
    assert "".join(wrapped.split()) == "".join(text.split())
    if canvas.narrowest(text) <= width:
        assert canvas.text_width(wrapped) <= width


def test_wrapping_breaks_after_hyphens_between_letters_only() -> None:
    assert canvas.wrap("score-fam", 0.5) == "score-\nfam"
    assert canvas.wrap("Eq. 10-11", 0.3) == "Eq.\n10-11"
    assert canvas.wrap("a cg-ram", 0.1) == "a\ncg-ram"


def test_a_figure_shows_itself_as_the_same_png_every_time() -> None:
    fig = plots.image_grid([list(images(2))], title="t")
    shown = fig._repr_png_()
    assert shown.startswith(b"\x89PNG") and shown == canvas.png(fig)
    again = plots.image_grid([list(images(2))], title="t")
    assert canvas.png(again) == shown
    assert b"Software" not in shown


def test_nothing_is_left_in_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.fig_weights(torch.zeros(4), torch.full((4,), 0.25))
    assert plt.get_fignums() == before


def test_agreement_shows_the_mean_correlation_of_every_two_methods():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3, 8, 4))
    fig = plots.fig_agreement({"a": first, "b": second, "a-again": first, "flat": np.ones((3, 8, 4))}, note="noise")
    shown = [[float(text.get_text()) for text in fig.axes[0].texts[3 * i : 3 * i + 3]] for i in range(3)]
    r = charts._pearson(first, second).mean()
    np.testing.assert_allclose(shown, [[1, r, 1], [r, 1, r], [1, r, 1]], atol=0.005)
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == ["a", "b", "a-again"]
