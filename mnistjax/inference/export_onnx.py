"""The CNN and the fine-tuned VGG16 as ONNX, of plain convolutions, so that anything reads it."""

import json
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float
from onnx import helper

from mnistjax.errors import UsageError
from mnistjax.inference.onnx_graph import IR, OPSET, Chain
from mnistjax.models.layers import read_sizes
from mnistjax.models.vgg16 import convolutions, map_shape
from mnistjax.runs.archive import Archive
from mnistjax.weights.preprocess import BGR_MEANS, RGB_DEVIATIONS, RGB_MEANS

Arrays = dict[str, np.ndarray]


def to_onnx(archive: Archive, about: dict[str, Any]) -> bytes:
    """An ONNX model from "images", uint8 [n, *shape], to "probabilities", float32 [n, classes].

    Its metadata are "class_names", a JSON list, and `about`, JSON. All is computed in float32,
    maps as ONNX has them, channels before rows. Raises `UsageError` for a network that is not this
    library's.
    """
    described, shape = archive.about["network"], archive.about["images"]["shape"]
    write = {"CNN": _cnn, "FineTuned": _finetuned}.get(described["network"])
    if write is None or not described.get("ours", True):
        what = f"`format` onnx of a network of its own, {described['network']}"
        fix = "in Python, mj.export(run, 'stablehlo', model=...) with what it was trained from"
        raise UsageError(what, "only this library's CNN and VGG16 are written as ONNX", fix=fix)
    arrays = {
        n.removeprefix("params/"): np.asarray(of, np.float32) for n, of in archive.arrays.items()
    }
    chain = Chain("images").then("Cast", {"to": onnx.TensorProto.FLOAT})
    write(chain.then("Transpose", {"perm": [0, 3, 1, 2]}), described, arrays, shape)
    chain.then("Softmax", {"axis": 1})
    names = about["class_names"]
    graph = chain.graph("mnistjax", ("images", ["n", *shape]), ("probabilities", ["n", len(names)]))
    model = helper.make_model(
        graph,
        producer_name="mnistjax",
        producer_version=about["versions"]["mnistjax"],
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    helper.set_model_props(
        model, {"class_names": json.dumps(names), "about": json.dumps(about), "format": "mnistjax"}
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _cnn(chain: Chain, described: dict[str, Any], arrays: Arrays, shape: list[int]) -> None:
    chain.then("Div", whole=np.float32(255))
    pool = {"max": "MaxPool", "avg": "AveragePool"}[described["pool"]]
    for layer in ("conv1", "conv2"):
        _convolution(chain, layer, arrays, padding=0)
        chain.then(pool, {"kernel_shape": [2, 2], "strides": [2, 2]})
        if described["lrn"]:
            # ONNX divides alpha by the number of channels, `ops.local_response_norm` does not.
            chain.then("LRN", {"size": 5, "alpha": 5 * 1e-4, "beta": 0.75, "bias": 2.0})
    rows, columns = (read_sizes(size, [3, 3])[-1] for size in shape[:2])
    chain.then("Flatten", {"axis": 1})
    dense = arrays["dense1/kernel"], (rows, columns, 64)
    _dense(chain, arrays | {"dense1/kernel": _channels_first(*dense)})


def _finetuned(chain: Chain, described: dict[str, Any], arrays: Arrays, shape: list[int]) -> None:
    size, frozen = described["frozen"]["image_size"], described["frozen"]
    _vgg_input(chain, shape, size, frozen["pixels"])
    blocks = [*frozen["blocks"], *described["blocks"]]
    backbone, head = ({n: arrays[n] for n in arrays if n.startswith(of)} for of in ("back", "head"))
    backbone = {name.removeprefix("backbone/"): of for name, of in backbone.items()}
    head = {name.removeprefix("head/"): of for name, of in head.items()}
    for layers in convolutions(blocks).values():
        for layer in layers:
            _convolution(chain, layer, backbone, padding=1)
        chain.then("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]})
    if described["kind"] == "gap":
        chain.then("GlobalAveragePool")
    else:
        of = map_shape((size, size, 3), blocks)
        by_feature = ("dense1/kernel", "standardise/mean", "standardise/scale")
        head |= {name: _channels_first(head[name], of) for name in by_feature if name in head}
    chain.then("Flatten", {"axis": 1})
    if described["standardise"]:
        chain.then("Sub", mean=head["standardise/mean"])
        chain.then("Mul", scale=head["standardise/scale"])
    _dense(chain, head)


def _vgg_input(chain: Chain, shape: list[int], size: int, pixels: str) -> None:
    """What `weights.preprocess.to_vgg_input` does."""
    if shape[:2] != [size, size]:
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
        chain.then("Resize", how, roi=None, scales=None, sizes=np.array([size, size]))
    order = [2, 1, 0] if pixels == "caffe" else [0, 1, 2]
    channels = np.array(order if shape[2] == 3 else [0, 0, 0])
    chain.then("Gather", {"axis": 1}, channels=channels)
    if pixels == "torch":
        chain.then("Div", whole=np.float32(255))
    chain.then("Sub", means=_column(BGR_MEANS if pixels == "caffe" else RGB_MEANS))
    if pixels == "torch":
        chain.then("Div", deviations=_column(RGB_DEVIATIONS))


def _column(values: tuple[float, ...]) -> Float[np.ndarray, "c 1 1"]:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def _convolution(chain: Chain, layer: str, arrays: Arrays, *, padding: int) -> None:
    kernel, bias = arrays[f"{layer}/kernel"].transpose(3, 2, 0, 1), arrays[f"{layer}/bias"]
    attributes = {"kernel_shape": [3, 3], "pads": 4 * [padding]}
    chain.then("Conv", attributes, **{f"{layer}/kernel": kernel, f"{layer}/bias": bias})
    chain.then("Relu")


def _dense(chain: Chain, arrays: Arrays) -> None:
    for layer in ("dense1", "dense2"):
        names = f"{layer}/kernel", f"{layer}/bias"
        both: dict[str, Any] = {name: arrays[name] for name in names}
        chain.then("Gemm", **both)
        if layer == "dense1":
            chain.then("Relu")


def _channels_first(array: np.ndarray, map_shape: tuple[int, int, int]) -> np.ndarray:
    """Rows that belong to a map's values, rows, columns, channels, as channels, rows, columns.

    >>> _channels_first(np.arange(4), (1, 2, 2)).tolist()
    [0, 2, 1, 3]
    """
    apart = array.reshape(*map_shape, *array.shape[1:])
    return np.moveaxis(apart, 2, 0).reshape(array.shape)
