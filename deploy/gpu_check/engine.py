"""A bundle's engine, built here, against ONNX Runtime running the very same file on the CPU.

The same file on both sides: what quantisation costs is the accuracy gate's business; here only TensorRT's arithmetic
may differ. The engine is built into a temporary folder (minutes) and run through the runtime's own backend: captured
graph, pinned memory and all. Images are smooth random textures from a seed, because INT8 ranges are not made for noise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.gpu_check.outcome import FailedError, Found, NotRunError
from runtime.formats.problems import DocumentError
from runtime.inference.backend import BackendError
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.onnx_backend import OnnxBackend
from runtime.inference.rows import layout_for
from runtime.inference.tensorrt.driver import CudaDriver
from runtime.inference.tensorrt.engine_builder import EngineError
from runtime.inference.tensorrt.engine_cache import EngineCache
from runtime.inference.tensorrt.engine_making import make_engine
from runtime.inference.tensorrt.kernel_image import KernelImageError
from runtime.inference.tensorrt.probe import Platform, TensorrtUnavailableError, probe_tensorrt
from runtime.inference.tensorrt.trt_backend import TensorrtBackend
from runtime.messages import Frameset

FRAMESETS = 8
LEAST_COSINE = 0.999

Outputs = Mapping[str, NDArray[Any]]
#: Opens TensorRT on the device; a test puts a virtual one in its place.
Probe = Callable[[], Platform]


@dataclass(frozen=True, slots=True)
class Pair:
    """A bundle's engine on the device, and the very same file run by ONNX Runtime."""

    engine: TensorrtBackend
    peer: OnnxBackend
    bundle: ModelBundle
    cameras: tuple[str, ...]
    what: str


def open_pair(driver: CudaDriver, directory: Path | None, preprocess: str, probe: Probe | None = None) -> Pair:
    """Build the engine (minutes) and open both. Raises NotRunError without bundle or TensorRT, FailedError."""
    if directory is None:
        raise NotRunError("no bundle was given: add --model FOLDER")
    try:
        platform = probe_tensorrt(opener=lambda: driver) if probe is None else probe()
    except TensorrtUnavailableError as error:
        raise NotRunError(str(error)) from error
    try:
        bundle = load_bundle(directory)
        cameras = tuple(f"camera_{row}" for row in range(max(1, bundle.manifest.rows)))
        layout = layout_for(bundle.manifest, cameras)
        with tempfile.TemporaryDirectory() as folder:
            cache = EngineCache(Path(folder))
            recipe = make_engine(bundle, "auto", platform, cache).recipe
            data = cache.load(recipe)
        engine = TensorrtBackend(platform, data, recipe, bundle, layout, cameras, preprocess=preprocess)
        peer = OnnxBackend(bundle, recipe.role, layout, cameras)
    except (DocumentError, BundleFitError) as error:
        raise NotRunError(str(error)) from error
    except (BackendError, EngineError, KernelImageError) as error:
        raise FailedError(str(error)) from error
    return Pair(engine, peer, bundle, cameras, f"{recipe.role} ({recipe.precision}) of {bundle.manifest.name}")


def engine_equals_onnx(driver: CudaDriver, directory: Path | None, seed: int, probe: Probe | None = None) -> Found:
    """Cosine of each output over some framesets. Raises NotRunError without a bundle or TensorRT, FailedError."""
    pair = open_pair(driver, directory, "host", probe)
    framesets = _framesets(pair.bundle, pair.cameras, np.random.default_rng(seed))
    cosines = least_cosines([(run(pair.engine, each), run(pair.peer, each)) for each in framesets])
    return judge(cosines, pair.what)


def judge(cosines: Mapping[str, float], what: str) -> Found:
    """Every output must agree. Raises FailedError with those that do not."""
    apart = [f"{name} {cosine:.6f}" for name, cosine in cosines.items() if not cosine >= LEAST_COSINE]
    if apart:
        raise FailedError(f"{what}: cosine below {LEAST_COSINE} against ONNX Runtime: {', '.join(apart)}")
    figures = {name: round(cosine, 6) for name, cosine in cosines.items()}
    return f"{what}: least cosine {min(cosines.values()):.6f} against ONNX Runtime", {"cosine": figures}


def least_cosines(pairs: Sequence[tuple[Outputs, Outputs]]) -> dict[str, float]:
    """By output the least cosine of any pair; two zero vectors agree, a zero and another do not."""
    least: dict[str, float] = {}
    for left, right in pairs:
        for name in right:
            one, other = (np.asarray(side[name], np.float64).ravel() for side in (left, right))
            length = float(np.linalg.norm(one) * np.linalg.norm(other))
            cosine = float(one @ other) / length if length else float(np.array_equal(one, other))
            least[name] = float(np.minimum(least.get(name, 1.0), cosine))  # a NaN stays
    return least


def run(backend: TensorrtBackend | OnnxBackend, frameset: Frameset) -> dict[str, NDArray[Any]]:
    """One run's outputs, kept."""
    return {name: tensor.copy() for name, tensor in backend.infer(frameset, None).tensors.items()}


def _framesets(bundle: ModelBundle, cameras: Sequence[str], random: np.random.Generator) -> list[Frameset]:
    spec, count = bundle.manifest.images.image_spec, len(cameras)
    framesets = []
    for sequence in range(FRAMESETS):
        coarse = random.integers(0, 256, (count * 3, 6, 10), np.uint8)
        smooth = [cv2.resize(plane, (spec.width, spec.height), interpolation=cv2.INTER_CUBIC) for plane in coarse]
        framesets.append(
            Frameset(
                sequence=sequence,
                time_ns=sequence * 50_000_000,
                cameras=tuple(cameras),
                present=np.ones(count, np.bool_),
                frame_time_ns=np.full(count, sequence * 50_000_000, np.int64),
                frame_sequence=np.full(count, sequence, np.int64),
                images=np.ascontiguousarray(np.stack(smooth).reshape(count, *spec.plane_shape)),
            )
        )
    return framesets
