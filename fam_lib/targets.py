"""Targets: the scalar that is read off the model's output, given the target's reference.

A target is a plain function ``target(outputs, reference) -> scores`` with outputs (n, D) and scores (n,).
The reference is a class index per row for the class targets, and a feature vector per row, (n, D), for the
others. FAM is the case in which that vector is the image's own feature (Section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Target = Callable[[Tensor, Tensor], Tensor]


def class_score(logits: Tensor, classes: Tensor) -> Tensor:
    """Y^c of Eq. 1 and 3, where it is called "class confidence": the logit of class c.

    logits (n, K), classes (n,) -> (n,).
    """
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def class_confidence(logits: Tensor, classes: Tensor) -> Tensor:
    """The softmax probability of class c, which Score-CAM's authors make their increase of confidence of.

    Two probabilities differ by at most 1, so Score-CAM's softmax weights differ by at most a factor of e and are nearly
    uniform; those of the logit (:func:`class_score`) have no such limit. logits (n, K), classes (n,) -> (n,) in [0, 1].
    """
    return class_score(logits.softmax(1), classes)


def projection(features: Tensor, reference: Tensor) -> Tensor:
    """<f, v> / |v| of Eq. 4 and 6, v a constant. features (n, D), reference (n, D) -> (n,).

    With v = f(X) its gradient at f is f / |f|, the gradient of |f|: Grad-FAM (Eq. 8 and 9) is Grad-RAM with
    the image as its own reference.
    """
    return (features * F.normalize(reference, dim=1)).sum(1)


def cosine(features: Tensor, reference: Tensor) -> Tensor:
    """d_cos of Eq. 7 and 10. features (n, D), reference (n, D) -> (n,) in [-1, 1]."""
    return F.cosine_similarity(features, reference, dim=1)
