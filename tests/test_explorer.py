"""The explorer: its numbers are the library's, its maps are made once, its errors are on the panel."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import Tensor, nn

from fam_lib import explain, explorer
from fam_lib.explorer import explorer_state, static_explorer
from fam_lib.masking import gaussian_blur
from fam_lib.plots import canvas, overlay
from toys import ConvHead, GapNet, assert_untouched, census, pictures, seeded


def three_images() -> dict[str, tuple[Tensor, Tensor]]:
    """Displayed values in [0, 1]; the normalised ones are 4 x - 2."""
    shown = pictures(3).sigmoid()
    return {name: (4 * x - 2, x) for name, x in zip(("ann", "bob", "cy"), shown, strict=True)}


class Counting(nn.Module):
    """A network that counts the images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(GapNet())
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return self.net(images)


def find(panel: object, description: str) -> object:
    """The control of the panel with this description."""
    found = [w for box in panel.children[0].children for w in box.children if w.description == description]
    return found[0] if found else None


# --- the function behind the panel ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["score-fam", "grad-fam", "uniform"])
def test_numbers_are_the_librarys(method: str) -> None:
    model, images = seeded(ConvHead()), three_images()
    state = explorer_state(model, images, "bob", method, low=0.2, high=0.5, delta=0.7)
    x = images["bob"][0][None]
    saliency = explain(model, x, method).saliency
    torch.testing.assert_close(state.saliency, saliency[0])
    # Eq. 14 written out.
    mask = (saliency >= 0.5).float() + 0.7 * ((saliency >= 0.2) & (saliency < 0.5)).float()
    assert state.retained_area == pytest.approx(mask.mean().item(), abs=1e-6)
    masked = x * mask + gaussian_blur(x) * (1 - mask)
    with torch.no_grad():
        f, e, b = model(x)[0], model(masked)[0], model(gaussian_blur(x))[0]
    assert state.cosine == pytest.approx((f @ e / f.norm() / e.norm()).item(), abs=1e-5)
    assert state.baseline_cosine == pytest.approx((f @ b / f.norm() / b.norm()).item(), abs=1e-5)
    assert not state.flat


def test_figure_shows_image_overlay_and_explanation_map() -> None:
    model, images = seeded(ConvHead()), three_images()
    state = explorer_state(model, images, "ann", "grad-fam", low=0.2, high=0.5, delta=0.7, note="toy data")
    drawn = [np.asarray(i.get_array()) for ax in state.figure.axes for i in ax.get_images()]
    shown = images["ann"][1]
    np.testing.assert_allclose(drawn[0], shown.numpy().transpose(1, 2, 0), atol=1e-6)
    np.testing.assert_allclose(drawn[1], overlay(shown, state.saliency), atol=1e-6)
    mask = (state.saliency >= 0.5).float() + 0.7 * ((state.saliency >= 0.2) & (state.saliency < 0.5)).float()
    expected = shown * mask + gaussian_blur(shown[None])[0] * (1 - mask)
    np.testing.assert_allclose(drawn[2], expected.numpy().transpose(1, 2, 0), atol=1e-5)
    texts = [t.get_text() for t in state.figure.findobj(Text)]
    assert {"toy data", "grad-fam of ann", "0.2", "0.5", f"area {state.retained_area:.0%}"} <= set(texts)
    assert f"cosine {state.cosine:.3f}" in texts
    assert f"{state.retained_area:.0%}" in state.text and f"{state.cosine:.3f}" in state.text


def test_explanation_map_is_shown_with_the_baseline_that_the_model_saw() -> None:
    model, images = seeded(GapNet()), three_images()
    state = explorer_state(model, images, "ann", "uniform", low=1.0, high=1.0, baseline=torch.zeros_like)
    drawn = np.asarray(state.figure.axes[2].get_images()[0].get_array())
    # Only the maximum is kept; zero in the model's space is 0.5 on the screen (4 x - 2).
    hidden = (state.saliency < 1).numpy()
    assert hidden.mean() > 0.9
    np.testing.assert_allclose(drawn[hidden], 0.5, atol=1e-5)


def test_thresholds_move_without_explaining_again() -> None:
    model, images, cache = Counting(), three_images(), {}
    first = explorer_state(model, images, "ann", "score-fam", cache=cache)
    seen = model.seen
    second = explorer_state(model, images, "ann", "score-fam", low=0.1, high=0.9, delta=0.5, cache=cache)
    assert model.seen == seen + 1  # the new explanation map, nothing else
    torch.testing.assert_close(first.saliency, second.saliency)
    fresh = explorer_state(model, images, "ann", "score-fam", low=0.1, high=0.9, delta=0.5)
    assert (second.retained_area, second.cosine) == (fresh.retained_area, fresh.cosine)


def test_cache_keeps_choices_apart() -> None:
    models, images, cache = {"a": seeded(GapNet()), "b": seeded(GapNet(), 1)}, three_images(), {}
    choices = [
        {"image": "ann", "method": "grad-fam"},
        {"image": "bob", "method": "grad-fam"},
        {"image": "ann", "method": "uniform"},
        {"image": "ann", "method": "grad-fam", "layer": "conv"},
        {"image": "ann", "method": "grad-fam", "model": "b"},
        {"image": "ann", "method": "ram", "reference": "bob"},
        {"image": "ann", "method": "ram", "reference": "cy"},
    ]
    for n, choice in enumerate(choices, 1):
        state = explorer_state(models, images, cache=cache, **choice)
        assert len(cache) == n
        torch.testing.assert_close(state.saliency, explorer_state(models, images, **choice).saliency)
    # A reference that the method does not look at makes no new map, and an empty layer is the default one.
    explorer_state(models, images, "ann", "grad-fam", "", reference="cy", cache=cache)
    assert len(cache) == len(choices)


def test_other_image_is_the_reference() -> None:
    model, images = seeded(GapNet()), three_images()
    state = explorer_state(model, images, "ann", "ram", reference="cy")
    with torch.no_grad():
        v = model(images["cy"][0][None])
    expected = explain(model, images["ann"][0][None], "ram", reference=v).saliency[0]
    torch.testing.assert_close(state.saliency, expected)
    with pytest.raises(ValueError, match="ram compares with another image: choose a reference among .*'bob'"):
        explorer_state(model, images, "ann", "ram")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"image": "anne"}, r"unknown image 'anne'; did you mean one of \['ann'\]"),
        ({"image": "ann", "method": "score-fan"}, "unknown method 'score-fan'"),
        ({"image": "ann", "model": "resnet"}, "unknown model 'resnet'"),
        ({"image": "ann", "method": "ram", "reference": "dan"}, "unknown reference 'dan'"),
        ({"image": "ann", "low": 0.7, "high": 0.3}, "low <= high"),
        ({"image": "ann", "delta": 1.5}, "delta"),
    ],
)
def test_wrong_choices_are_refused_before_any_forward(choice: dict, message: str) -> None:
    model = Counting()
    with pytest.raises(ValueError, match=message):
        explorer_state(model, three_images(), **choice)
    assert model.seen == 0


def test_displayed_image_must_fit_the_normalised_one() -> None:
    with pytest.raises(ValueError, match=r"image 'a'.*same shape, got \(3, 64, 32\) and \(3, 32, 64\)"):
        explorer_state(seeded(GapNet()), {"a": (torch.zeros(3, 64, 32), torch.zeros(3, 32, 64))}, "a")


def test_unknown_layer_is_named() -> None:
    with pytest.raises(ValueError, match="no layer 'convv'.*conv"):
        explorer_state(seeded(GapNet()), three_images(), "ann", layer="convv")


def test_model_is_left_as_it_was() -> None:
    model = seeded(GapNet(neck=True)).train()
    model.conv.weight.requires_grad_(False)
    before = census(model)
    explorer_state(model, three_images(), "ann", "grad-fam")
    assert_untouched(before, census(model))


def test_flat_map_is_said_to_be_flat() -> None:
    model = seeded(GapNet())
    nn.init.zeros_(model.conv.weight)
    nn.init.ones_(model.conv.bias)
    state = explorer_state(model, three_images(), "ann", "uniform")
    assert state.flat and state.retained_area == 0 and "flat" in state.text
    assert "flat" not in explorer_state(seeded(GapNet()), three_images(), "ann", "uniform").text


def test_static_explorer_is_the_figure() -> None:
    model, images = seeded(GapNet()), three_images()
    figure = static_explorer(model, images, "ann", "grad-fam", low=0.2)
    assert canvas.png(figure) == canvas.png(explorer_state(model, images, "ann", "grad-fam", low=0.2).figure)


# --- the panel --------------------------------------------------------------------------------------------


def test_importing_the_library_imports_no_widgets() -> None:
    tree = ast.parse(Path(explorer.__file__).read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [node for node in top if "ipywidgets" in ast.dump(node)]


def test_panel_shows_the_state() -> None:
    model, images = seeded(GapNet()), three_images()
    panel = explorer.explorer(model, images, ["uniform", "grad-fam"], note="toy data")
    _, message, picture = panel.children
    state = explorer_state(model, images, "ann", "uniform", note="toy data")
    assert picture.value == canvas.png(state.figure)
    assert message.value == state.text
    find(panel, "image").value = "bob"
    find(panel, "method").value = "grad-fam"
    find(panel, "B_Low, B_High").value = (0.1, 0.8)
    find(panel, "delta").value = 0.5
    state = explorer_state(model, images, "bob", "grad-fam", None, 0.1, 0.8, 0.5, note="toy data")
    assert picture.value == canvas.png(state.figure)
    assert message.value == state.text


def test_sliders_cost_one_forward_each() -> None:
    model = Counting()
    panel = explorer.explorer(model, three_images(), ["score-fam"])
    seen = model.seen
    find(panel, "B_Low, B_High").value = (0.2, 0.5)
    find(panel, "delta").value = 0.4
    assert model.seen == seen + 2
    find(panel, "image").value = "cy"
    find(panel, "image").value = "ann"
    after = model.seen
    find(panel, "delta").value = 0.3
    assert model.seen == after + 1


def test_errors_appear_on_the_panel_and_go_again() -> None:
    panel = explorer.explorer(seeded(GapNet()), three_images(), ["grad-fam"])
    _, message, picture = panel.children
    good = picture.value
    find(panel, "layer").value = "<conv>"
    assert message.value.startswith("<b>ValueError:</b> the model has no layer &#x27;&lt;conv&gt;&#x27;")
    assert picture.value == b""
    find(panel, "layer").value = ""
    assert picture.value == good and "retained area" in message.value


def test_an_error_of_the_model_appears_too() -> None:
    class Broken(GapNet):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    panel = explorer.explorer(Broken(), three_images(), ["grad-fam"])
    assert panel.children[1].value == "<b>RuntimeError:</b> out of memory"


def test_reference_is_open_only_to_methods_that_look_at_it() -> None:
    panel = explorer.explorer(seeded(GapNet()), three_images(), ["grad-fam", "ram"])
    assert find(panel, "reference").disabled
    find(panel, "method").value = "ram"
    assert not find(panel, "reference").disabled
    assert "retained area" in panel.children[1].value
    before = panel.children[2].value
    find(panel, "reference").value = "bob"
    assert panel.children[2].value != before


def test_defaults_offer_feature_methods_and_outer_layers() -> None:
    networks = {"one": seeded(GapNet()), "two": seeded(ConvHead())}
    panel = explorer.explorer(networks, three_images(), methods=None)
    offered = find(panel, "method").options
    assert find(panel, "method").value == "score-fam"
    assert {"grad-fam", "ram", "random-map"} <= set(offered) and not {"grad-cam", "cam"} & set(offered)
    assert find(panel, "model").options == ("one", "two")
    assert find(panel, "layer").options == ("conv", "relu", "neck", "head", "body", "body.0", "body.1")
    assert find(explorer.explorer(networks["one"], three_images(), ["uniform"]), "model") is None


def test_panel_needs_models_images_and_known_methods() -> None:
    with pytest.raises(ValueError, match="at least one model and one image"):
        explorer.explorer({}, three_images())
    with pytest.raises(ValueError, match="at least one model and one image"):
        explorer.explorer(seeded(GapNet()), {})
    with pytest.raises(ValueError, match="unknown method 'gradfam'"):
        explorer.explorer(seeded(GapNet()), three_images(), ["gradfam"])
