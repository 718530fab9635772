"""What ours is compared with: the peers' Grad-CAM and Score-CAM asked for FAM, and the textbook's loop.

The peers (captum, torchcam, grad-cam) are asked for the same thing: the gradient of |f(X)|, or masked
forwards scored by the cosine to f(X). They are test dependencies; a peer that is not installed has no row.
Their Score-CAMs mask otherwise than the paper: what is masked becomes 0, not blurred, and the mask is made
in another way (:data:`MASKS`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fam_lib.capture import run_with_layer
from fam_lib.explain import combine, to_saliency
from fam_lib.masking import blend, gaussian_blur, min_max, upsample
from fam_lib.targets import cosine


class Found(NamedTuple):
    """What a call found out about one image.

    Attributes:
        saliency: (1, H, W), the map on the image's grid.
        weights: (1, C), alpha_k; None where the library keeps them to itself.
    """

    saliency: Tensor
    weights: Tensor | None = None


Run = Callable[[], Found | None]
Masks = Callable[[Tensor, tuple[int, int]], Tensor]


class _Norm(nn.Module):
    """|f(X)| as the only logit of a classifier, for libraries that explain classes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).norm(dim=1, keepdim=True)


def _captum_grad_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from captum.attr import LayerGradCam

    gradcam = LayerGradCam(_Norm(model), layer)

    def run() -> Found:
        cam = gradcam.attribute(image, target=0, relu_attributions=True)
        return Found(to_saliency(cam[:, 0].detach(), image.shape[-2:]))

    return run


def _torchcam_grad_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from torchcam.methods import GradCAM

    wrapped = _Norm(model)

    def run() -> Found:
        with GradCAM(wrapped, layer, input_shape=tuple(image.shape[1:])) as extractor:
            return Found(to_saliency(extractor(0, wrapped(image))[0].detach(), image.shape[-2:]))

    return run


def _grad_cam_grad_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from pytorch_grad_cam import GradCAM

    def run() -> Found:
        with GradCAM(model=model, target_layers=[layer]) as cam:
            return Found(torch.from_numpy(cam(input_tensor=image, targets=[lambda output: output.norm()])))

    return run


def _torchcam_score_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from torchcam.methods import ScoreCAM

    @torch.no_grad()
    def run() -> Found:
        with ScoreCAM(model, layer, input_shape=tuple(image.shape[1:])) as extractor:
            output = model(image)
            kept = _keep_results(extractor, "_get_weights")
            cams = extractor(scores=output, targets=lambda masked: F.cosine_similarity(masked, output[0], 0))
            return Found(to_saliency(cams[0], image.shape[-2:]), kept[0][0])

    return run


def _grad_cam_score_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam import score_cam as module

    # The package's progress bar cannot be turned off; this replaces the name in its module only.
    module.tqdm = SimpleNamespace(tqdm=lambda batches, *_args, **_options: batches)

    def run() -> Found:
        with torch.no_grad():
            feature = model(image)[0]
        with ScoreCAM(model=model, target_layers=[layer]) as cam:
            kept = _keep_results(cam, "get_cam_weights")
            maps = cam(input_tensor=image, targets=[lambda masked: F.cosine_similarity(masked, feature, 0)])
            return Found(torch.from_numpy(maps), torch.from_numpy(kept[0]))

    return run


def _keep_results(extractor: object, method: str) -> list:
    """The list in which every result of a method of this object will be kept."""
    kept: list = []
    inner = getattr(extractor, method)

    def outer(*args: object, **options: object) -> object:
        kept.append(inner(*args, **options))
        return kept[-1]

    setattr(extractor, method, outer)
    return kept


def loop_scores(model: nn.Module, image: Tensor, activations: Tensor, baseline: Tensor, masks: Masks) -> Tensor:
    """S(A^k) as a textbook writes it: one mask, one forward of the plain network.

    Args:
        model: in eval mode, images -> (N, D).
        image: (1, 3, H, W), X.
        activations: (1, C, h, w), A.
        baseline: (1, 3, H, W), B.
        masks: one channel (1, h, w) and (H, W) -> its mask (1, H, W).

    Returns:
        (1, C).
    """
    with torch.no_grad():
        feature = model(image)
        of_baseline = cosine(model(baseline), feature)
        scores = []
        for k in range(activations.shape[1]):
            mask = masks(activations[:, k], image.shape[-2:])
            scores.append(cosine(model(blend(image, baseline, mask)), feature) - of_baseline)
        return torch.stack(scores, 1)


def loop_score_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    """Score-FAM by :func:`loop_scores`, with the paper's masks and baseline."""

    def run() -> Found:
        activations = run_with_layer(model, layer, image)[0]
        scores = loop_scores(model, image, activations, gaussian_blur(image), norm_of_up)
        weights = scores.softmax(1)
        return Found(to_saliency(combine(weights, activations).relu(), image.shape[-2:]), weights)

    return run


def norm_of_up(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Norm(Up(A)), the paper's mask (Eq. 10, 11): maps (N, h, w) -> (N, H, W)."""
    return min_max(upsample(maps, size))


def _up_of_norm(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return upsample(min_max(maps), size)


def _norm_of_up_with_aligned_corners(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return min_max(F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=True).squeeze(1))


# The masks of the peers' Score-CAMs; what is masked is 0 with both.
MASKS: dict[str, Masks] = {"torchcam": _up_of_norm, "grad-cam": _norm_of_up_with_aligned_corners}

_MAKE: dict[tuple[str, str], tuple[str, Callable[[nn.Module, Tensor, nn.Module], Run]]] = {
    ("grad-fam", "captum"): ("captum", _captum_grad_fam),
    ("grad-fam", "torchcam"): ("torchcam", _torchcam_grad_fam),
    ("grad-fam", "grad-cam"): ("pytorch_grad_cam", _grad_cam_grad_fam),
    ("score-fam", "torchcam"): ("torchcam", _torchcam_score_fam),
    ("score-fam", "grad-cam"): ("pytorch_grad_cam", _grad_cam_score_fam),
}


def peers(model: nn.Module, image: Tensor, layer: nn.Module) -> dict[tuple[str, str], Run]:
    """(method, library) -> a call that explains the image once, for the libraries that are installed."""
    return {name: make(model, image, layer) for name, (module, make) in _MAKE.items() if find_spec(module)}
