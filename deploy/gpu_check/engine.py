"""A bundle's engine against its ONNX file: placeholder until the backend is merged."""

from __future__ import annotations

from pathlib import Path

from deploy.gpu_check.outcome import Found, NotRunError
from runtime.inference.tensorrt.driver import CudaDriver


def engine_equals_onnx(driver: CudaDriver, bundle: Path | None, seed: int) -> Found:
    """Not wired yet."""
    raise NotRunError("no bundle was given: add --model FOLDER")
