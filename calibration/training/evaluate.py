"""Scores ONNX files of `hydra_mini` on a data set: the numbers in `model.yaml`.

    python -m calibration.training.evaluate BUNDLE [--cache DIR]

Every file of the bundle runs on the same held-out instants through ONNX Runtime. Control errors are given in units and
as points: per cent of the truth's spread from the 5th to the 95th percentile. Objects count from 4 px on the
shorter and 8 px on the longer side (of 320x192) when 40 % visible. `constant` is the error of always
answering the median: what a head must beat to have learned anything.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.metrics import MATCH_IOU, AbsoluteError, AveragePrecision, Overlap, iou_matrix, is_scored
from calibration.training import dataset
from calibration.training.bundle import CPU_INT8_FILE, FP32_FILE
from calibration.training.dataset import TrainingSet
from calibration.training.decode import Boxes, boxes_of_class, decode_image
from calibration.training.layout import CAMERAS, CLASSES, OUTPUTS, SEGMENTS, TRAFFIC_LIGHT

LOWEST_SCORE = 0.02  # precision-recall curves need the weak detections too
IOU_THRESHOLD = 0.55
MASK_THRESHOLD = 0.5

Outputs = dict[str, NDArray[np.float32]]


@dataclass(slots=True)
class Scores:
    """Everything measured on one file; `summary` turns it into numbers."""

    precision: list[AveragePrecision] = field(default_factory=lambda: [AveragePrecision() for _ in CLASSES])
    overlap: list[Overlap] = field(default_factory=lambda: [Overlap() for _ in SEGMENTS])
    accel: AbsoluteError = field(default_factory=AbsoluteError)
    curvature: AbsoluteError = field(default_factory=AbsoluteError)
    lead_distance: AbsoluteError = field(default_factory=AbsoluteError)
    lead_present: list[bool] = field(default_factory=list)
    weather: list[bool] = field(default_factory=list)
    wiper: list[bool] = field(default_factory=list)
    light_state: list[bool] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Names with units, values rounded to what the sample supports."""
        by_class = {f"ap50_{name}": score.value() for name, score in zip(CLASSES, self.precision, strict=True)}
        values = {
            "map50": float(np.nanmean(list(by_class.values()))),
            **by_class,
            **{f"iou_{name}": score.value() for name, score in zip(SEGMENTS, self.overlap, strict=True)},
            "light_state_accuracy": _share(self.light_state),
            "weather_accuracy": _share(self.weather),
            "wiper_accuracy": _share(self.wiper),
            "lead_present_accuracy": _share(self.lead_present),
            "accel_mae_mps2": self.accel.value(),
            "accel_error_points": self.accel.percent(),
            "curvature_mae_1pm": self.curvature.value(),
            "curvature_error_points": self.curvature.percent(),
            "lead_distance_mae_m": self.lead_distance.value(),
            "lead_distance_error_points": self.lead_distance.percent(),
        }
        return {name: float(f"{value:.4g}") for name, value in values.items()}


def run_file(path: Path, data: TrainingSet, progress: Callable[[int, int], None], threads: int = 0) -> list[Outputs]:
    """Outputs of every instant."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    results = []
    for instant in range(len(data)):
        speed = np.array([[data.scalars["speed_mps"][instant]]], np.float32)
        values = session.run(list(OUTPUTS), {"images": np.asarray(data.images[instant]), "speed_mps": speed})
        results.append({name: np.asarray(value) for name, value in zip(OUTPUTS, values, strict=True)})
        progress(instant + 1, len(data))
    return results


def score(data: TrainingSet, outputs: list[Outputs]) -> Scores:
    """Compare outputs with the labels."""
    scores = Scores()
    for instant, output in enumerate(outputs):
        _score_detections(scores, data.objects_of(instant), output)
        for layer, overlap in enumerate(scores.overlap):
            overlap.add(output["lane_drivable"][:, layer] > MASK_THRESHOLD, data.masks[instant][:, layer] > 127)
        _score_scalars(scores, data.scalars[instant], output)
    return scores


def decode_camera(output: Outputs, camera: int, score_threshold: float = LOWEST_SCORE) -> Boxes:
    """Detections of one camera."""
    heatmap, box, state = (output[name][camera] for name in ("det_heatmap", "det_box", "det_state"))
    return decode_image(heatmap, box, state, score_threshold, IOU_THRESHOLD)


def cosine_agreement(first: list[Outputs], second: list[Outputs], name: str) -> float:
    """Mean cosine between two files' outputs, row by row of the batch."""
    cosines = []
    for one, other in zip(first, second, strict=True):
        a, b = one[name].reshape(one[name].shape[0], -1), other[name].reshape(other[name].shape[0], -1)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines.append((a * b).sum(axis=1) / np.maximum(norms, 1e-12))
    return float(np.mean(cosines))


def constant_answer(data: TrainingSet) -> dict[str, float]:
    """Errors of always answering the median of this very set."""
    names = {
        "accel_mae_mps2": "accel_mps2",
        "curvature_mae_1pm": "curvature_1pm",
        "lead_distance_mae_m": "lead_distance_m",
    }
    result = {}
    for name, column in names.items():
        truth = data.scalars[column][~np.isnan(data.scalars[column])]
        result[name] = float(f"{np.abs(truth - np.median(truth)).mean():.4g}")
    return result


def _score_detections(scores: Scores, objects: NDArray[np.void], output: Outputs) -> None:
    for camera in range(len(CAMERAS)):
        boxes = decode_camera(output, camera)
        seen = objects[objects["camera"] == camera]
        ignored = ~is_scored(seen["box"], seen["visible_fraction"])
        for class_id, precision in enumerate(scores.precision):
            chosen = seen["class_id"] == class_id
            precision.add(*boxes_of_class(boxes, class_id), seen["box"][chosen], ignored[chosen])
        _score_lights(scores, boxes, seen[~ignored & (seen["class_id"] == TRAFFIC_LIGHT) & (seen["state"] >= 0)])


def _score_lights(scores: Scores, boxes: Boxes, lights: NDArray[np.void]) -> None:
    """State of every light that was found."""
    chosen = boxes.class_id == TRAFFIC_LIGHT
    overlap = iou_matrix(lights["box"], boxes.box[chosen])
    for row, light in enumerate(lights):
        if overlap.shape[1] and overlap[row].max() >= MATCH_IOU:
            scores.light_state.append(bool(boxes.state[chosen][overlap[row].argmax()] == light["state"]))


def _score_scalars(scores: Scores, truth: np.void, output: Outputs) -> None:
    accel, curvature, lead_distance, lead_probability = (float(value) for value in output["control"][0])
    scores.accel.add(accel, float(truth["accel_mps2"]))
    scores.curvature.add(curvature, float(truth["curvature_1pm"]))
    has_lead = not np.isnan(truth["lead_distance_m"])
    scores.lead_present.append((lead_probability > 0.5) == has_lead)
    if has_lead:
        scores.lead_distance.add(lead_distance, float(truth["lead_distance_m"]))
    scores.weather.append(int(output["weather"][0].argmax()) == int(truth["weather"]))
    scores.wiper.append((float(output["wiper"][0, 0]) > 0.5) == bool(truth["wiper"]))


def _share(answers: list[bool]) -> float:
    return float(np.mean(answers)) if answers else float("nan")


def compare_files(bundle: Path, data: TrainingSet, progress: Callable[[int, int], None]) -> dict[str, object]:
    """The `metrics:` of a bundle: scores of FP32 and INT8 and how well they agree."""
    fp32 = run_file(bundle / FP32_FILE, data, progress)
    int8 = run_file(bundle / CPU_INT8_FILE, data, progress)
    return {
        "held_out_instants": len(data),
        "fp32": score(data, fp32).summary(),
        "cpu_int8": score(data, int8).summary(),
        "constant": constant_answer(data),
        "int8_cosine": {name: float(f"{cosine_agreement(fp32, int8, name):.5g}") for name in OUTPUTS},
    }


def metrics_table(metrics: dict[str, object]) -> Table:
    """FP32 beside INT8, one row per number."""
    table = Table("metric", "FP32", "INT8", title=f"hydra_mini on {metrics['held_out_instants']} held-out instants")
    fp32, int8 = metrics["fp32"], metrics["cpu_int8"]
    assert isinstance(fp32, dict)
    assert isinstance(int8, dict)
    for name, value in fp32.items():
        table.add_row(name, f"{value:.4g}", f"{int8[name]:.4g}")
    return table


def main() -> None:
    """Command line; see the module's head."""
    parser = argparse.ArgumentParser(description="Score a hydra_mini bundle on held-out synthetic instants.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cache", type=Path, default=dataset.default_cache_directory())
    arguments = parser.parse_args()
    data = dataset.open_or_make(arguments.cache, "held_out", dataset.HELD_OUT_SEEDS, dataset.HELD_OUT_PER_SEED)
    Console().print(metrics_table(compare_files(arguments.bundle, data, lambda done, total: None)))


if __name__ == "__main__":
    main()
