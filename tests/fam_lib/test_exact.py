"""Score-FAM's fast path against the textbook: one mask, one forward of the plain network, nothing folded or shared.

The loop is written out here with torch and torchvision alone.
"""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import gaussian_blur

import architectures
from fam_lib import explain
from fam_lib.randomize import estimate_statistics
from toys import pictures

IMAGES = pictures(2, (64, 32))
CHUNKS = (1, 5, 512)
LAYERS = {"resnet": "stages.3", "bottlenecks": "stages.3", "mobilenet": "features.4"}  # 24, 48 and 24 channels


@cache
def network(name):
    """Features as lively as a trained network's: with the statistics of no image at all they would be nearly equal."""
    torch.manual_seed(0)
    model = getattr(architectures, name)().eval()
    estimate_statistics(model, [name for name, _ in model.named_modules()], pictures(16, (64, 32), seed=1))
    return model


@cache
@torch.no_grad()
def textbook(name):
    """S (2, C) and the saliency (2, 64, 32) by Algorithm 1, mask by mask."""
    model, layer, kept = network(name), network(name).get_submodule(LAYERS[name]), []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output.clone()))
    features = model(IMAGES)
    handle.remove()
    scores = torch.stack([_scores(model, *one) for one in zip(IMAGES, kept[0], features, strict=True)])
    cam = (scores.softmax(1)[:, :, None, None] * kept[0]).sum(1).relu()
    return scores, torch.stack([_norm(_up(one)) for one in cam])


def _scores(model, image, activations, feature):
    blurred = gaussian_blur(image, [51, 51], [50.0, 50.0])
    of_blurred = F.cosine_similarity(model(blurred[None])[0], feature, dim=0)
    scores = []
    for channel in activations:
        mask = _norm(_up(channel))
        masked = image * mask + blurred * (1 - mask)
        scores.append(F.cosine_similarity(model(masked[None])[0], feature, dim=0) - of_blurred)
    return torch.stack(scores)


def _up(channel):
    return F.interpolate(channel[None, None], (64, 32), mode="bilinear", align_corners=False)[0, 0]


def _norm(values):
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


# One test a network: the loop, by far the dearest part, then runs once and in one of pytest's workers only.
@pytest.mark.parametrize("name", LAYERS)
def test_scores_and_map_are_those_of_a_loop_over_masks_and_bfloat16_stays_near(name):
    scores, saliency = textbook(name)
    assert scores.std(1).min() > 1e-3  # channels whose scores are all alike would prove nothing
    for chunk in CHUNKS:
        result = explain(network(name), IMAGES, "score-fam", LAYERS[name], batch_size=chunk)
        torch.testing.assert_close(result.scores, scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.saliency, saliency, rtol=0, atol=1e-4)
    result = explain(network(name), IMAGES, "score-fam", LAYERS[name], precision=torch.bfloat16, batch_size=16)
    assert 0 < (result.scores - scores).abs().max() < 6e-2
    assert 0 < (result.saliency - saliency).abs().max() < 2e-2
