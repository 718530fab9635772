"""Retrieval features of whole image sets, and the retrieval scores of a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fam_lib.features import extract
from fam_lib.retrieval import Labels, cmc, evaluate, mean_ap
from workbook.images import load_images, normalise
from workbook.reid.data import ImageSet, ReidData
from workbook.reid.model import ReidModel

BATCH = 64  # images in one forward


class RetrievalScores(NamedTuple):
    """Standard scores of a Re-ID network, each in [0, 1]."""

    rank_1: float
    mean_ap: float


def extract_features(model: ReidModel, image_set: ImageSet, size: tuple[int, int]) -> Tensor:
    """Compute the retrieval feature of every image of a set, in eval mode; the model's mode is restored.

    Args:
        model: network with the colour statistics `mean` and `std`.
        image_set: N images.
        size: (H, W) the images are resized to.

    Returns:
        (N, D) float32 on the CPU, not L2-normalised.

    Raises:
        ValueError: the set is empty, or an image cannot be read.
    """
    if len(image_set) == 0:
        raise ValueError("image_set is empty: there is no feature to extract")
    device = next(model.parameters()).device
    batches = (load_images(image_set.paths[i : i + BATCH], size) for i in range(0, len(image_set), BATCH))
    return torch.cat([extract(model, normalise(x, model.mean, model.std).to(device)).cpu() for x in batches])


def retrieval_scores(model: ReidModel, data: ReidData, size: tuple[int, int]) -> RetrievalScores:
    """Rank-1 and mAP (standard AP) of a network: its queries ranked by cosine similarity, Market1501
    rules."""
    query, gallery = (extract_features(model, images, size) for images in (data.query, data.gallery))
    ranking = evaluate(query, gallery, Labels(data.query.ids, data.query.cams, data.gallery.ids, data.gallery.cams))
    return RetrievalScores(rank_1=cmc(ranking, (1,))[1], mean_ap=mean_ap(ranking))
