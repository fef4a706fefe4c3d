"""`shadowrig calibrate lint FILE [--build]`: what TensorRT refuses in a file, and whether it builds."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import checker

from calibration.int8.rtx_check import BuildReport, RtxNotInstalledError, build_with_rtx
from calibration.int8.trt_lint import lint_trt


class LintError(ValueError):
    """The file cannot be read, or the builder that was asked for is not installed."""


def lint_file(path: Path, build: bool) -> bool:
    """Print what is found; True when TensorRT should take the file (and, with `build`, tensorrt_rtx does)."""
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError, ValueError, checker.ValidationError) as error:
        raise LintError(f"{path}: not an ONNX file that can be read ({error})") from error
    if not model.graph.node or not model.graph.output:
        raise LintError(f"{path}: holds no ONNX graph (no operators or no outputs)")
    findings = lint_trt(model)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"{path}: nothing that TensorRT refuses")
    return not findings and (not build or _report_build(path))


def _report_build(path: Path) -> bool:
    try:
        report = build_with_rtx(path)
    except RtxNotInstalledError as error:
        raise LintError(str(error)) from error
    for error_line in report.errors:
        print(error_line)
    if not report.errors:
        print(describe(report))
    return not report.errors


def describe(report: BuildReport) -> str:
    """One line about an engine."""
    int8, all_of_them = len(report.int8_convolutions), len(report.convolutions)
    size_mb = report.engine_bytes / 1e6
    engine = f"tensorrt_rtx {report.version} builds it: {len(report.layers)} layers, {size_mb:.1f} MB"
    return f"{engine}; {int8} of {all_of_them} convolutions run in INT8"
