"""Which backend runs a network, and why that one.

    onnx        ONNX Runtime on the CPU: always there
    tensorrt    a built engine on the GPU; an error where it cannot run, with the step of the probe and its reason
    auto        tensorrt where it can, onnx otherwise; the reason is kept and reported. Where no folder of engines is
                known (replays, queries) the GPU is not even looked at

An engine is never built here: building takes minutes and loads the GPU, and a runtime may be started again at speed by
its watchdog. `shadowrig model build` makes engines beforehand; without one `auto` runs on the CPU and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.inference.backend import Backend, BackendError
from runtime.inference.bundle import ModelBundle
from runtime.inference.heads.decoder import BatchLayout, BundleFitError
from runtime.inference.onnx_backend import OnnxBackend, OnnxSettings
from runtime.inference.tensorrt.engine_cache import EngineCache, NoEngineError
from runtime.inference.tensorrt.engine_recipe import choose_trt_role, make_recipe
from runtime.inference.tensorrt.kernel_image import KernelImageError
from runtime.inference.tensorrt.probe import Platform, TensorrtUnavailableError, probe_tensorrt
from runtime.inference.tensorrt.trt_backend import TensorrtBackend
from runtime.rig import Rig

BACKENDS = ("auto", "onnx", "tensorrt")
PREPROCESSING = ("auto", "host", "device")
PRECISIONS = ("auto", "int8", "fp16", "fp32")
_ROLE_OF_PRECISION = {"int8": "cpu_int8", "fp32": "fp32"}

Probe = Callable[[], Platform]


@dataclass(frozen=True, slots=True)
class BackendRequest:
    """What is wanted of a network's backend."""

    backend: str = "onnx"
    precision: str = "auto"
    onnx: OnnxSettings = OnnxSettings()  # noqa: RUF009 - frozen
    engines: Path | None = None  # the folder of built engines; None: there is none
    preprocess: str = "host"  # auto, host or device: where images are prepared, with backend tensorrt


def open_backend(
    request: BackendRequest,
    bundle: ModelBundle,
    layout: BatchLayout,
    cameras: Sequence[str],
    rig: Rig | None = None,
    probe: Probe = probe_tensorrt,
) -> tuple[Backend, tuple[str, ...]]:
    """The backend for the bundle, and why it is not another (nothing where that was not a question).

    Raises:
        BundleFitError: a good bundle that does not fit the request or the rig.
        BackendError: the backend that was asked for cannot run.
    """
    if request.backend not in BACKENDS:
        raise BundleFitError(f"unknown backend {request.backend!r} (fix: use one of {', '.join(BACKENDS)})")
    if request.preprocess not in PREPROCESSING:
        raise BundleFitError(f"unknown preprocess {request.preprocess!r} (fix: use one of {', '.join(PREPROCESSING)})")
    reasons: tuple[str, ...] = ()
    is_question = request.backend == "tensorrt" or (request.backend == "auto" and request.engines is not None)
    if is_question:
        try:
            backend = _open_tensorrt(request, bundle, layout, cameras, rig, probe)
            return backend, ((backend.host_because,) if backend.host_because else ())
        except KernelImageError as error:
            fix = "preprocess: auto, and 'python -m deploy.gpu_check' says more"
            raise BackendError(f"preprocess: device was asked for and cannot be: {error} (fix: {fix})") from error
        except (TensorrtUnavailableError, BackendError) as error:
            if request.backend == "tensorrt":
                fix = "" if "(fix:" in str(error) else " (fix: backend: auto runs on the CPU; see deploy/TENSORRT.md)"
                raise BackendError(f"backend tensorrt was asked for and cannot run: {error}{fix}") from error
            reasons = (f"not tensorrt: {error}",)
    if request.preprocess == "device":
        why = "; ".join(reasons) or f"backend {request.backend} was asked for"
        fix = "preprocess: auto, or backend: tensorrt where it runs"
        asked = "preprocess: device was asked for, and only backend tensorrt can do that"
        raise BackendError(f"{asked}: {why} (fix: {fix})")
    role = choose_role(bundle, request.precision)
    return OnnxBackend(bundle, role, layout, cameras, request.onnx, rig=rig), reasons


def _open_tensorrt(
    request: BackendRequest,
    bundle: ModelBundle,
    layout: BatchLayout,
    cameras: Sequence[str],
    rig: Rig | None,
    probe: Probe,
) -> TensorrtBackend:
    platform = probe()
    try:
        recipe = make_recipe(bundle, request.precision, platform)
    except BundleFitError as error:
        raise TensorrtUnavailableError("engine", str(error)) from error
    if request.engines is None:
        raise TensorrtUnavailableError("engine", "no folder of built engines is known (fix: name one in model.engines)")
    fix = f"'shadowrig model build {bundle.directory} --cache {request.engines}' while the vehicle stands"
    try:
        data = EngineCache(request.engines).load(recipe)
    except NoEngineError as error:
        raise TensorrtUnavailableError("engine", f"{error} (fix: {fix})") from error
    try:
        return TensorrtBackend(platform, data, recipe, bundle, layout, cameras, rig=rig, preprocess=request.preprocess)
    except BackendError as error:
        raise TensorrtUnavailableError("engine", f"{error} (fix: {fix})") from error


def describe_tensorrt(probe: Probe = probe_tensorrt) -> str:
    """What backend `tensorrt` finds on this machine, or the first step that fails: for the doctor."""
    try:
        return str(probe())
    except TensorrtUnavailableError as error:
        return f"not on this machine ({error}); networks run on the CPU with backend onnx"


def choose_role(bundle: ModelBundle, precision: str) -> str:
    """The file of the bundle to run on the CPU for this precision.

    Raises:
        BundleFitError: the bundle has no such file.
    """
    if precision not in PRECISIONS:
        raise BundleFitError(f"unknown precision {precision!r} (fix: use one of {', '.join(PRECISIONS)})")
    if precision == "auto":
        return "cpu_int8" if "cpu_int8" in bundle.graphs else "fp32"
    if precision == "fp16":
        raise BundleFitError("precision fp16 runs on backend tensorrt only (fix: precision auto, or backend tensorrt)")
    role = _ROLE_OF_PRECISION[precision]
    if role not in bundle.graphs:
        has = ", ".join(sorted(bundle.graphs))
        fix = "run 'shadowrig calibrate int8' on it" if precision == "int8" else "use precision auto"
        raise BundleFitError(f"bundle {bundle.directory} has no {role} file, only {has} (fix: {fix})")
    return role


def check_request(bundle: ModelBundle, backend: str, precision: str) -> None:
    """Refuse what no machine could run: for looking at a configuration before anything is started.

    Raises:
        BundleFitError: the bundle has no file for this backend and precision.
    """
    if backend == "tensorrt":
        choose_trt_role(bundle, precision)
    elif backend == "auto" and precision == "fp16":
        raise BundleFitError("precision fp16 runs on backend tensorrt only (fix: precision auto, or backend tensorrt)")
    else:
        choose_role(bundle, precision)
