"""The masked forwards: equal masks share one, and memory that runs out halves the chunks."""

import pytest
import torch

from fam_lib import explain
from fam_lib.passes import first_with_equal_mask
from toys import ConvHead, GapNet, assert_untouched, census, pictures, seeded


def test_channels_that_differ_by_scale_and_offset_share_a_mask_within_their_image_only():
    one = torch.tensor([[0.0, 2.0], [1.0, 4.0]])
    spike, other = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    image = torch.stack([one, spike, one * 2 + 8, other, spike * 5, torch.zeros(2, 2), torch.full((2, 2), 7.0)])
    same = first_with_equal_mask(torch.stack([image, image]))
    expected = torch.tensor([0, 1, 0, 3, 1, 5, 5])
    assert torch.equal(same, torch.stack([expected, expected + 7]))


def test_channels_with_the_same_mask_cost_one_forward_and_have_the_scores_of_their_own():
    model, images = seeded(GapNet(), 2), pictures(2)
    alone = explain(model, images, "score-fam", "relu").scores
    model.conv.weight.data[3], model.conv.bias.data[3] = model.conv.weight[0] * 4, model.conv.bias[0] * 4
    maps = model.relu(model.conv(images)).detach().flatten(2)
    live = sum(len(channel.unique()) > 1 for image in maps for channel in image)
    twice = sum(len(image[0].unique()) > 1 for image in maps)
    masked = []
    handle = model.register_forward_hook(lambda _m, inputs, _o: masked.append(len(inputs[0])))
    result = explain(model, images, "score-fam", "relu", batch_size=100)
    handle.remove()
    assert twice > 0
    assert masked[2:] == [live - twice]
    assert torch.equal(result.scores[:, 0], result.scores[:, 3])
    assert not torch.equal(alone[:, 0], alone[:, 3])


class Small(ConvHead):
    """Runs out of memory beyond a number of images, and counts its attempts."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.attempts = limit, []

    def forward(self, images):
        self.attempts.append(len(images))
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("no more")
        return super().forward(images)


def test_when_memory_runs_out_the_chunks_are_halved_for_good_and_the_map_is_the_same():
    images = pictures(2)
    expected = explain(seeded(ConvHead()), images, "score-fam", "conv")
    model = seeded(Small(3))
    result = explain(model, images, "score-fam", "conv", batch_size=8)
    torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-6)
    assert model.attempts[2:] == [8, 4, 2, 2, 2, 2, 2, 2, 2]  # 14 masks, in chunks of 8 and 6


def test_when_a_single_mask_does_not_fit_the_error_is_the_devices_own_and_the_model_is_untouched():
    model = seeded(Small(2))
    before = census(model)

    def baseline(images):
        model.limit = 0 if len(model.attempts) else model.limit
        return images.flip(2)

    with pytest.raises(torch.OutOfMemoryError):
        explain(model, pictures(2), "score-fam", "conv", baseline=baseline, batch_size=2)
    assert_untouched(before, census(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_baseline_is_made_of_float32_images_at_least_and_blended_in_their_own_precision(dtype):
    """In float16 the blur hangs: oneDNN 3.12 on a CPU with AVX-512 FP16."""
    model, images, seen = seeded(ConvHead()).to(dtype), pictures(2).to(dtype), []

    def baseline(given):
        seen.append(given)
        return given.float().flip(3)

    ours = explain(model, images, "score-fam", "conv", baseline=baseline)
    assert [given.dtype for given in seen] == [torch.promote_types(dtype, torch.float32)]
    assert torch.equal(seen[0].to(dtype), images)
    theirs = explain(model, images, "score-fam", "conv", baseline=lambda _: images.flip(3))
    assert torch.equal(ours.scores, theirs.scores) and ours.scores.abs().max() > 1e-4


@pytest.mark.parametrize(("dtype", "of_scores", "of_map"), [(torch.bfloat16, 2e-2, 2e-2), (torch.float16, 2e-3, 2e-3)])
def test_the_error_of_half_precision_is_small_in_scores_and_map(dtype, of_scores, of_map):
    model, images = seeded(ConvHead(), 3), pictures(3)
    exact = explain(model, images, "score-fam", "conv")
    half = explain(model, images, "score-fam", "conv", precision=dtype)
    assert 0 < (half.scores - exact.scores).abs().max() < of_scores
    assert (half.saliency - exact.saliency).abs().max() < of_map
