"""Several methods in one call: the maps of the one-by-one calls, at the price of the shared passes."""

import math

import pytest
import torch
from torch import nn

from fam_lib import METHODS, Method, explain, explain_all
from fam_lib.targets import cosine
from fam_lib.weighting import masked_scores
from toys import ConvHead, GapNet, assert_untouched, census, pictures, seeded

SCORE_METHODS = ["score-fam", "score-norm-fam", "score-ram", "score-cg-ram", "score-cam", "score-cam-logit"]


def case(channels=6, classes=5):
    """A feature network with a BN neck, a classifier behind it, images, and features of other images."""
    model, images = seeded(GapNet(channels, neck=True), 4), pictures(3)
    classifier = seeded(nn.Sequential(nn.BatchNorm1d(channels), nn.Linear(channels, classes)), 5)
    return model, classifier, images, model(images).detach().roll(1, 0)


def own_inputs(method, classifier, other):
    """Reference and options of the one-by-one call."""
    kind = METHODS[method].reference
    return {"reference": other if kind == "other" else None, "classifier": classifier if kind == "class" else None}


def assert_same(ours, theirs, atol=1e-6):
    for name in ("saliency", "cam", "weights", "target", "scores"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=atol, equal_nan=True, msg=name)
    assert torch.equal(ours.flat, theirs.flat)


@pytest.mark.parametrize("layer", ["relu", "conv"])
def test_all_methods_at_once_give_the_explanations_of_one_by_one_calls(layer):
    model, classifier, images, other = case()
    methods = list(METHODS) if layer == "relu" else [m for m in METHODS if m not in ("cam", "ram", "fam")]
    together = explain_all(model, images, methods, layer, other=other, classifier=classifier, seed=3)
    assert list(together) == methods
    for method in methods:
        alone = explain(model, images, method, layer, seed=3, **own_inputs(method, classifier, other))
        assert_same(together[method], alone)


def test_a_head_with_its_own_gradients_gives_the_same_too():
    model, images = seeded(ConvHead(), 3), pictures(3)
    classifier, other = seeded(nn.Linear(7, 4)), model(images).detach().roll(1, 0)
    methods = [m for m in METHODS if m not in ("cam", "ram", "fam")]
    together = explain_all(model, images, methods, "body", other=other, classifier=classifier)
    for method in methods:
        assert_same(together[method], explain(model, images, method, "body", **own_inputs(method, classifier, other)))


class Classifying(nn.Module):
    """The features of a network with a BN neck, taken behind the neck or before it, and the logits made of them."""

    def __init__(self, model, head):
        super().__init__()
        self.model, self.head = model, head

    def forward(self, images):
        return self.head(self.model(images))


@pytest.mark.parametrize("after_bn", [True, False])
def test_the_classifier_route_equals_a_network_that_returns_logits(after_bn):
    model, images, classes = seeded(ConvHead(), 3), pictures(2), torch.tensor([3, 1])
    neck, linear = seeded(nn.BatchNorm1d(7), 1), seeded(nn.Linear(7, 5), 2)
    features = nn.Sequential(model, neck).eval() if after_bn else model
    head = linear if after_bn else nn.Sequential(neck, linear).eval()
    methods = [name for name, row in METHODS.items() if row.reference == "class" and name != "cam"]
    for given in (None, classes):
        routed = explain_all(features, images, methods, model.body, classes=given, classifier=head)
        whole = Classifying(features, head).eval()
        for method in methods:
            assert_same(routed[method], explain(whole, images, method, model.body, reference=given))


def test_given_classes_are_explained_behind_the_classifier():
    model, classifier, images, _ = case()
    classes = torch.tensor([4, 0, 2])
    result = explain_all(model, images, ["grad-cam", "score-cam"], classes=classes, classifier=classifier)
    logits = classifier(model(images)).detach()
    torch.testing.assert_close(result["grad-cam"].target, logits[torch.arange(3), classes])
    torch.testing.assert_close(result["score-cam"].target, logits.softmax(1)[torch.arange(3), classes])


# ---- what it costs ------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Notes how many images each forward is given."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, images):
        self.seen.append(len(images))
        return self.model(images)


@pytest.mark.parametrize("methods", [["score-fam"], SCORE_METHODS, [*SCORE_METHODS, "grad-fam", "grad-cam", "uniform"]])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_forwards_are_one_of_the_images_one_of_the_baseline_and_each_live_mask_once(methods, batch_size):
    model, classifier, images, other = case()
    model.conv.bias.data[[1, 4]] = -100.0  # these two never fire
    maps = model.relu(model.conv(images)).flatten(2)
    live = sum(len(channel.unique()) > 1 for image in maps for channel in image)
    counting = Counting(model)
    options = {"other": other, "classifier": classifier, "batch_size": batch_size}
    explain_all(counting, images, methods, model.relu, **options)
    assert counting.seen[:2] == [3, 3]
    assert len(counting.seen) == 2 + math.ceil(live / batch_size)
    assert sum(counting.seen[2:]) == live


def test_methods_without_masks_cost_one_forward():
    model, classifier, images, other = case()
    counting = Counting(model)
    methods = ["grad-cam", "layer-ram", "cg-ram", "grad-fam", "grad-fam++", "uniform", "random-map", "all-ones"]
    explain_all(counting, images, methods, model.relu, other=other, classifier=classifier)
    assert counting.seen == [3]


def test_all_ablation_methods_together_cost_what_one_does():
    model, classifier, images, other = case()
    methods = ["ablation-cam", "ablation-ram", "ablation-cg-ram", "ablation-fam", "ablation-cg-fam"]
    costs = []
    for asked in (methods, methods[:1]):
        counting = Counting(model)
        explain_all(counting, images, asked, model.relu, other=other, classifier=classifier)
        costs.append(len(counting.seen))
    assert costs[0] == costs[1]


# ---- scores -------------------------------------------------------------------------------------------


def test_masked_score_methods_carry_their_scores_and_others_none():
    model, classifier, images, other = case()
    result = explain_all(model, images, list(METHODS), "relu", other=other, classifier=classifier)
    assert {name for name, one in result.items() if one.scores is not None} == set(SCORE_METHODS)
    for name in SCORE_METHODS:
        torch.testing.assert_close(result[name].weights, result[name].scores.softmax(1))


def test_several_weightings_share_the_scores_of_one_target():
    raw = Method("raw-cis", masked_scores, cosine, "self")
    sharp = Method("sharp", lambda probe: (masked_scores(probe) / 0.1).softmax(1), cosine, "self")
    model, _, images, _ = case()
    counting = Counting(model)
    result = explain_all(counting, images, ["score-fam", raw, sharp], model.relu, batch_size=100)
    assert len(counting.seen) == 3
    scores = result["score-fam"].scores
    assert torch.equal(result["raw-cis"].weights, scores)
    torch.testing.assert_close(result["sharp"].weights, (scores / 0.1).softmax(1))


# ---- state and bad input ------------------------------------------------------------------------------


def test_model_and_classifier_are_untouched():
    model, classifier, images, other = case()
    model.train(), classifier.train()
    model.neck.eval()
    before = census(model), census(classifier)
    explain_all(model, images, list(METHODS), "relu", other=other, classifier=classifier)
    assert_untouched(before[0], census(model))
    assert_untouched(before[1], census(classifier))


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_model_and_classifier_are_untouched_after_an_error(at):
    class Failing(nn.Linear):
        left = at

        def forward(self, features):
            self.left -= 1
            if self.left == 0:
                raise KeyError("broken on purpose")
            return super().forward(features)

    model, _, images, _ = case()
    classifier = Failing(6, 3)
    model.train(), classifier.train()
    before = census(model), census(classifier)
    with pytest.raises(KeyError, match="broken on purpose"):
        explain_all(model, images, ["score-cam", "grad-cam", "score-fam"], "relu", classifier=classifier, batch_size=4)
    assert_untouched(before[0], census(model))
    assert_untouched(before[1], census(classifier))


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ([], {}, "one or more different names"),
        (["score-fam", "score-fam"], {}, "one or more different names"),
        (["grad-cam", "grad-fam"], {}, "pass classifier="),
        (["score-ram"], {}, "`other` in explain_all"),
        (["grad-cam"], {"classifier": nn.Linear(9, 3)}, r"features \(N, 6\)"),
        (["grad-cam"], {"classifier": nn.Linear(6, 3), "classes": torch.tensor([0, 1, 3])}, r"0\.\.2"),
        (["grad-cam"], {"classifier": nn.Unflatten(1, (2, 3))}, "classifier must return one vector"),
    ],
)
def test_bad_input_gives_one_clear_error(methods, options, message):
    model, _, images, _ = case()
    with pytest.raises(ValueError, match=message):
        explain_all(model, images, methods, "relu", **options)


def test_class_methods_alone_need_no_classifier():
    model, images = seeded(GapNet(classes=4)), pictures(2)
    result = explain_all(model, images, ["grad-cam", "uniform"], "relu")
    assert_same(result["grad-cam"], explain(model, images, "grad-cam", "relu"))


def test_a_classifier_of_other_precision_reads_half_precision_features():
    model, classifier, images, _ = case()
    exact = explain(model, images, "score-cam", "relu", classifier=classifier)
    half = explain(model, images, "score-cam", "relu", classifier=classifier, precision=torch.bfloat16)
    assert half.scores.dtype == torch.float32
    torch.testing.assert_close(half.scores, exact.scores, rtol=0, atol=1e-2)
