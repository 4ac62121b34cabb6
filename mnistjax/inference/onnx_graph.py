"""A chain of ONNX nodes, written one after the other."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, IR = 18, 8
"""Of December 2022, the first whose Resize takes axes: read by onnxruntime from 1.14 on."""


class Chain:
    """Each node takes the last one's result, and arrays by name.

    >>> chain = Chain("x")
    >>> chain.then("Mul", two=np.float32(2)).then("Relu").last
    'Relu_1'
    """

    def __init__(self, first: str) -> None:
        self.last = first
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}

    def then(self, op: str, attributes: dict[str, Any] | None = None, **arrays: Any) -> "Chain":
        """Add `op` of the last result and `arrays`, in their order; None is one left out."""
        output = f"{op}_{len(self.nodes)}"
        inputs = [self.last, *("" if of is None else name for name, of in arrays.items())]
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes or {}))
        self.arrays |= {n: np.asarray(of) for n, of in arrays.items() if of is not None}
        self.last = output
        return self

    def graph(self, name: str, input: tuple[str, list[Any]], output: tuple[str, list[Any]]) -> Any:
        """All of it as a graph from uint8 to float32; a dimension may be a name."""
        self.nodes[-1].output[0] = output[0]
        return helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(input[0], onnx.TensorProto.UINT8, input[1])],
            [helper.make_tensor_value_info(output[0], onnx.TensorProto.FLOAT, output[1])],
            [numpy_helper.from_array(np.ascontiguousarray(of), n) for n, of in self.arrays.items()],
        )
