"""Small real networks and bundles for tests: ONNX graphs whose outputs can be worked out by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper

from runtime.messages import Frameset, SignalSample, SignalValue

SIDE = 8
ELEMENT_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def mean_network(batch: int, dtype: str = "uint8", height: int = SIDE, width: int = SIDE) -> onnx.ModelProto:
    """`means` [batch, 3] of each channel; `control` [1, 4]: their mean over the batch, and the speed."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["means"], ["scene"], axes=[0], keepdims=1),
        helper.make_node("Concat", ["scene", "speed_mps"], ["control"], axis=1),
        helper.make_node("Relu", ["pixels"], ["planes"]),
    ]
    inputs = [
        helper.make_tensor_value_info("images", ELEMENT_TYPES[dtype], [batch, 3, height, width]),
        helper.make_tensor_value_info("speed_mps", TensorProto.FLOAT, [1, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("means", TensorProto.FLOAT, [batch, 3]),
        helper.make_tensor_value_info("control", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("planes", TensorProto.FLOAT, [batch, 3, height, width]),
    ]
    return _model(nodes, inputs, outputs)


def fixed_network(
    outputs: Mapping[str, np.ndarray], shape: Sequence[int | str], dtype: str = "float32"
) -> onnx.ModelProto:
    """A network that says the same whatever it sees."""
    nodes = []
    for name, value in outputs.items():
        tensor = onnx.numpy_helper.from_array(value, name=f"{name}_value")
        nodes.append(helper.make_node("Constant", [], [f"{name}_constant"], value=tensor))
        nodes.append(helper.make_node("Identity", [f"{name}_constant"], [name]))
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)) for name, value in outputs.items()
    ]
    return _model(nodes, [helper.make_tensor_value_info("images", ELEMENT_TYPES[dtype], list(shape))], infos)


def mean_manifest(batch: int, dtype: str = "uint8", **images: object) -> dict[str, object]:
    """The manifest of `mean_network`, without files."""
    return {
        "name": "means",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by a test",
        "inputs": [
            {"name": "images", "kind": "images", "shape": [batch, 3, SIDE, SIDE], "dtype": dtype, **images},
            {"name": "speed_mps", "kind": "signal", "signal": "vehicle.speed_mps", "shape": [1, 1], "unknown": -1.0},
        ],
        "heads": [
            {"name": "control", "decoder": "control", "outputs": {"control": "control"}},
            {"name": "colour", "decoder": "raw", "outputs": {"means": "means"}},
        ],
    }


def write_bundle(directory: Path, manifest: Mapping[str, object], files: Mapping[str, onnx.ModelProto | bytes]) -> Path:
    """Write networks by role and a manifest that knows their hashes."""
    directory.mkdir(parents=True, exist_ok=True)
    entries = {}
    for role, content in files.items():
        raw = content if isinstance(content, bytes) else content.SerializeToString()
        (directory / f"{role}.onnx").write_bytes(raw)
        entries[role] = {"path": f"{role}.onnx", "sha256": hashlib.sha256(raw).hexdigest()}
    text = yaml.dump({**manifest, "files": entries}, Dumper=_PlainDumper, sort_keys=False)
    (directory / "model.yaml").write_text(text, encoding="utf-8")
    return directory


def frameset_of(images: np.ndarray, present: Sequence[bool] | None = None, time_ns: int = 0) -> Frameset:
    """A frameset of cameras `camera_0`, `camera_1`, ... with these images `[N, 3, H, W]`."""
    count = images.shape[0]
    return Frameset(
        sequence=0,
        time_ns=time_ns,
        cameras=tuple(f"camera_{index}" for index in range(count)),
        present=np.ones(count, np.bool_) if present is None else np.array(present),
        frame_time_ns=np.full(count, time_ns, np.int64),
        frame_sequence=np.zeros(count, np.int64),
        images=images,
    )


def noise(count: int, seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Random images `[count, 3, H, W]` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


class _PlainDumper(yaml.SafeDumper):
    """Writes a value that stands twice out twice: the manifest's YAML knows no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


class FixedSignals:
    """A SignalReader over a dictionary."""

    def __init__(self, **values: SignalValue) -> None:
        self._values = {name.replace("__", "."): value for name, value in values.items()}

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return ()

    def names(self) -> Sequence[str]:
        return tuple(self._values)


def _model(nodes: list, inputs: list, outputs: list) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model
