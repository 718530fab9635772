"""The table of methods: one row for each, target x reference x weighting.

Every method is the sentence ``saliency = Norm(Up(ReLU(sum_k alpha_k A^k)))`` and differs in three choices: the
target (which scalar is read off the output), its reference (a class, another image, or the image itself) and
the weighting (how alpha_k is got from the target). CAM (Eq. 2) and RAM (Eq. 5) leave out the ReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from torch import Tensor

from fam_lib import weighting
from fam_lib.targets import Target, class_confidence, class_score, cosine, projection
from fam_lib.weighting import Probe, Weighting

Reference = Literal["class", "other", "self"]


@dataclass(frozen=True)
class Method:
    """One row of the table of methods.

    Attributes:
        name: as in the paper, lower case with hyphens.
        weighting: how alpha_k is got from the target; a plain function is one that needs no gradient.
        target: the scalar read off the output; None for a control, whose map depends on no target.
        reference: what the target is measured against: a class, another image's feature, the image's own.
        kind: "paper" (the paper has it), "grid" (the table's other cells) or "control".
        source: where the method comes from.
        rectify: apply the ReLU; Eq. 2 and 5 (CAM, RAM) have none.
        normalise: min-max the map; the all-ones control has nothing to stretch.
    """

    name: str
    weighting: Weighting | Callable[[Probe], Tensor]
    target: Target | None = None
    reference: Reference | None = None
    kind: Literal["paper", "grid", "control"] = "grid"
    source: str = "the grid"
    rectify: bool = True
    normalise: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.weighting, Weighting):
            object.__setattr__(self, "weighting", Weighting(self.weighting))

    @property
    def needs_gradient(self) -> bool:
        return self.weighting.gradient

    @property
    def needs_scores(self) -> bool:
        return self.weighting.growth is not None


_mean = weighting.gradient_mean
_plus = weighting.gradient_plus_plus
_xgrad = weighting.gradient_x_activation
_layer = weighting.gradient_positive
_ablation = weighting.ablation
_score = weighting.softmax_of_masked_scores
_head = weighting.head_weights

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        # target: a class
        Method("grad-cam", _mean, class_score, "class", "paper", "Selvaraju et al. 2017; Eq. 3"),
        Method("score-cam", _score, class_confidence, "class", "paper", "Wang et al. 2020"),
        # Wang et al. score the probability; the paper's Eq. 1 calls the logit "class confidence": either can be meant.
        Method("score-cam-logit", _score, class_score, "class", "grid", "Wang et al. 2020; Y^c of Eq. 1"),
        Method("cam", _head, class_score, "class", "paper", "Zhou et al. 2016; Eq. 2", rectify=False),
        Method("grad-cam++", _plus, class_score, "class", "grid", "Chattopadhyay et al. 2018"),
        Method("xgrad-cam", _xgrad, class_score, "class", "grid", "Fu et al. 2020"),
        Method("layer-cam", _layer, class_score, "class", "grid", "Jiang et al. 2021"),
        Method("ablation-cam", _ablation, class_score, "class", "grid", "Ramaswamy et al. 2020"),
        # target: the projection on another image's feature
        Method("ram", _head, projection, "other", "paper", "Yang et al. 2019; Eq. 5", rectify=False),
        Method("grad-ram", _mean, projection, "other", "paper", "Eq. 6"),
        Method("grad-ram++", _plus, projection, "other"),
        Method("xgrad-ram", _xgrad, projection, "other"),
        Method("layer-ram", _layer, projection, "other"),
        Method("ablation-ram", _ablation, projection, "other"),
        Method("score-ram", _score, projection, "other"),
        # target: the cosine to another image's feature
        Method("cg-ram", _mean, cosine, "other", "paper", "Shen et al. 2020; Eq. 7"),
        Method("cg-ram++", _plus, cosine, "other"),
        Method("xgrad-cg-ram", _xgrad, cosine, "other"),
        Method("layer-cg-ram", _layer, cosine, "other"),
        Method("ablation-cg-ram", _ablation, cosine, "other"),
        Method("score-cg-ram", _score, cosine, "other"),
        # target: the projection on the image's own feature, whose gradient is that of |f(X)|
        Method("grad-fam", _mean, projection, "self", "paper", "Eq. 9"),
        Method("fam", _head, projection, "self", "grid", "closed form of Eq. 9 behind GAP"),
        Method("grad-fam++", _plus, projection, "self"),
        Method("xgrad-fam", _xgrad, projection, "self"),
        Method("layer-fam", _layer, projection, "self"),
        Method("ablation-fam", _ablation, projection, "self"),
        Method("score-norm-fam", _score, projection, "self"),
        # target: the cosine to the image's own feature
        Method("score-fam", _score, cosine, "self", "paper", "Eq. 10-13, Algorithm 1"),
        Method("cg-fam", _mean, cosine, "self", "grid", "Section 3.1: its gradient vanishes"),
        Method("ablation-cg-fam", _ablation, cosine, "self"),
        # controls
        Method("uniform", weighting.uniform, kind="control", source="mean activation"),
        Method("random-weights", weighting.random_weights, kind="control"),
        Method("random-map", weighting.random_map, kind="control"),
        Method("centre-prior", weighting.centre_prior, kind="control"),
        Method("all-ones", weighting.all_ones, kind="control", normalise=False),
    )
}


def find_method(name: str) -> Method:
    """The row of :data:`METHODS` with this name.

    Raises:
        ValueError: there is none; the message lists near names.
    """
    if name not in METHODS:
        near = get_close_matches(str(name), METHODS, n=3) or list(METHODS)
        raise ValueError(f"unknown method {name!r}; did you mean one of {near}?")
    return METHODS[name]
