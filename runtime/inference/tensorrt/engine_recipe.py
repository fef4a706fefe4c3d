"""What an engine depends on: everything here is in its key, and nothing that is not here may change it.

An engine is code for one device, made by one TensorRT for one driver, from one ONNX file with fixed shapes and flags.
When any of these changes the key changes, so an old engine is never taken for a new one: it is simply not found.

Which file and which flags for which `precision`:

    auto    trt_int8_fp16, else trt_int8, else fp32
    int8    trt_int8_fp16, else trt_int8
    fp16    fp32, weakly typed with the FP16 flag: only where TensorRT still has it (8.6 and 10)
    fp32    fp32, without TF32

Strongly typed networks (the types of the file are the types that run) exist since TensorRT 9 and are all that 11 knows.
8.6 reads the explicit Q/DQ graph of `trt_int8`, but wants to be allowed INT8. `trt_int8_fp16` is not for it: Q/DQ over
FP16 needs opset 19, and 8.6 reads up to 17 (calibration/TENSORRT_FILES.md); it is as if the bundle had no such file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtime.inference.bundle import ModelBundle
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.tensorrt.probe import Platform

ROLES_OF_PRECISION = {
    "auto": ("trt_int8_fp16", "trt_int8", "fp32"),
    "int8": ("trt_int8_fp16", "trt_int8"),
    "fp16": ("fp32",),
    "fp32": ("fp32",),
}
#: Scratch memory that TensorRT may choose tactics for. On Jetson it is the vehicle's own memory.
WORKSPACE_BYTES = 1 << 30
#: Changes when this package builds differently from the same recipe.
RECIPE_VERSION = 1
#: The first major version of TensorRT that reads opset 19, which Q/DQ over FP16 needs.
FIRST_WITH_FP16_QDQ = 10


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """One engine to be: its file, its machine and its flags."""

    network: str  # name and version, for people
    role: str
    precision: str  # int8, fp16 or fp32
    onnx_sha256: str
    tensorrt: str
    driver: str
    device: str
    compute_capability: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    network_flags: tuple[str, ...]
    builder_flags: tuple[str, ...]
    workspace_bytes: int = WORKSPACE_BYTES
    recipe_version: int = RECIPE_VERSION

    @property
    def key(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the key and for the file beside the engine."""
        return asdict(self)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Why an engine of `other` is not this one, as `device: A is now B`."""
        mine = json.loads(json.dumps(self.as_dict()))
        return [f"{name}: {other.get(name)} is now {value}" for name, value in mine.items() if other.get(name) != value]


def choose_trt_role(bundle: ModelBundle, precision: str, version: Sequence[int] | None = None) -> str:
    """The file of the bundle to build from; `version` is TensorRT's, where it is known.

    Raises:
        BundleFitError: the bundle has none for this precision, or none that this version reads.
    """
    roles = ROLES_OF_PRECISION.get(precision)
    if roles is None:
        raise BundleFitError(f"unknown precision {precision!r} (fix: use one of {', '.join(ROLES_OF_PRECISION)})")
    if version is not None and version[0] < FIRST_WITH_FP16_QDQ:
        roles = tuple(role for role in roles if role != "trt_int8_fp16")
    for role in roles:
        if role in bundle.graphs:
            return role
    has = ", ".join(sorted(bundle.graphs))
    fix = "run 'shadowrig calibrate int8' on it" if precision == "int8" else "add its fp32 file"
    raise BundleFitError(f"bundle {bundle.directory} has no {' or '.join(roles)} file, only {has} (fix: {fix})")


def make_recipe(bundle: ModelBundle, precision: str, platform: Platform) -> EngineRecipe:
    """The engine that this machine would run for the bundle.

    Raises:
        BundleFitError: the bundle has no file for it, or this TensorRT cannot build it.
    """
    role = choose_trt_role(bundle, precision, platform.version)
    kept = "int8" if role.startswith("trt_") else "fp16" if precision == "fp16" else "fp32"
    network_flags, builder_flags = choose_flags(platform.trt, kept)
    device = platform.driver.device
    manifest = bundle.manifest
    return EngineRecipe(
        network=f"{manifest.name} {manifest.version}",
        role=role,
        precision=kept,
        onnx_sha256=bundle.sha256(role),
        tensorrt=platform.version_text,
        driver=".".join(map(str, device.driver_version)),
        device=device.name,
        compute_capability=".".join(map(str, device.compute_capability)),
        shapes=tuple((entry.name, tuple(entry.shape)) for entry in manifest.inputs),
        network_flags=network_flags,
        builder_flags=builder_flags,
    )


def choose_flags(trt: Any, precision: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the network's creation flags, and of the builder's flags. Raises BundleFitError."""
    is_strong = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") and precision != "fp16"
    if is_strong:
        return ("STRONGLY_TYPED",), ()
    if not hasattr(trt.BuilderFlag, "FP16"):
        message = f"TensorRT {trt.__version__} keeps the types of the file, and cannot make FP16 of an FP32 one"
        raise BundleFitError(f"{message} (fix: 'shadowrig calibrate int8' makes an FP16 body; or use precision fp32)")
    # 10 ignores the flag and 11 has dropped it; 8.6 needs it to read ONNX at all.
    network = ("EXPLICIT_BATCH",) if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") else ()
    if precision == "fp16":
        return network, ("FP16",)
    if precision == "fp32":
        return network, ()
    return network, ("INT8",)
