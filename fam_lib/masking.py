"""Up, Norm, the blurred baseline and explanation maps: everything that turns a map into a picture.

Images are float tensors (N, 3, H, W) in the model's normalised space. Blurring and blending happen in
that space too; both are linear with weights that sum to one, so they commute with the normalisation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fam_lib.precision import at_least_float32

# The paper's constants: blur of Section 4.1, zones and retained proportion of Eq. 14.
BLUR_KERNEL = 51
BLUR_SIGMA = 50.0
B_LOW = 0.3
B_HIGH = 0.6
DELTA = 0.9


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Up(.) of Eq. 10: bilinear upsampling on the half-pixel grid.

    The same geometry serves the masks and the final map; ``align_corners=True`` would move masks by half a
    cell at the border.

    Args:
        maps: (N, C, h, w) activations or (N, h, w) maps.
        size: (H, W) of the result, in pixels.

    Returns:
        (N, C, H, W) or (N, H, W).
    """
    squeeze = maps.dim() == 3
    maps = maps.unsqueeze(1) if squeeze else maps
    up = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return up.squeeze(1) if squeeze else up


def min_max(maps: Tensor) -> Tensor:
    """Norm(.) of Eq. 11 over the last two dimensions; a flat map becomes all zeros, never NaN.

    Args:
        maps: (..., H, W).

    Returns:
        (..., H, W) with every non-flat map spanning exactly [0, 1].
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    # (high - low) / span is exactly 1, so the maximum needs no clamp.
    return torch.where(span > 0, (maps - low) / torch.where(span > 0, span, 1), 0)


def gaussian_blur(images: Tensor, kernel_size: int = BLUR_KERNEL, sigma: float = BLUR_SIGMA) -> Tensor:
    """The baseline image B of Section 4.1: "radius and sigma are set as 51 and 50".

    Read, as in the code of the paper's reference [28], as a 51 x 51 Gaussian kernel with sigma 50 and a
    reflected border. The kernel is separable: two one-dimensional passes.

    Args:
        images: (N, 3, H, W).
        kernel_size: odd width of the kernel in pixels.
        sigma: standard deviation in pixels.

    Returns:
        (N, 3, H, W), the blurred images.

    Raises:
        ValueError: the kernel is even or too wide for the image's reflected border.
    """
    half = kernel_size // 2
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f"kernel_size must be a positive odd number, got {kernel_size}")
    if min(images.shape[-2:]) <= half:
        raise ValueError(
            f"images of {images.shape[-2]}x{images.shape[-1]} pixels are too small for a reflected "
            f"{kernel_size}x{kernel_size} blur: both sides must exceed {half}; pass a `baseline` function "
            "with a smaller kernel_size"
        )
    wide = at_least_float32(images)  # wide kernels in float16 hang on a CPU with AVX-512 FP16 (oneDNN 3.5 to 3.12)
    offsets = torch.arange(-half, half + 1, device=images.device, dtype=wide.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(wide, (half, half, half, half), mode="reflect")
    rows = F.conv2d(padded, kernel.unsqueeze(2), groups=images.shape[1])
    return F.conv2d(rows, kernel.unsqueeze(3), groups=images.shape[1]).to(images.dtype)


def blend(images: Tensor, baseline: Tensor, mask: Tensor) -> Tensor:
    """X * M + B * (1 - M): what the mask removes is replaced by the baseline (Section 3.2).

    Args:
        images: (N, 3, H, W), X.
        baseline: (N, 3, H, W), B.
        mask: (N, H, W) in [0, 1], M.

    Returns:
        (N, 3, H, W).
    """
    return torch.lerp(baseline, images, mask.unsqueeze(1))


def explanation_mask(saliency: Tensor, low: float = B_LOW, high: float = B_HIGH, delta: float = DELTA) -> Tensor:
    """The mask M of Eq. 14: 1 where L >= B_High, delta where B_Low <= L < B_High, 0 below.

    Args:
        saliency: (N, H, W) in [0, 1], L.
        low: B_Low, boundary of the low zone.
        high: B_High, boundary of the high zone.
        delta: retained proportion in the medium zone.

    Returns:
        (N, H, W) with values in {0, delta, 1}.

    Raises:
        ValueError: the boundaries or delta are out of order or outside [0, 1].
    """
    if not 0 <= low <= high <= 1 or not 0 <= delta <= 1:
        raise ValueError(f"need 0 <= low <= high <= 1 and 0 <= delta <= 1, got {low=}, {high=}, {delta=}")
    medium = torch.where(saliency >= low, delta, 0.0)
    return torch.where(saliency >= high, 1.0, medium).to(saliency.dtype)


def top_share_mask(saliency: Tensor, share: float) -> Tensor:
    """Keep the given share of pixels with the highest values (Figure 3, c and d; equal-area comparison).

    Exactly round(share * H * W) pixels are kept; pixels of equal value are kept in reading order.

    Args:
        saliency: (N, H, W).
        share: share of pixels to keep, in [0, 1].

    Returns:
        (N, H, W) of zeros and ones.

    Raises:
        ValueError: share is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    flat = saliency.flatten(1)
    keep = round(share * flat.shape[1])
    order = flat.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(flat).scatter_(1, order[:, :keep], 1.0)
    return mask.view_as(saliency)


def explanation_map(
    images: Tensor,
    baseline: Tensor,
    saliency: Tensor,
    low: float = B_LOW,
    high: float = B_HIGH,
    delta: float = DELTA,
) -> Tensor:
    """The explanation map E: the image under the mask of Eq. 14, the rest replaced by the baseline.

    Args:
        images: (N, 3, H, W), X.
        baseline: (N, 3, H, W), B, usually :func:`gaussian_blur` of the images.
        saliency: (N, H, W) in [0, 1], L.
        low: B_Low.
        high: B_High.
        delta: retained proportion in the medium zone.

    Returns:
        (N, 3, H, W).
    """
    return blend(images, baseline, explanation_mask(saliency, low, high, delta))
