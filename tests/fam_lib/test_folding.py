"""Folded copies give the network's own outputs, or the network itself is used; it stays as it was."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import architectures
from fam_lib import explain
from fam_lib.folding import fold_batch_norm
from toys import assert_untouched, census, pictures, seeded


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


class Net(nn.Module):
    """conv -> BN -> ReLU -> GAP."""

    def __init__(self, **options):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, stride=2, **options), nn.BatchNorm2d(6)

    def forward(self, images):
        return self.norm(self.conv(images)).relu().mean((2, 3))


class Shared(Net):
    """One convolution in front of two BN layers: folding either would spoil the other."""

    def __init__(self):
        super().__init__()
        self.other = nn.BatchNorm2d(6)

    def forward(self, images):
        return (self.norm(self.conv(images)) + self.other(self.conv(images))).mean((2, 3))


class Skipping(Net):
    """The convolution's output is used a second time, round the BN."""

    def forward(self, images):
        out = self.conv(images)
        return (self.norm(out) + out).mean((2, 3))


class Detour(Net):
    """The BN is read as an object, not called alone."""

    def forward(self, images):
        return super().forward(images) * self.norm.eps


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"groups": 3}, {"dilation": 2}])
def test_convolution_and_bn_become_the_convolution_of_the_closed_form(options):
    model = seeded(Net(**options))
    folded = fold_batch_norm(model, pictures(1))
    scale = model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()
    bias = 0 if model.conv.bias is None else model.conv.bias
    torch.testing.assert_close(folded.conv.weight, model.conv.weight * scale.view(-1, 1, 1, 1))
    torch.testing.assert_close(folded.conv.bias, (bias - model.norm.running_mean) * scale + model.norm.bias)
    assert isinstance(folded.norm, nn.Identity)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.resnet18(num_classes=7),
        architectures.bottlenecks,
        architectures.mobilenet,
        architectures.efficientnet,
        architectures.HighResolution,
    ],
    ids=["resnet18", "bottlenecks", "mobilenet", "efficientnet", "hrnet"],
)
def test_known_architectures_fold_completely_and_answer_the_same(make):
    torch.manual_seed(0)
    model, images = seeded(make()), pictures(2, (64, 64))
    folded = fold_batch_norm(model, images)
    assert norms(model) > 0
    assert norms(folded) == 0
    expected = model(images)
    torch.testing.assert_close(folded(images), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("make", [Skipping, Detour], ids=["skip", "attribute"])
def test_where_the_copy_would_answer_otherwise_the_model_itself_is_used(make):
    model = seeded(make())
    assert fold_batch_norm(model, pictures(1)) is model


def test_modules_that_run_twice_are_left_alone():
    model, images = seeded(Shared()), pictures(2)
    folded = fold_batch_norm(model, images)
    assert norms(folded) == 2
    torch.testing.assert_close(folded(images), model(images))


def test_models_without_bn_behind_a_convolution_come_back_themselves():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()
    assert fold_batch_norm(model, pictures(1)) is model


def test_the_model_shares_nothing_that_folding_writes():
    model, images = seeded(Net()), pictures(2)
    twin, before = copy.deepcopy(model), census(model)
    folded = fold_batch_norm(model, images)
    assert_untouched(before, census(model))
    assert folded is not model
    assert folded.conv is not model.conv
    torch.testing.assert_close(model(images), twin(images), rtol=0, atol=0)


def test_score_fam_of_a_network_with_bn_is_that_of_plain_forwards(monkeypatch):
    torch.manual_seed(0)
    model, images = seeded(architectures.efficientnet()), pictures(2, (64, 64))
    fast = explain(model, images, "score-fam")
    monkeypatch.setattr("fam_lib.passes.fold_batch_norm", lambda model, _images: model)
    plain = explain(model, images, "score-fam")
    torch.testing.assert_close(fast.scores, plain.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(fast.saliency, plain.saliency, rtol=0, atol=1e-4)


class Forwarding(nn.Module):
    """A wrapper that passes on what is read from it and written to it, as compiled networks do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __setattr__(self, name, value):
        if "_modules" in self.__dict__ and "inner" in self._modules:
            setattr(self.inner, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images):
        return self.inner(images)


class OwnForward(Net):
    """Its forward is an attribute of the object, as those that patch a network leave it."""

    def __init__(self):
        super().__init__()
        self.forward = super().forward


WRAPPED = {
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "compiled inside": lambda net: nn.Sequential(torch.compile(net, backend="eager")),
    "forwarding": Forwarding,
    "forwarding inside": lambda net: nn.Sequential(Forwarding(net)),
}


def all_of(model):
    """What a network consists of, attribute by attribute: whatever was added, removed or replaced is found."""
    return {
        name: {key: dict(value) if isinstance(value, dict) else value for key, value in module.__dict__.items()}
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("method", ["score-fam", "grad-fam", "uniform"])
def test_a_wrapped_network_is_explained_as_itself_and_not_changed(wrap, method):
    net = seeded(Net())
    images = pictures(2)
    expected, output = explain(copy.deepcopy(net), images, method, layer="norm").cam, net(images)
    wrapped = wrap(net)
    name = next(name for name, module in wrapped.named_modules() if module is net.norm)
    before, before_inside = all_of(wrapped), all_of(net)
    result = explain(wrapped, images, method, layer=name)
    torch.testing.assert_close(result.cam, expected, rtol=1e-4, atol=1e-6)
    for now, was in ((all_of(wrapped), before), (all_of(net), before_inside)):
        assert str(now) == str(was)
    assert torch.equal(net(images), output)


def test_a_network_whose_forward_is_an_attribute_is_explained_as_itself():
    net, patched = seeded(Net()), seeded(OwnForward())
    patched.load_state_dict(net.state_dict())
    images = pictures(2)
    expected = explain(net, images, "score-fam", layer="norm").cam
    torch.testing.assert_close(explain(patched, images, "score-fam", layer="norm").cam, expected, rtol=1e-4, atol=1e-6)
