"""The front door: explain(model, images, method), and explain_all for several methods.

What a method is stands in :mod:`fam_lib.methods`; here its map is made: ``Norm(Up(ReLU(sum_k alpha_k A^k)))``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from fam_lib.budget import certified_bound, score_interval
from fam_lib.capture import evaluating, last_spatial_layer, layer_name, resolve_layer, run_with_layer
from fam_lib.masking import min_max, upsample
from fam_lib.methods import Method, Reference, find_method
from fam_lib.passes import Passes, Reading, classify
from fam_lib.precision import at_least_float32
from fam_lib.settings import Settings, settings_from
from fam_lib.targets import Target, projection
from fam_lib.weighting import Probe, masked_scores


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found out about N images.

    Attributes:
        saliency: (N, H, W) float32 in [0, 1]: the map upsampled to the input, then min-max normalised.
        cam: (N, h, w), the raw map L = ReLU(sum_k alpha_k A^k) on the layer's grid.
        weights: (N, C), alpha_k; None where the method has no single weight a channel.
        target: (N,), the target's value on the images; NaN for a control.
        flat: (N,) bool, maps without any variation: their saliency is all zeros (all ones for the control).
        layer: dotted name of the layer that was explained; to be passed on where more batches follow.
        scores: (N, C), S of Eq. 10 that the weights of a masked-score method are made of; else None.
        scored: (N, C) bool, the live channels whose S was measured, by a masked-score method; else None.
        bound: (N,), under a budget below 1 or a tolerance the largest possible difference at any pixel between
            ``saliency`` and the map without them, see :func:`fam_lib.budget.certified_bound`; else None.
    """

    saliency: Tensor
    cam: Tensor
    weights: Tensor | None
    target: Tensor
    flat: Tensor
    layer: str
    scores: Tensor | None = None
    scored: Tensor | None = None
    bound: Tensor | None = None


def _lists_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show the options in the signature, for help() and completion, in place of ``**options``."""
    own = signature(function)
    listed = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Settings)
    ]
    function.__signature__ = own.replace(parameters=[*list(own.parameters.values())[:-1], *listed])
    return function


@_lists_options
def explain(
    model: nn.Module,
    images: Tensor,
    method: str | Method = "score-fam",
    layer: str | nn.Module | None = None,
    *,
    reference: Tensor | None = None,
    **options: Any,
) -> Explanation:
    """Which regions of each image does its feature vector, or its class score, come from?

    Args:
        model: any network that maps images to feature vectors (N, D), or to logits for the class targets.
            Explained in eval mode and left as it was: no hook, modes restored, on error too.
        images: (N, 3, H, W) float, normalised as the model wants it.
        method: a name of :data:`~fam_lib.methods.METHODS`, or a :class:`Method` of your own.
        layer: dotted name or module whose output (N, C, h, w) is A; None: the last one with a spatial output to
            finish in a forward. Name it where a side branch runs after the features.
        reference: (N, D) features of other images for the RAM family; (N,) class indices, or None for the
            predicted classes, for the CAM family; None for the FAM family, whose reference is the image.
        options: the fields of :class:`~fam_lib.settings.Settings`, where each is explained.

    Returns:
        An :class:`Explanation`.

    Raises:
        ValueError: method, layer, reference, images or the value of an option do not fit; the message says how.
        TypeError: images are no float tensor, the model returns no tensor, or there is no such option.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> explain(model, torch.rand(2, 3, 64, 32), "grad-fam").saliency.shape
        torch.Size([2, 64, 32])
    """
    row = method if isinstance(method, Method) else find_method(method)
    return _explain(model, images, [row], layer, {row.reference: reference}, settings_from(options))[0]


@_lists_options
def explain_all(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str | Method],
    layer: str | nn.Module | None = None,
    *,
    other: Tensor | None = None,
    classes: Tensor | None = None,
    **options: Any,
) -> dict[str, Explanation]:
    """Explain one batch by several methods for little more than the price of the dearest.

    The maps are those of :func:`explain`, method by method. One forward of the images, one of the baseline and
    one backward for each gradient target serve all methods. The masked images go through the network once:
    their outputs are scored for every masked-score target (score-fam, score-cam, score-ram, ...) batch by
    batch, so memory does not grow with the number of channels. The ablated heads are shared alike.

    Args:
        model: as in :func:`explain`; maps images to features (N, D), or to logits if no ``classifier`` is given.
        images: (N, 3, H, W) float, normalised as the model wants it.
        methods: names of :data:`~fam_lib.methods.METHODS`, or :class:`Method` rows of your own with names of their own.
        layer: as in :func:`explain`.
        other: (N, D) features of other images, the reference of the RAM family; not needed without it.
        classes: (N,) class indices for the CAM family; None: the predicted classes.
        options: as in :func:`explain`.

    Returns:
        Method name -> its :class:`Explanation`, in the order of `methods`.

    Raises:
        ValueError: as in :func:`explain`; no method, a name given twice, or a mixture of class and feature
            methods without a classifier.
        TypeError: as in :func:`explain`.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> images, names = torch.rand(2, 3, 64, 32), ["grad-cam", "score-cam", "grad-fam", "score-fam"]
        >>> list(explain_all(model, images, names, classifier=nn.Linear(8, 5)))
        ['grad-cam', 'score-cam', 'grad-fam', 'score-fam']
    """
    rows = [method if isinstance(method, Method) else find_method(method) for method in methods]
    names = [row.name for row in rows]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods must hold one or more different names, got {names}")
    settings = settings_from(options)
    if settings.classifier is None and {"class"} < {row.reference for row in rows if row.reference}:
        raise ValueError(
            "class methods read logits, the RAM and FAM families features: pass classifier=, a module that maps "
            "the model's features to logits, or ask for the two kinds in two calls"
        )
    explanations = _explain(model, images, rows, layer, {"other": other, "class": classes}, settings)
    return dict(zip(names, explanations, strict=True))


def _explain(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[Method],
    layer: str | nn.Module | None,
    references: Mapping[Reference | None, Tensor | None],
    settings: Settings,
) -> list[Explanation]:
    """One explanation for each method; `references` maps the kind of reference to what the caller gave."""
    _check_images(images)
    modules = nn.ModuleList(module for module in (model, settings.classifier) if module is not None)
    # Tensors made under inference_mode cannot take part in a graph, so a caller's is switched off here.
    with torch.inference_mode(False), torch.no_grad(), evaluating(modules):
        images = images.clone() if images.is_inference() else images
        chosen = last_spatial_layer(model, images) if layer is None else resolve_layer(model, layer)
        gradient = any(method.needs_gradient for method in methods)
        activations, outputs = run_with_layer(model, chosen, images, branch=settings.branch, gradient=gradient)
        outputs = _check_outputs(outputs, len(images))
        readings = _find_readings(methods, outputs.detach(), references, settings.classifier)
        passes = Passes(model, chosen, images, activations, outputs, tuple(readings.values()), settings)
        work = []
        for method in methods:
            reading = readings.get((method.target, method.reference))
            work.append((method, Probe(passes, reading, partial=settings.certifies and not method.needs_scores)))
        if settings.tolerance is not None:
            _score_until(settings.tolerance, passes, [pair for pair in work if pair[0].needs_scores])
        return [_finish(method, probe) for method, probe in work]


def _score_until(tolerance: float, passes: Passes, scoring: Sequence[tuple[Method, Probe]]) -> None:
    """Score a tenth of the budget at a time, until every method is within the tolerance on every image.

    An image that is there takes no more forwards. The tenths do not depend on the chunks, so the result does not.
    """
    unsettled = torch.ones(len(passes.images), dtype=torch.bool, device=passes.images.device)
    for tenth in range(1, 11) if scoring else ():
        passes.score(passes.most_energetic(passes.settings.budget * tenth / 10) & unsettled[:, None])
        bounds = [_finish(method, probe).bound for method, probe in scoring]
        unsettled &= torch.stack(bounds).amax(0) > tolerance
        if not unsettled.any():
            return


def _finish(method: Method, probe: Probe) -> Explanation:
    """The map of one method, from the passes that all of them share, and its bound where one is asked for."""
    passes = probe.passes
    alpha = method.weighting(probe)
    cam = combine(alpha, probe.activations)
    cam = cam.relu() if method.rectify else cam
    if not cam.isfinite().all():
        raise ValueError(f"{method.name} gave NaN or infinite values: check the baseline, or choose a wider precision")
    unread = cam.new_full((len(cam),), torch.nan)
    saliency = to_saliency(cam, probe.images.shape[-2:], method.normalise)
    return Explanation(
        saliency=saliency,
        cam=cam,
        weights=alpha if alpha.dim() == 2 else None,
        target=unread if probe.reading is None else probe.reading(passes.outputs.detach()),
        flat=is_flat(cam),
        layer=layer_name(passes.model, passes.layer),
        scores=masked_scores(probe) if method.needs_scores else None,
        scored=passes.masked[probe.reading].scored & passes.live if method.needs_scores else None,
        bound=_bound(method, probe, saliency) if method.needs_scores and passes.settings.certifies else None,
    )


def _bound(method: Method, probe: Probe, saliency: Tensor) -> Tensor:
    """How far the map can be from the one of all channels' scores -> (N,)."""
    masked = probe.passes.masked[probe.reading]
    limits = score_interval(method.target, masked.scores, masked.scored, masked.baseline)
    low, high = map(method.weighting.growth, limits)
    return certified_bound(saliency, probe.activations, low, high, method.rectify)


def combine(alpha: Tensor, activations: Tensor) -> Tensor:
    """sum_k alpha_k A^k for alpha (N, C) or (N, C, h, w); a map (N, h, w) is passed on. -> (N, h, w)."""
    if alpha.dim() == 3:
        return alpha
    if alpha.dim() == 2:
        return torch.einsum("nc,nchw->nhw", alpha.to(activations.dtype), activations)
    return (alpha * activations).sum(1)


def to_saliency(cam: Tensor, size: tuple[int, int], normalise: bool = True) -> Tensor:
    """Norm(Up(cam)) in float32; upsampled first, so that the maximum is 1 on the image's own grid.

    Args:
        cam: (N, h, w) raw maps.
        size: (H, W) of the image.
        normalise: min-max every map; a flat one becomes zeros.

    Returns:
        (N, H, W) float32.
    """
    up = upsample(at_least_float32(cam), size)
    return (min_max(up.masked_fill(is_flat(cam)[:, None, None], 0)) if normalise else up).float()


def is_flat(maps: Tensor) -> Tensor:
    """Maps (N, h, w) whose span is no more than rounding -> (N,) bool.

    Judged before upsampling: interpolating a constant leaves rounding noise that min-max would blow up.
    """
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    return high - low <= 4 * torch.finfo(maps.dtype).eps * maps.abs().amax((1, 2))


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a float tensor, normalised as the model wants it, got {kind}")
    if images.dim() != 4 or len(images) == 0:
        raise ValueError(f"images must have the shape (N, 3, H, W) with N > 0, got {tuple(images.shape)}")
    bad = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"images {bad} hold NaN or infinite values: check how they were read and normalised")


def _check_outputs(outputs: object, n: int, source: str = "model") -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"the {source} must return one tensor (N, D), got {type(outputs).__name__}; wrap it in a module that "
            "returns the feature vector or the logits"
        )
    if outputs.dim() != 2 or len(outputs) != n:
        raise ValueError(
            f"the {source} must return one vector an image, (N, D) with N={n}, got {tuple(outputs.shape)}; pool or "
            "flatten its output first"
        )
    with torch.enable_grad():  # widening half precision must not cut the graph
        outputs = at_least_float32(outputs)
    if not outputs.isfinite().all():
        raise ValueError(f"the {source} returned NaN or infinite values for these images")
    return outputs


def _find_readings(
    methods: Sequence[Method],
    outputs: Tensor,
    references: Mapping[Reference | None, Tensor | None],
    classifier: nn.Module | None,
) -> dict[tuple[Target, Reference], Reading]:
    """What the methods read off the outputs; methods of the same target and kind of reference share a reading."""
    readings: dict[tuple[Target, Reference], Reading] = {}
    for method in methods:
        reference = _find_reference(method, outputs, references.get(method.reference), classifier)
        if method.target is not None:
            head = classifier if method.reference == "class" else None
            readings.setdefault((method.target, method.reference), Reading(method.target, reference, head))
    return readings


def _find_reference(
    method: Method, outputs: Tensor, reference: Tensor | None, classifier: nn.Module | None
) -> Tensor | None:
    """The target's reference, one row per image, checked against what the method needs."""
    if method.reference == "class":
        logits = outputs if classifier is None else _logits(classifier, outputs)
        return _check_classes(logits.argmax(1) if reference is None else reference, logits)
    if method.reference == "other":
        return _check_features(method, reference, outputs)
    if reference is not None:
        raise ValueError(
            f"{method.name} takes no reference"
            + (": its reference is the image itself" if method.reference == "self" else "")
            + "; for another image use ram, grad-ram, cg-ram or score-cg-ram"
        )
    if method.target is projection and method.needs_gradient and _all_unit_norm(outputs):
        raise ValueError(
            f"the model L2-normalises its features, |f(X)| = 1 for every image, so {method.name} is identically "
            "zero: pass a model that returns the feature before the normalisation, or use score-fam"
        )
    return outputs if method.reference == "self" else None


def _logits(classifier: nn.Module, features: Tensor) -> Tensor:
    try:
        logits = classify(classifier, features)
    except RuntimeError as error:
        raise ValueError(
            f"classifier must map the model's features (N, {features.shape[1]}) to logits (N, K): {error}"
        ) from error
    return _check_outputs(logits, len(features), "classifier")


def _all_unit_norm(features: Tensor) -> bool:
    return bool(((features.norm(dim=1) - 1).abs() < 1e-4).all())


def _check_classes(classes: Tensor, logits: Tensor) -> Tensor:
    classes = torch.as_tensor(classes, device=logits.device)
    n, k = logits.shape
    if classes.is_floating_point() or classes.dtype == torch.bool or classes.shape != (n,):
        raise ValueError(f"reference must be ({n},) class indices, got {tuple(classes.shape)} {classes.dtype}")
    if ((classes < 0) | (classes >= k)).any():
        raise ValueError(f"class indices must lie in 0..{k - 1}, got {classes.tolist()}")
    return classes.long().clone()  # a tensor made under inference_mode cannot take part in a graph


def _check_features(method: Method, reference: Tensor | None, outputs: Tensor) -> Tensor:
    if reference is None:
        raise ValueError(
            f"{method.name} compares with another image: pass its features (N, D) as `reference` (`other` in "
            "explain_all). For an explanation without another image use grad-fam or score-fam"
        )
    reference = torch.as_tensor(reference)
    if reference.shape != outputs.shape:
        raise ValueError(f"reference must have the shape {tuple(outputs.shape)}, got {tuple(reference.shape)}")
    reference = reference.to(outputs).clone()
    if not reference.isfinite().all() or (reference.norm(dim=1) == 0).any():
        raise ValueError("reference holds NaN, infinite values or a zero vector")
    return reference
