"""Retrieval features of whole image sets, and the retrieval scores of a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fam_lib.capture import evaluating
from fam_lib.reid.data import ImageSet, ReidData, load_images, normalise
from fam_lib.reid.model import ReidModel
from fam_lib.retrieval import cmc, evaluate, mean_ap


class RetrievalScores(NamedTuple):
    """Standard scores of a Re-ID network, each in [0, 1]."""

    rank_1: float
    mean_ap: float


@torch.inference_mode()
def extract_features(
    model: ReidModel,
    image_set: ImageSet,
    size: tuple[int, int],
    batch_size: int = 64,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Tensor:
    """Compute the retrieval feature of every image of a set, in eval mode; the model's mode is restored.

    Args:
        model: network with the colour statistics `mean` and `std`.
        image_set: N images.
        size: (H, W) the images are resized to.
        batch_size: images in one forward pass.
        device: where to compute; the model moves there. None leaves it where it is.
        progress: show a progress bar on stderr.

    Returns:
        (N, D) float32 on the CPU, not L2-normalised.

    Raises:
        ValueError: the set is empty, the batch size is below 1, or an image cannot be read.
    """
    if len(image_set) == 0:
        raise ValueError("image_set is empty: there is no feature to extract")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if device is not None:
        model.to(device)
    target = next(model.parameters()).device
    features = []
    with evaluating(model):
        for start in tqdm(range(0, len(image_set), batch_size), "features", disable=not progress, leave=False):
            images = load_images(image_set.paths[start : start + batch_size], size)
            features.append(model(normalise(images, model.mean, model.std).to(target)).float().cpu())
    return torch.cat(features)


def retrieval_scores(model: ReidModel, data: ReidData, size: tuple[int, int], batch_size: int = 64) -> RetrievalScores:
    """Rank-1 and mAP (standard AP) of a network: its queries ranked by cosine similarity, Market1501
    rules."""
    query, gallery = data.query, data.gallery
    ranking = evaluate(
        extract_features(model, query, size, batch_size),
        query.ids,
        query.cams,
        extract_features(model, gallery, size, batch_size),
        gallery.ids,
        gallery.cams,
    )
    return RetrievalScores(rank_1=cmc(ranking, (1,))[1], mean_ap=mean_ap(ranking))
