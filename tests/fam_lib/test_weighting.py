"""Every weighting against a closed form, a plain loop or an independent implementation."""

import pickle

import pytest
import torch
import torch.nn.functional as F

from fam_lib import METHODS, Method, Settings, Weighting, explain, explain_all
from fam_lib.capture import run_with_layer
from fam_lib.methods import find_method
from fam_lib.passes import Passes, Reading
from fam_lib.targets import cosine, projection
from fam_lib.weighting import Probe, masked_scores
from toys import ConvHead, GapNet, pictures, seeded

CLOSED = {"rtol": 1e-5, "atol": 1e-6}


def neck_scale(model):
    """s_k of a BN neck, 1 without one."""
    neck = model.neck
    if isinstance(neck, torch.nn.Identity):
        return torch.ones(model.conv.out_channels)
    return neck.weight / (neck.running_var + neck.eps).sqrt()


def gap_case(neck):
    model, images = seeded(GapNet(neck=neck), 1), pictures(3)
    activations = model.relu(model.conv(images)).detach()
    return model, images, activations, model(images).detach(), activations[0, 0].numel()


# ---- closed forms behind GAP and GAP + BN --------------------------------------------------------------


@pytest.mark.parametrize("neck", [False, True])
def test_grad_fam_equals_its_closed_form(neck):
    model, images, a, f, z = gap_case(neck)
    weights = f * neck_scale(model) / (z * f.norm(dim=1, keepdim=True))
    result = explain(model, images, "grad-fam", "relu")
    torch.testing.assert_close(result.weights, weights, **CLOSED)
    torch.testing.assert_close(result.cam, torch.einsum("nk,nkhw->nhw", weights, a).relu(), **CLOSED)
    torch.testing.assert_close(result.target, f.norm(dim=1))


@pytest.mark.parametrize("neck", [False, True])
def test_ram_grad_ram_and_cg_ram_equal_their_closed_forms(neck):
    model, images, a, f, z = gap_case(neck)
    g = f.roll(1, 0)
    g_hat, f_hat, s = F.normalize(g, dim=1), F.normalize(f, dim=1), neck_scale(model)
    ram = torch.einsum("nk,nkhw->nhw", g_hat * s, a)
    cosine = (g_hat * f_hat).sum(1, keepdim=True)
    cg = (g_hat - cosine * f_hat) * s / (z * f.norm(dim=1, keepdim=True))
    torch.testing.assert_close(explain(model, images, "ram", "relu", reference=g).cam, ram, **CLOSED)
    torch.testing.assert_close(explain(model, images, "grad-ram", "relu", reference=g).cam, ram.relu() / z, **CLOSED)
    torch.testing.assert_close(explain(model, images, "cg-ram", "relu", reference=g).weights, cg, **CLOSED)


@pytest.mark.parametrize("neck", [False, True])
def test_fam_is_ram_with_the_image_as_its_own_reference_and_z_times_grad_fam(neck):
    model, images, _, f, z = gap_case(neck)
    fam = explain(model, images, "fam", "relu")
    torch.testing.assert_close(fam.weights, explain(model, images, "ram", "relu", reference=f).weights)
    torch.testing.assert_close(fam.cam, z * explain(model, images, "grad-fam", "relu").cam, **CLOSED)


@pytest.mark.parametrize("neck", [False, True])
def test_cam_reads_the_class_weights_of_equation_2_and_is_z_times_grad_cam(neck):
    model, images = seeded(GapNet(neck=neck, classes=4)), pictures(3)
    classes = torch.tensor([2, 0, 3])
    cam = explain(model, images, "cam", "relu", reference=classes)
    torch.testing.assert_close(cam.weights, model.head.weight[classes] * neck_scale(model), **CLOSED)
    a = model.relu(model.conv(images))
    torch.testing.assert_close(cam.cam, torch.einsum("nk,nkhw->nhw", cam.weights, a), **CLOSED)
    grad_cam = explain(model, images, "grad-cam", "relu", reference=classes)
    torch.testing.assert_close(cam.cam.relu(), grad_cam.cam * a[0, 0].numel(), **CLOSED)


def test_the_cosine_to_oneself_has_no_gradient():
    model, images, _, _, _ = gap_case(neck=False)
    fam, cg_fam = explain(model, images, "grad-fam", "relu"), explain(model, images, "cg-fam", "relu")
    assert cg_fam.weights.norm() < 1e-6 * fam.weights.norm()


def test_head_methods_refuse_a_head_that_is_not_affine():
    model = seeded(ConvHead())
    with pytest.raises(ValueError, match="affine in the global average"):
        explain(model, pictures(), "fam", "conv")


# ---- independent implementations of the gradient weightings -------------------------------------------


class Norm(torch.nn.Module):
    """|f(X)| as a one-logit classifier, so that class-based libraries can explain an embedding."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images).norm(dim=1, keepdim=True)


class CosineTo(torch.nn.Module):
    def __init__(self, model, reference):
        super().__init__()
        self.model, self.reference = model, reference

    def forward(self, images):
        return F.cosine_similarity(self.model(images), self.reference, dim=1).unsqueeze(1)


def embedding_case():
    model, images = seeded(ConvHead(), 3), pictures(3)
    return model, images, model(images).detach().roll(1, 0)


# One test a library: each takes a second and more to import, and so it does in one of pytest's workers only.


def test_grad_fam_cg_ram_and_grad_cam_agree_with_captum():
    from captum.attr import LayerGradCam

    def captum(model, layer, images, target):
        theirs = LayerGradCam(model, layer).attribute(images, target=target, relu_attributions=True)
        return theirs.squeeze(1).detach()

    model, images, reference = embedding_case()
    ours = explain(model, images, "grad-fam", "body").cam
    torch.testing.assert_close(ours, captum(Norm(model), model.body, images, 0), **CLOSED)
    ours = explain(model, images, "cg-ram", "body", reference=reference).cam
    torch.testing.assert_close(ours, captum(CosineTo(model, reference), model.body, images, 0), **CLOSED)

    classifier, classes = seeded(ConvHead(classes=4)), torch.tensor([1, 3, 0])
    ours = explain(classifier, images, "grad-cam", "conv", reference=classes).cam
    torch.testing.assert_close(ours, captum(classifier, classifier.conv, images, classes), **CLOSED)


def test_grad_fam_and_layer_fam_agree_with_torchcam_on_the_norm():
    from torchcam.methods import GradCAM, LayerCAM

    model, images, _ = embedding_case()
    wrapped = Norm(model)
    for method, library in (("grad-fam", GradCAM), ("layer-fam", LayerCAM)):
        with library(wrapped, model.body) as extractor:
            theirs = extractor(0, wrapped(images), normalized=False)[0]
        torch.testing.assert_close(explain(model, images, method, "body").cam, theirs.detach(), **CLOSED)


def test_other_gradient_weightings_and_ablation_cam_agree_with_grad_cam():
    from pytorch_grad_cam import AblationCAM, GradCAMPlusPlus, XGradCAM

    # The package adds 1e-6 to denominators of the size of the squared gradient: large features drown it.
    model, images, _ = embedding_case()
    model.register_forward_hook(lambda _m, _i, output: output.double() * 1e3)
    for method, library in (("grad-fam++", GradCAMPlusPlus), ("xgrad-fam", XGradCAM)):
        theirs = grad_cam_weights(library, Norm(model), model.body, images)
        ours = explain(model, images, method, "body").weights
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)

    model, images = seeded(ConvHead(classes=3), 5), pictures(2)
    # The package sets a channel to zero only where the layer's minimum is zero: behind a ReLU.
    theirs = grad_cam_weights(AblationCAM, model, model.body, images)
    ours = explain(model, images, "ablation-cam", "body", reference=torch.zeros(2, dtype=torch.long))
    signs = ours.target.sign().unsqueeze(1)  # the package divides by Y, we by |Y|
    torch.testing.assert_close(ours.weights * signs, theirs.view(2, -1), rtol=1e-4, atol=1e-5)


def grad_cam_weights(library, model, layer, images):
    """The channel weights that the grad-cam package computes for the first output."""
    seen = []

    class Recording(library):
        def get_cam_weights(self, *args, **kwargs):
            seen.append(super().get_cam_weights(*args, **kwargs))
            return seen[-1]

    with Recording(model=model, target_layers=[layer]) as cam:
        cam(input_tensor=images, targets=[lambda output: output[0]] * len(images))
    return torch.as_tensor(seen[0])


def test_ablation_fam_is_proportional_to_grad_cams_ablation_of_the_norm():
    # Behind GAP the projection on a fixed v is linear in A, so ablating channel k costs v_k GAP(A_k) / |v|.
    model, images, a, f, _ = gap_case(neck=False)
    expected = f * a.mean((2, 3)) / f.norm(dim=1, keepdim=True) ** 2
    torch.testing.assert_close(explain(model, images, "ablation-fam", "relu").weights, expected, **CLOSED)


@pytest.mark.parametrize("inplace", [False, True])
def test_ablation_works_where_a_connection_goes_round_the_layer(inplace):
    class Concatenating(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, stride=4, padding=1)
            self.act = torch.nn.SiLU(inplace=inplace)  # not idempotent: applied twice it would show

        def forward(self, x):
            return torch.cat([self.act(self.conv(x)), F.avg_pool2d(x, 4)], 1).mean((2, 3))

    model, images = seeded(Concatenating()), pictures(2)
    weights = explain(model, images, "ablation-cg-fam", "conv").weights
    f = model(images)
    for k in range(4):
        ablated = f.clone()
        a = model.conv(images)
        a[:, k] = 0
        ablated[:, :4] = F.silu(a).mean((2, 3))
        torch.testing.assert_close(weights[:, k], 1 - F.cosine_similarity(ablated, f), **CLOSED)


# ---- masked forwards against a plain loop over the channels -------------------------------------------


@torch.no_grad()
def loop_over_channels(model, layer, images, score):
    """Algorithm 1 as a reader would type it: one mask, one forward. Returns S (N, C) and the final map."""
    from torchvision.transforms.functional import gaussian_blur as torchvision_blur

    activations, output = run_with_layer(model, layer, images)
    baseline = torchvision_blur(images, [51, 51], [50.0, 50.0])
    scores = torch.zeros(activations.shape[:2])
    for n in range(len(images)):
        x, b = images[n : n + 1], baseline[n : n + 1]
        for k in range(activations.shape[1]):
            up = F.interpolate(activations[n : n + 1, k : k + 1], x.shape[-2:], mode="bilinear")
            mask = (up - up.min()) / (up.max() - up.min()) if up.max() > up.min() else torch.zeros_like(up)
            scores[n, k] = score(model(x * mask + b * (1 - mask)), n) - score(model(b), n)
    cam = sum(scores.softmax(1)[:, k, None, None] * activations[:, k] for k in range(activations.shape[1]))
    up = F.interpolate(cam.relu().unsqueeze(1), images.shape[-2:], mode="bilinear").squeeze(1)
    low, high = up.amin((1, 2), keepdim=True), up.amax((1, 2), keepdim=True)
    return scores, (up - low) / (high - low)


def scores_of(model, layer, images, method, reference):
    with torch.no_grad():
        activations, outputs = run_with_layer(model, layer, images)
        reading = Reading(find_method(method).target, reference)
        passes = Passes(model, layer, images, activations, outputs, (reading,), Settings(batch_size=4))
        return masked_scores(Probe(passes, reading))


def test_score_fam_agrees_with_the_loop():
    model, images, _ = embedding_case()
    f = model(images).detach()
    scores, saliency = loop_over_channels(
        model, model.conv, images, lambda out, n: F.cosine_similarity(out, f[n : n + 1]).item()
    )
    torch.testing.assert_close(scores_of(model, model.conv, images, "score-fam", f), scores, rtol=0, atol=1e-5)
    result = explain(model, images, "score-fam", "conv")
    torch.testing.assert_close(result.saliency, saliency, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.weights.sum(1), torch.ones(3))


def test_score_cam_agrees_with_the_loop():
    model, images = seeded(ConvHead(classes=4)), pictures(3)
    classes = model(images).argmax(1)
    scores, saliency = loop_over_channels(
        model, model.conv, images, lambda out, n: out.softmax(1)[0, classes[n]].item()
    )
    theirs = scores_of(model, model.conv, images, "score-cam", classes)
    torch.testing.assert_close(theirs, scores, rtol=0, atol=1e-5)
    result = explain(model, images, "score-cam", "conv")
    torch.testing.assert_close(result.saliency, saliency, rtol=0, atol=1e-4)


def test_score_cam_of_the_logit_agrees_with_the_loop():
    model, images = seeded(ConvHead(classes=4)), pictures(3)
    classes = torch.tensor([2, 0, 3])
    scores, saliency = loop_over_channels(model, model.conv, images, lambda out, n: out[0, classes[n]].item())
    result = explain(model, images, "score-cam-logit", "conv", reference=classes)
    torch.testing.assert_close(result.scores, scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.saliency, saliency, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.target, model(images).detach()[torch.arange(3), classes])


def test_score_cam_of_the_logit_grows_with_the_scale_of_the_classifier_and_the_probability_has_a_limit():
    # Logits 50 times as large make S of the logit 50 times as large; probabilities differ by at most 1.
    model, images = seeded(ConvHead(classes=4)), pictures(3)
    before = explain_all(model, images, ["score-cam", "score-cam-logit"], "conv", classes=torch.tensor([2, 0, 3]))
    model.head.weight.data *= 50
    model.head.bias.data *= 50
    after = explain_all(model, images, ["score-cam", "score-cam-logit"], "conv", classes=torch.tensor([2, 0, 3]))
    torch.testing.assert_close(
        after["score-cam-logit"].scores, 50 * before["score-cam-logit"].scores, rtol=1e-4, atol=1e-4
    )
    spread = {name: (one.weights.amax(1) / one.weights.amin(1)).max().item() for name, one in after.items()}
    assert spread["score-cam"] <= 2.7183 < spread["score-cam-logit"]  # e


def test_a_dead_channel_scores_exactly_zero_and_costs_no_forward():
    model, images = seeded(GapNet(), 2), pictures(2)
    model.conv.bias.data[[1, 4]] = -100.0  # these two never fire
    model.conv.weight.data[2] = 0
    model.conv.bias.data[2] = 0.7  # and this one is constant, not zero
    rows = []
    handle = model.register_forward_hook(lambda _m, inputs, _o: rows.append(len(inputs[0])))
    scores = scores_of(model, model.relu, images, "score-fam", model(images).detach())
    handle.remove()
    assert scores[:, [1, 2, 4]].tolist() == [[0.0] * 3] * 2
    # two calls before the loop (the reference and A), one for the baseline, then live masks only
    assert sum(rows[3:]) == 2 * 3
    assert max(rows[3:]) <= 4


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_number_of_masks_in_a_forward_does_not_matter(batch_size):
    model, images, _ = embedding_case()
    reference = explain(model, images, "score-fam", "conv", batch_size=7)
    result = explain(model, images, "score-fam", "conv", batch_size=batch_size)
    torch.testing.assert_close(result.weights, reference.weights, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.saliency, reference.saliency, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_forwards_keep_float32_scores(dtype):
    model, images, _ = embedding_case()
    exact = explain(model, images, "score-fam", "conv")
    half = explain(model, images, "score-fam", "conv", precision=dtype)
    assert half.weights.dtype == torch.float32
    assert half.weights.unique().numel() == half.weights.numel()  # half cosines would fall together
    torch.testing.assert_close(half.saliency, exact.saliency, rtol=0, atol=5e-3)


# ---- weightings of one's own --------------------------------------------------------------------------


def gradient_norm(probe):
    """The length of the gradient of each channel."""
    return probe.gradient.norm(dim=(2, 3))


def positive(probe):
    return masked_scores(probe).relu()


def test_a_weighting_that_reads_the_gradient_says_so():
    model, images, _, f, z = gap_case(neck=False)
    mine = Method("norm-fam", Weighting(gradient_norm, gradient=True), projection, "self")
    assert (mine.needs_gradient, mine.needs_scores) == (True, False)
    # Behind GAP the gradient of |f| is f_k / (Z |f|) at every one of Z positions.
    expected = f.abs() / f.norm(dim=1, keepdim=True) / z**0.5
    torch.testing.assert_close(explain(model, images, mine, "relu").weights, expected, **CLOSED)
    undeclared = Method("norm-fam", gradient_norm, projection, "self")
    with pytest.raises(ValueError, match=r"has to say so: Weighting\(function, gradient=True\)"):
        explain(model, images, undeclared, "relu")


def test_a_weighting_that_says_how_it_grows_with_the_scores_has_scores_and_a_bound():
    model, images, _ = embedding_case()
    mine = Method("positive-fam", Weighting(positive, growth=torch.relu), cosine, "self")
    assert (mine.needs_gradient, mine.needs_scores) == (False, True)
    both = explain_all(model, images, [mine, "score-fam"], "conv")
    assert torch.equal(both["positive-fam"].scores, both["score-fam"].scores)
    assert torch.equal(both["positive-fam"].weights, both["score-fam"].scores.relu())
    assert both["positive-fam"].bound is None
    half = explain(model, images, mine, "conv", budget=0.5)
    assert torch.equal(half.scored.sum(1), (both["positive-fam"].scored.sum(1) / 2).ceil().long())
    off = (half.saliency - both["positive-fam"].saliency).abs().amax((1, 2))
    assert (off <= half.bound + 1e-4).all()


class Sharper:
    """A callable object with attributes of its own, one of which a Weighting has too."""

    def __init__(self, alpha):
        self.alpha = alpha

    def __call__(self, probe):
        return (masked_scores(probe) / self.alpha).softmax(1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (positive, torch.relu),
        (lambda probe: masked_scores(probe).exp(), torch.exp),
        (Sharper(0.1), lambda scores: (scores / 0.1).softmax(1)),
    ],
    ids=["function", "lambda", "object"],
)
def test_a_plain_function_or_a_callable_object_is_a_weighting_that_needs_nothing(function, expected):
    model, images, _ = embedding_case()
    mine = Method("mine", function, cosine, "self")
    assert isinstance(mine.weighting, Weighting) and mine.weighting.alpha is function
    assert (mine.needs_gradient, mine.needs_scores) == (False, False)
    both = explain_all(model, images, [mine, "score-fam"], "conv")
    torch.testing.assert_close(both["mine"].weights, expected(both["score-fam"].scores))
    assert both["mine"].scores is None and both["mine"].scored is None


def test_a_weighting_keeps_the_name_and_the_text_of_its_function():
    mine = Weighting(gradient_norm, gradient=True)
    assert (mine.__name__, mine.__doc__) == ("gradient_norm", "The length of the gradient of each channel.")
    assert Method("mine", mine).weighting is mine
    assert (masked_scores.__name__, masked_scores.gradient) == ("masked_scores", False)


def test_methods_travel_to_other_processes():
    for row in METHODS.values():
        assert pickle.loads(pickle.dumps(row)) == row
    mine = pickle.loads(pickle.dumps(Method("mine", Weighting(gradient_norm, gradient=True), projection, "self")))
    assert mine.weighting.alpha is gradient_norm and mine.needs_gradient


def test_the_methods_that_need_a_gradient_or_scores_are_those_of_the_table():
    gradient = {name for name, row in METHODS.items() if row.needs_gradient}
    assert {name.split("-")[0] for name in gradient} == {"grad", "xgrad", "layer", "cg"}
    assert {name for name, row in METHODS.items() if row.needs_scores} == {n for n in METHODS if "score" in n}
    neither = set(METHODS) - gradient - {n for n in METHODS if "score" in n}
    controls = {"uniform", "random-weights", "random-map", "centre-prior", "all-ones"}
    assert neither == controls | {"cam", "ram", "fam"} | {n for n in METHODS if "ablation" in n}


# ---- controls and invariances -------------------------------------------------------------------------


def test_uniform_is_the_mean_activation_for_every_target():
    model, images, a, _, _ = gap_case(neck=False)
    torch.testing.assert_close(explain(model, images, "uniform", "relu").cam, a.mean(1))


def test_all_ones_keeps_everything_and_the_centre_prior_peaks_in_the_middle():
    model, images = seeded(GapNet()), pictures(1, (64, 64))
    assert explain(model, images, "all-ones", "relu").saliency.unique().tolist() == [1.0]
    prior = explain(model, images, "centre-prior", "relu").cam[0]
    torch.testing.assert_close(prior, prior.flip(0))
    torch.testing.assert_close(prior, prior.T)
    assert prior[7:9, 7:9].min() == prior.max()
    torch.testing.assert_close(prior[7, 15] / prior[7, 7], torch.exp(torch.tensor(-(0.46875**2 - 0.03125**2) * 8)))


@pytest.mark.parametrize("method", list(METHODS))
def test_an_image_gets_the_same_map_alone_and_in_company(method):
    row = METHODS[method]
    model = seeded(GapNet(neck=True, classes=5 if row.reference == "class" else 0), 4)
    images = pictures(4)
    reference = model(images).detach().roll(1, 0) if row.reference == "other" else None
    together = explain(model, images, method, "relu", reference=reference, seed=3)
    for n in range(4):
        own = None if reference is None else reference[n : n + 1]
        alone = explain(model, images[n : n + 1], method, "relu", reference=own, seed=3)
        if method != "cg-fam":  # its map is rounding noise
            torch.testing.assert_close(alone.saliency[0], together.saliency[n], rtol=0, atol=1e-5)


def test_the_random_controls_follow_their_seed():
    model, images = seeded(GapNet()), pictures(2)
    for method in ("random-map", "random-weights"):
        first, again, other = (explain(model, images, method, "relu", seed=s).cam for s in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert not torch.equal(first[0], first[1])
