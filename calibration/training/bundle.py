"""Writes the model bundle of `hydra_mini`: `model.yaml` beside the ONNX files, with every file's sha256.

`model.yaml` is what the runtime reads (`runtime.inference.bundle`): inputs with their normalisation, heads with their
decoders, class names, licence, source, files, and the metrics on held-out drives. Files are written first, the manifest
last and atomically, so a bundle with a manifest is whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from calibration.training.layout import (
    CAMERAS,
    CLASSES,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LIGHT_STATES,
    PAD_VALUE,
    SEGMENTS,
    WEATHERS,
)
from runtime.formats.durable_files import sha256_of

FP32_FILE = "model.fp32.onnx"
CPU_INT8_FILE = "model.cpu.qdq.onnx"
RANGES_FILE = "ranges.json"
MANIFEST_FILE = "model.yaml"

SCORE_THRESHOLD = 0.35
IOU_THRESHOLD = 0.55


def write_manifest(directory: Path, version: str, metrics: Mapping[str, object]) -> Path:
    """Write `model.yaml` for the files that lie in `directory`; returns its path."""
    document = {
        "name": "hydra_mini",
        "version": version,
        "licence": "Apache-2.0",
        "source": "calibration/training of this repository, trained on synthetic drives only",
        "inputs": _inputs(),
        "heads": _heads(),
        "cameras": list(CAMERAS),
        "files": _files(directory),
        "metrics": dict(metrics),
    }
    path = directory / MANIFEST_FILE
    temporary = path.with_suffix(".yaml.part")
    temporary.write_text(yaml.safe_dump(document, sort_keys=False, width=120), encoding="utf-8")
    os.replace(temporary, path)
    return path


def _inputs() -> list[dict[str, object]]:
    return [
        {
            "name": "images",
            "kind": "images",
            "shape": [len(CAMERAS), 3, IMAGE_HEIGHT, IMAGE_WIDTH],
            "dtype": "uint8",
            "color": "rgb",
            "resize": "stretch",
            "pad_value": PAD_VALUE,
        },
        {
            "name": "speed_mps",
            "kind": "signal",
            "signal": "vehicle.speed_mps",
            "shape": [1, 1],
            "dtype": "float32",
            "unknown": 0.0,
        },
    ]


def _heads() -> list[dict[str, object]]:
    return [
        {
            "name": "detections",
            "decoder": "hydra_detections",
            "outputs": {"heatmap": "det_heatmap", "box": "det_box", "state": "det_state"},
            "classes": list(CLASSES),
            "score_threshold": SCORE_THRESHOLD,
            "iou_threshold": IOU_THRESHOLD,
            "states": {"traffic_light": list(LIGHT_STATES)},
        },
        {"name": "control", "decoder": "control", "outputs": {"control": "control"}},
        {"name": "lanes", "decoder": "segmentation", "outputs": {"mask": "lane_drivable"}, "classes": list(SEGMENTS)},
        {
            "name": "weather",
            "decoder": "classification",
            "outputs": {"probabilities": "weather"},
            "classes": list(WEATHERS),
        },
        {"name": "wiper", "decoder": "classification", "outputs": {"probabilities": "wiper"}, "classes": ["wiper"]},
        {"name": "embedding", "decoder": "raw", "outputs": {"embedding": "embedding"}},
    ]


def _files(directory: Path) -> dict[str, dict[str, str]]:
    names = {"fp32": FP32_FILE, "cpu_int8": CPU_INT8_FILE, "ranges": RANGES_FILE}
    present = {role: name for role, name in names.items() if (directory / name).exists()}
    return {role: {"path": name, "sha256": sha256_of(directory / name)} for role, name in present.items()}
