"""A Re-ID network that others trained, from an ONNX file: it retrieves, but knows no training identity.

What reads the file, onnx2torch, is no dependency of the workbook: its one use is a network that does not ship.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ForeignModel(nn.Module):
    """What looks like a :class:`workbook.reid.model.ReidModel` to all that explains and measures it.

    Attributes:
        body: images (N, 3, H, W) -> features (N, D).
        feature: "after_bn": what the network was made to retrieve by.
        mean, std: colour statistics of its images, ImageNet's.
        head: None, there is no classifier; class methods do not apply.
    """

    feature = "after_bn"
    head = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __init__(self, body: nn.Module, layer: str) -> None:
        """Args: `layer`, the dotted name in `body` of the module whose output is the last map (N, C, h, w)."""
        super().__init__()
        self.body = body
        self._layer = layer

    @property
    def layer(self) -> nn.Module:
        """The module whose output is the last map: the layer to explain."""
        return self.body.get_submodule(self._layer)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)

    def returning(self, feature: str) -> ForeignModel:
        """The network itself, which has one feature.

        Raises:
            ValueError: another feature.
        """
        if feature != self.feature:
            raise ValueError(f"this network has the feature {self.feature!r} alone, not {feature!r}")
        return self


def require(path: Path) -> None:
    """Look for the file and for what reads it.

    Raises:
        FileNotFoundError: one of them is not there; the message says what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the profile names a network below the data root (DATA_ROOT=)")
    try:
        import onnx2torch  # noqa: F401  only a user with such a network has it
    except ImportError as error:
        message = f"{path.name} is read by onnx2torch, which is not installed ({error}): pip install onnx2torch"
        raise FileNotFoundError(message) from error


def load_onnx(path: Path) -> ForeignModel:
    """A network whose last map is pooled by a global average.

    Raises:
        FileNotFoundError: see :func:`require`.
        ValueError: the file is no such network.
    """
    require(path)
    import onnx
    import onnx2torch

    graph = onnx.load(path)
    _declare_outputs(graph)
    body = onnx2torch.convert(graph).eval()
    return ForeignModel(body, _last_map(body)).eval()


def _declare_outputs(graph: Any) -> None:
    """Declare the shape of what linear layers give, in place: onnx2torch needs the rank of a batch norm's input."""
    from onnx import TensorProto, helper

    widths = {array.name: array.dims[0] for array in graph.graph.initializer}
    known = {value.name for value in graph.graph.value_info}
    for node in graph.graph.node:
        if node.op_type == "Gemm" and len(node.input) > 2 and node.output[0] not in known:
            shape = ["batch", widths[node.input[2]]]
            graph.graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, shape))


def _last_map(body: Any) -> str:
    """The name of the module whose output goes into the last global average pooling.

    Raises:
        ValueError: there is none.
    """
    pools = [
        node
        for node in body.graph.nodes
        if node.op == "call_module" and "GlobalAveragePool" in type(body.get_submodule(node.target)).__name__
    ]
    # Attention inside a network may pool too; the map that is explained is pooled last.
    if not pools or pools[-1].args[0].op != "call_module":
        raise ValueError("the network has no global average pooling behind a module: its last map is not known")
    return str(pools[-1].args[0].target)
