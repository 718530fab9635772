"""Table 1: what one explanation costs, ours and the peers' in the same run on the same network.

The peers (captum, torchcam, grad-cam) are asked for the same thing: the gradient of |f(X)|, or masked
forwards scored by the cosine to f(X). They are test dependencies; a peer that is not installed has no row.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fam_lib import paths
from fam_lib.capture import evaluating, run_with_layer
from fam_lib.explain import explain
from fam_lib.passes import first_with_equal_mask
from fam_lib.store import key, write_json
from fam_lib.weights import state_digest

CODE_VERSION = 3
REPEATS = 3
PAPER_SECONDS = {"grad-fam": 0.05, "score-fam": 9.69}  # Table 1: ResNet-50, 256 x 128, Tesla P40

Run = Callable[[], object]


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
    return lambda: gradcam.attribute(image, target=0, relu_attributions=True)


def _torchcam_grad_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from torchcam.methods import GradCAM

    wrapped = _Norm(model)

    def run() -> object:
        with GradCAM(wrapped, layer, input_shape=tuple(image.shape[1:])) as extractor:
            return extractor(0, wrapped(image))

    return run


def _grad_cam_grad_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from pytorch_grad_cam import GradCAM

    def run() -> object:
        with GradCAM(model=model, target_layers=[layer]) as cam:
            return cam(input_tensor=image, targets=[lambda output: output.norm()])

    return run


def _torchcam_score_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from torchcam.methods import ScoreCAM

    reference = _feature(model, image)

    def run() -> object:
        with torch.no_grad(), ScoreCAM(model, layer, input_shape=tuple(image.shape[1:])) as extractor:
            return extractor(scores=model(image), targets=lambda output: F.cosine_similarity(output, reference, 0))

    return run


def _grad_cam_score_fam(model: nn.Module, image: Tensor, layer: nn.Module) -> Run:
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam import score_cam as module

    # The package's progress bar cannot be turned off; this replaces the name in its module only.
    module.tqdm = SimpleNamespace(tqdm=lambda batches, *_args, **_options: batches)
    reference = _feature(model, image)

    def run() -> object:
        with ScoreCAM(model=model, target_layers=[layer]) as cam:
            return cam(input_tensor=image, targets=[lambda output: F.cosine_similarity(output, reference, 0)])

    return run


PEERS: dict[tuple[str, str], tuple[str, Callable[[nn.Module, Tensor, nn.Module], Run]]] = {
    ("grad-fam", "captum"): ("captum", _captum_grad_fam),
    ("grad-fam", "torchcam"): ("torchcam", _torchcam_grad_fam),
    ("grad-fam", "grad-cam"): ("pytorch_grad_cam", _grad_cam_grad_fam),
    ("score-fam", "torchcam"): ("torchcam", _torchcam_score_fam),
    ("score-fam", "grad-cam"): ("pytorch_grad_cam", _grad_cam_score_fam),
}


@torch.no_grad()
def _feature(model: nn.Module, image: Tensor) -> Tensor:
    return model(image)[0]


def runs(model: nn.Module, image: Tensor, layer: nn.Module) -> dict[tuple[str, str], Run]:
    """What is timed: (method, library) -> a call that explains the image once. The model must be in eval mode."""
    ours: dict[tuple[str, str], Run] = {
        ("forward", "torch"): lambda: _feature(model, image),
        ("uniform", "fam_lib"): lambda: explain(model, image, "uniform", layer),
        ("grad-fam", "fam_lib"): lambda: explain(model, image, "grad-fam", layer),
        ("score-fam", "fam_lib"): lambda: explain(model, image, "score-fam", layer),
    }
    installed = {name: make for name, (module, make) in PEERS.items() if find_spec(module)}
    return ours | {name: make(model, image, layer) for name, make in installed.items()}


def measure(model: nn.Module, image: Tensor, layer: nn.Module, repeats: int = REPEATS) -> dict[str, list[float]]:
    """Seconds of every run, the runs interleaved so that a slow moment of the machine hits all of them.

    Returns:
        "method library" -> its seconds, one per repeat, after one warm-up of the cheap ones.
    """
    with evaluating(model):
        todo = runs(model, image, layer)
        seconds: dict[str, list[float]] = {" ".join(name): [] for name in todo}
        for name, run in todo.items():
            if name[0] != "score-fam":
                run()
        for _ in range(repeats):
            for name, run in todo.items():
                seconds[" ".join(name)].append(_timed(run, image.device))
    return seconds


def _timed(run: Run, device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    run()
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> str:
    """The device in words, without the machine's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def table1(model: nn.Module, image: Tensor, layer: nn.Module | None = None, cache: Path | None = None) -> pd.DataFrame:
    """Table 1 for a network and one image (1, 3, H, W); measured once, then read from the cache.

    A time never repeats to the digit: without the cache every run would change the table.

    Returns:
        Columns method, library, seconds (median), seconds_min, seconds_max, masked_forwards (ours: distinct masks
        of live channels), device, paper_seconds.
    """
    layer, image = layer or model.layer, image.to(next(model.parameters()).device)
    name = key(
        "table1", CODE_VERSION, state_digest(model), getattr(model, "feature", ""), list(image.shape),
        [name for name, module in model.named_modules() if module is layer], machine(image.device),
    )  # fmt: skip
    path = (cache or paths.CACHE) / "benchmarks" / f"{name}.json"
    if not path.exists():
        write_json(path, measure(model, image, layer))
    seconds = json.loads(path.read_text(encoding="utf-8"))
    forwards = _distinct_masks(model, image, layer)
    return pd.DataFrame([_row(entry, times, forwards, image.device) for entry, times in seconds.items()])


def _row(entry: str, times: list[float], forwards: tuple[int, int], device: torch.device) -> dict[str, object]:
    method, library = entry.split(" ")
    distinct, channels = forwards
    masked = None if method != "score-fam" else distinct if library == "fam_lib" else channels
    return {
        "method": method,
        "library": library,
        "seconds": median(times),
        "seconds_min": min(times),
        "seconds_max": max(times),
        "masked_forwards": masked,
        "device": machine(device),
        "paper_seconds": PAPER_SECONDS.get(method) if library == "fam_lib" else None,
    }


def _distinct_masks(model: nn.Module, image: Tensor, layer: nn.Module) -> tuple[int, int]:
    with evaluating(model):
        activations = run_with_layer(model, layer, image)[0]
    live = activations.amax((2, 3)) > activations.amin((2, 3))
    return len(first_with_equal_mask(activations)[live].unique()), live.numel()


def main(arguments: list[str] | None = None) -> None:
    """Measure anew and print, for ``make bench``: an ImageNet EfficientNet-Lite0 on a photograph."""
    from fam_lib.photographs import load_photographs
    from fam_lib.weights import imagenet_lite0

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--size", type=int, default=128, help="side of the image in pixels")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    model = imagenet_lite0(0)
    image = load_photographs(["cat"], options.size) * 2 - 1
    seconds = measure(model, image, model.bn2, options.repeats)
    forwards = _distinct_masks(model, image, model.bn2)
    frame = pd.DataFrame([_row(entry, times, forwards, image.device) for entry, times in seconds.items()])
    print(frame.drop(columns=["paper_seconds"]).to_string(index=False))
