"""The truth by occlusion: closed forms by hand, a loop as a reader would type it, and a model left as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fam_lib import explain
from fam_lib.masking import gaussian_blur
from fam_lib.occlusion import occlude_image, occlude_map
from toys import ConvHead, GapNet, assert_untouched, census, pictures, seeded

BOTH = ("cosine", "projection")
EXACT = {"rtol": 0, "atol": 1e-6}


class Linear(nn.Module):
    """f = GAP(X) W with an identity that can be hooked: the feature of two pixels and two features, by hand."""

    def __init__(self, weight):
        super().__init__()
        self.body, self.head = nn.Identity(), nn.Linear(*reversed(weight.shape), bias=False)
        self.head.weight.data = weight

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


def two_cells():
    """X has the cells (3, 0, 0) and (0, 4, 0); W keeps the first two colours, so f = (3, 4) / 2."""
    return Linear(torch.eye(2, 3)), torch.tensor([[[3.0, 0.0]], [[0.0, 4.0]], [[0.0, 0.0]]])[None]


def black(images):
    return torch.zeros_like(images)


# Without the first cell f' = (0, 2) and f = (1.5, 2), |f| = 2.5: cos = 4 / (2 * 2.5), <f', f> / |f|^2 = 4 / 6.25.
# Without the second f' = (1.5, 0): cos = 2.25 / (1.5 * 2.5), <f', f> / |f|^2 = 2.25 / 6.25.
BY_HAND = torch.tensor([[[[1 - 0.8, 1 - 0.6]]], [[[1 - 0.64, 1 - 0.36]]]])


def test_losses_behind_gap_and_a_linear_head_are_those_worked_out_by_hand():
    model, images = two_cells()
    torch.testing.assert_close(occlude_map(model, images, "body", BOTH), BY_HAND, **EXACT)
    torch.testing.assert_close(occlude_image(model, images, (1, 2), BOTH, baseline=black), BY_HAND, **EXACT)
    torch.testing.assert_close(occlude_map(model, images, "body"), BY_HAND[0], **EXACT)
    torch.testing.assert_close(occlude_map(model, images, "body", "projection"), BY_HAND[1], **EXACT)


def test_a_feature_that_only_becomes_shorter_loses_length_and_no_cosine():
    model, images = Linear(torch.eye(3)), torch.tensor([1.0, 3.0]).expand(1, 3, 1, 2)
    cosine, projection = occlude_map(model, images, "body", BOTH)
    torch.testing.assert_close(cosine, torch.zeros(1, 1, 2), **EXACT)
    torch.testing.assert_close(projection, torch.tensor([[[0.25, 0.75]]]), **EXACT)


def test_behind_gap_the_projection_is_grad_fam_up_to_a_factor():
    model, images = seeded(GapNet(), 1), pictures(3)
    signed = explain(model, images, "fam", "relu")  # sum_k f_k A_k / |f|, the closed form of Grad-FAM times Z
    activations = model.relu(model.conv(images)).detach()
    raw = torch.einsum("nk,nkhw->nhw", signed.weights, activations)
    share = raw / raw[0].numel() / signed.target[:, None, None]
    torch.testing.assert_close(occlude_map(model, images, "relu", "projection"), share, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def loop(model, images, grid, without):
    """1 - cos and 1 - <f', f> / |f|^2 for one image and cell at a time."""
    losses = torch.zeros(2, len(images), *grid)
    for n, image in enumerate(images):
        f = model(image[None])[0]
        for i in range(grid[0]):
            for j in range(grid[1]):
                g = without(n, i, j)
                losses[:, n, i, j] = torch.stack(
                    [1 - g @ f / g.norm() / f.norm(), (f.norm() - g @ f / f.norm()) / f.norm()]
                )
    return losses


@pytest.mark.parametrize("grid", [(4, 2), (5, 3), (1, 1)])
def test_image_cells_agree_with_a_loop_over_rectangles(grid):
    model, images = seeded(ConvHead(), 3), pictures(2)
    blurred = gaussian_blur(images)

    def without(n, i, j):
        (top, bottom), (left, right) = (
            (-(-k * pixels // cells), -(-(k + 1) * pixels // cells))  # the first pixel y with floor(y h / H) >= k
            for k, pixels, cells in zip((i, j), images.shape[2:], grid, strict=True)
        )
        changed = images[n : n + 1].clone()
        changed[..., top:bottom, left:right] = blurred[n, :, top:bottom, left:right]
        return model(changed)[0]

    torch.testing.assert_close(
        occlude_image(model, images, grid, BOTH), loop(model, images, grid, without), rtol=1e-4, atol=1e-6
    )


def test_map_cells_agree_with_a_loop_through_the_head():
    model, images = seeded(ConvHead(), 3), pictures(2, (16, 12))

    def without(n, i, j):
        a = model.body(images[n : n + 1]).clone()
        a[..., i, j] = 0
        return model.conv(a).tanh().add(0.3).relu().mean((2, 3))[0]

    expected = loop(model, images, (8, 6), without)
    torch.testing.assert_close(occlude_map(model, images, "body", BOTH), expected, rtol=1e-4, atol=1e-6)
    last = occlude_map(model, images)
    torch.testing.assert_close(last, occlude_map(model, images, model.conv))


def test_what_is_there_already_costs_exactly_nothing():
    model, images = seeded(ConvHead(), 3), pictures(2)
    images[1, :, 32:] = 0.0
    rows = []
    handle = model.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    losses = occlude_image(model, images, (4, 2), BOTH, baseline=black)
    handle.remove()
    assert (losses[:, 1, 2:] == 0).all() and (losses[:, 0] != 0).all()
    assert sum(rows) == 2 + 8 + 4  # X, eight cells of one image, four of the other
    model, images = two_cells()
    assert occlude_map(model, F.pad(images, (0, 1)), "body", BOTH)[..., 2].eq(0).all()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_size_of_the_chunks_does_not_matter(batch_size):
    model, images = seeded(ConvHead(), 3), pictures(3)
    for function, where in ((occlude_image, (4, 2)), (occlude_map, "conv")):
        losses = function(model, images, where, BOTH, batch_size=batch_size)
        torch.testing.assert_close(losses, function(model, images, where, BOTH, batch_size=7), rtol=0, atol=2e-6)


def test_losses_are_float32_and_can_take_part_in_a_graph():
    model, images = seeded(ConvHead(), 3).double(), pictures(2).double()
    for losses in (occlude_image(model, images, (4, 2)), occlude_map(model, images, "conv")):
        assert losses.dtype == torch.float32 and losses.device.type == "cpu"
        assert not losses.requires_grad and not losses.is_inference()


@pytest.mark.parametrize("failing", [None, 1, 3])
def test_the_model_is_left_as_it_was_on_error_too(failing):
    class Failing(GapNet):
        left = failing

        def forward(self, images):
            self.left = self.left and self.left - 1
            if self.left == 0:
                raise KeyError("broken on purpose")
            return super().forward(images)

    model, images = seeded(Failing(neck=True), 2).train(), pictures(2)
    model.neck.eval()
    for function, where in ((occlude_image, (4, 2)), (occlude_map, "relu")):
        model.left, before, own = failing, census(model), images.clone()
        if failing is None:
            function(model, images, where, batch_size=4)
        else:
            with pytest.raises(KeyError, match="broken on purpose"):
                function(model, images, where, batch_size=4)
        assert_untouched(before, census(model))
        assert torch.equal(images, own)


@pytest.mark.parametrize(
    ("function", "where", "options", "message"),
    [
        (occlude_image, (0, 2), {}, "grid must have 1 to"),
        (occlude_image, (65, 2), {}, r"grid must have 1 to \(64, 32\) cells"),
        (occlude_image, (4, 2), {"measure": "length"}, "measure must be one or more of .* got 'length'"),
        (occlude_map, "conv", {"measure": ()}, "measure must be one or more of"),
        (occlude_map, "conv", {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (occlude_map, "convv", {}, "no layer 'convv'; did you mean"),
        (occlude_image, (4, 2), {"baseline": lambda x: x[:1]}, "baseline must return"),
    ],
)
def test_what_does_not_fit_is_refused(function, where, options, message):
    with pytest.raises(ValueError, match=message):
        function(seeded(GapNet()), pictures(2), where, **options)


def test_a_zero_feature_and_a_map_for_a_feature_are_refused():
    class Given(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output = output

        def forward(self, images):
            return self.output.expand(len(images), *self.output.shape)

    for output in (torch.zeros(3), torch.ones(3, 2, 2), torch.full((3,), torch.nan)):
        with pytest.raises(ValueError, match=r"must return finite features \(N, D\), none of them zero"):
            occlude_image(Given(output), pictures(2), (4, 2))
