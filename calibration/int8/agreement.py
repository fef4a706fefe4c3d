"""How far an INT8 file says what its FP32 file says, and how much faster, measured in the same run.

Outputs are compared as they leave the network (cosine) and, for detection heads, as the runtime decodes them: a
detection of FP32 is *kept* when INT8 has one of the same class and camera with IoU >= 0.5 and a score within 0.05 of
it. Both files run on one thread, taking turns, so that whatever else the machine does falls on both; the ratio is of
medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calibration.int8.feeds import build_feeds
from calibration.int8.ranges import Feed
from calibration.int8.sampling import Sample
from runtime.inference.heads import build_decoder
from runtime.inference.heads.decoder import BatchLayout, RowDetections
from runtime.inference.manifest import Manifest

MATCH_IOU = 0.5
SCORE_TOLERANCE = 0.05
SPEED_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Agreement:
    """INT8 against FP32 on samples that the ranges were not measured on."""

    samples: int
    cosine: dict[str, float]  # by output, mean over samples
    detections: int  # of FP32
    detections_kept: int
    best_score_fp32: float
    best_score_int8: float
    fp32_ms: float
    int8_ms: float

    @property
    def kept_share(self) -> float:
        """1.0 when FP32 found nothing to keep."""
        return self.detections_kept / self.detections if self.detections else 1.0

    @property
    def speed_up(self) -> float:
        """How many times faster INT8 is."""
        return self.fp32_ms / self.int8_ms


class Contestant:
    """One file, open on one thread, with the heads that find objects."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._manifest = manifest

    def run(self, feed: Feed) -> dict[str, NDArray[np.generic]]:
        """Outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))

    def detections(self, outputs: dict[str, NDArray[np.generic]]) -> RowDetections:
        """What the first detection head finds, in network pixels; nothing when there is no such head."""
        images = self._manifest.images
        rows = self._manifest.rows
        layout = BatchLayout(rows, images.shape[2], images.shape[3], {}, self._manifest.is_per_camera)
        shapes = {name: value.shape for name, value in outputs.items()}
        for head in self._manifest.heads:
            if head.decoder in ("yolox", "hydra_detections"):
                result = build_decoder(head, shapes, layout).decode(outputs, np.ones(rows, np.bool_))
                return result.detections if result.detections is not None else RowDetections.empty()
        return RowDetections.empty()


def measure_agreement(fp32: Path, int8: Path, manifest: Manifest, samples: Sequence[Sample]) -> Agreement:
    """Run both files on the samples; raises ValueError without samples."""
    feeds = build_feeds(manifest, samples, fp32)
    if not feeds:
        raise ValueError("no held-out samples to compare INT8 with FP32 on; ask for more samples")
    one, other = Contestant(fp32, manifest), Contestant(int8, manifest)
    cosines: dict[str, list[float]] = {}
    total = kept = 0
    best = [0.0, 0.0]
    for feed in feeds:
        first, second = one.run(feed), other.run(feed)
        for name in first:
            cosines.setdefault(name, []).append(cosine(first[name], second[name]))
        found = (one.detections(first), other.detections(second))
        total += len(found[0])
        kept += count_kept(*found)
        best = [max(score, float(part.score.max(initial=0.0))) for score, part in zip(best, found, strict=True)]
    fp32_ms, int8_ms = compare_speed(one, other, feeds)
    means = {name: float(np.mean(values)) for name, values in cosines.items()}
    return Agreement(len(samples), means, total, kept, best[0], best[1], fp32_ms, int8_ms)


def compare_speed(
    one: Contestant, other: Contestant, feeds: Sequence[Feed], rounds: int = SPEED_ROUNDS
) -> tuple[float, float]:
    """Median milliseconds of both, taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for contestant in (one, other):
        contestant.run(feeds[0])
    for index in range(max(rounds, 1)):
        for contestant, spent in zip((one, other), times, strict=True):
            started = time.perf_counter()
            contestant.run(feeds[index % len(feeds)])
            spent.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def cosine(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Cosine between two tensors as vectors; 1 when both are zero."""
    a, b = np.asarray(first, np.float64).reshape(-1), np.asarray(second, np.float64).reshape(-1)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else float(np.array_equal(a, b))


def count_kept(reference: RowDetections, candidate: RowDetections) -> int:
    """Detections of `reference` that `candidate` has too; each of the candidate's counts once."""
    free = np.ones(len(candidate), np.bool_)
    kept = 0
    for index in range(len(reference)):
        same = free & (candidate.row == reference.row[index]) & (candidate.class_id == reference.class_id[index])
        same &= np.abs(candidate.score - reference.score[index]) <= SCORE_TOLERANCE
        overlap = np.where(same, _iou(reference.box_px[index], candidate.box_px), 0.0)
        if overlap.size and overlap.max() >= MATCH_IOU:
            free[int(overlap.argmax())] = False
            kept += 1
    return kept


def _iou(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(common / np.maximum(areas - common, 1e-9), np.float32)
