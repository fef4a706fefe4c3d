"""The surface of an ONNX graph: names, shapes and types of its inputs and outputs, read without running it.

A shape's size is None where the graph leaves it open (a symbolic dimension). `GraphError` says why a file is no
network: missing, cut short, without outputs, or with its weights elsewhere. Whether its operators can run is for the
backend to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from runtime.inference.heads.decoder import TensorShape, describe


class GraphError(ValueError):
    """A file does not hold an ONNX graph."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str  # NumPy's name: "float32", "uint8", ...
    shape: TensorShape
    #: What the graph calls each open size, such as "batch"; None where the size is known or nameless.
    symbols: tuple[str | None, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{describe(self.shape)}"


@dataclass(frozen=True, slots=True)
class Graph:
    """Inputs (without those that have a stored value) and outputs, by name, in the file's order."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def read_graph(path: Path) -> Graph:
    """The surface of the ONNX file at `path`.

    Raises:
        GraphError: the file cannot be read or is not ONNX.
    """
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except OSError as error:
        raise GraphError(f"cannot be read: {error.strerror or error}") from error
    except (DecodeError, ValueError) as error:
        raise GraphError("is not an ONNX file, or is cut short") from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise GraphError("holds no ONNX graph (no operators or no outputs)")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise GraphError("keeps its weights in another file, which no hash would cover; save it as one file")
    stored = {tensor.name for tensor in graph.initializer}
    return Graph(
        inputs={value.name: tensor_spec(value) for value in graph.input if value.name not in stored},
        outputs={value.name: tensor_spec(value) for value in graph.output},
    )


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, type and shape of one input or output. Raises GraphError for what is no tensor of known type."""
    if not value.type.HasField("tensor_type"):
        raise GraphError(f"has {value.name!r}, which is not a tensor")
    tensor = value.type.tensor_type
    sizes = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    try:
        dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    except (KeyError, TypeError) as error:
        raise GraphError(f"has {value.name!r} of unknown element type {tensor.elem_type}") from error
    symbols = tuple(dim.dim_param or None for dim in tensor.shape.dim)
    return TensorSpec(value.name, dtype, sizes, symbols)
