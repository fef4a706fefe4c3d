"""Both files of a network against what was true, on drives that carry it (synthetic drives do).

`read_truth` samples a drive as calibration does and finds, for each camera of each sample, the truth of exactly the
frame that the sample shows: `/truth/<camera>` (boxes in the camera's pixels, how much of each is visible) and, of the
moment, `/truth/ego` (what a faultless controller would do, the vehicle ahead) and the drive's weather. A camera whose
frame has no truth is not scored. A `TruthScore` then collects one file's scores for one head; `losses` says what one
file loses against another.

Objects count as in training's evaluation: `calibration.metrics.is_scored`. Only classes that a head and the truth
call the same are scored, and from `LEAST_OBJECTS_PER_CLASS` objects on. Drives have no masks and no depth maps, so
segmentation and depth are compared with FP32 alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.int8.detection_comparison import LEAST_OBJECTS_PER_CLASS, decode_detections
from calibration.int8.findings import Finding, Instant
from calibration.int8.head_comparison import LEAST_SPREADS
from calibration.int8.sampling import Sample, sample_drive
from calibration.metrics import AbsoluteError, AveragePrecision, is_scored
from runtime.drives import Drive, open_drive
from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.topics import truth_objects_topic
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.heads.specification import ClassificationHead, ControlHead, DetectionHead, Head
from runtime.inference.manifest import Manifest
from runtime.inference.rows import layout_for
from runtime.messages import NANOSECONDS_PER_SECOND

MOMENTS_PER_DRIVE = 24
EGO_TOPIC = "/truth/ego"
SEARCH_NS = NANOSECONDS_PER_SECOND  # how far back a camera's last frame may lie
#: Precision-recall curves need the weak detections too.
LOWEST_SCORE = 0.02


@dataclass(frozen=True, slots=True)
class TrueObjects:
    """What one camera truly showed, in pixels of the prepared image."""

    class_names: tuple[str, ...]
    box_px: NDArray[np.float32]  # [K, 4]
    ignored: NDArray[np.bool_]  # [K] too small or too hidden to be wanted


@dataclass(frozen=True, slots=True)
class TrueMoment:
    """What was true in one sample; rows are those of the network's stacked outputs."""

    objects: Mapping[int, TrueObjects]  # by row
    ego: Mapping[str, float] = field(default_factory=dict)
    weather: str | None = None
    row_of_camera: Mapping[str, int] = field(default_factory=dict)


def read_truth(manifest: Manifest, path: Path, seed: int) -> tuple[list[Sample], list[TrueMoment]]:
    """Samples of a drive with what is true in each; none when the drive carries no truth of objects or of the car.

    Raises:
        DocumentError: the drive cannot be opened.
        SamplingError: it gives no pictures for this network.
    """
    drive = open_drive(path)
    if drive.path.suffix != ".mcap":
        return [], []
    with McapTopicReader(drive.path) as reader:
        if not {EGO_TOPIC, *map(truth_objects_topic, drive.cameras)} & set(reader.topics):
            return [], []
        samples = sample_drive(manifest, drive, MOMENTS_PER_DRIVE, np.random.default_rng(seed))
        layout = layout_for(manifest, tuple(drive.cameras))
        weather = reader.metadata().get("synthetic", {}).get("weather")
        return samples, [_moment(reader, drive, manifest, layout, sample, weather) for sample in samples]


def time_of(sample: Sample) -> int:
    """The moment of a drive's sample, which its origin ends with (`PATH@NANOSECONDS`)."""
    return int(sample.origin.rpartition("@")[2])


def _moment(
    reader: McapTopicReader,
    drive: Drive,
    manifest: Manifest,
    layout: BatchLayout,
    sample: Sample,
    weather: str | None,
) -> TrueMoment:
    time_ns = time_of(sample)
    shown = np.flatnonzero(sample.present).tolist()
    # A network that runs once per camera has rows for present cameras alone.
    row_at = {row: place for place, row in enumerate(shown)} if manifest.is_per_camera else {row: row for row in shown}
    rows = {camera: row_at[row] for camera, row in layout.row_of_camera.items() if row in row_at}
    objects = {}
    for camera, place in rows.items():
        found = _objects(reader, camera, time_ns)
        geometry = sample.geometry[layout.row_of_camera[camera]]
        if found is not None and geometry is not None:
            box_px = geometry.boxes_to_network(np.array([item["box_px"] for item in found], np.float32).reshape(-1, 4))
            visible = np.array([item["visible_fraction"] for item in found], np.float32)
            names = tuple(str(item["class_name"]) for item in found)
            objects[place] = TrueObjects(names, box_px, ~is_scored(box_px, visible))
    egos = list(reader.messages({EGO_TOPIC}, time_ns - SEARCH_NS, time_ns + 1))
    return TrueMoment(objects, json.loads(egos[-1].data) if egos else {}, weather, rows)


def _objects(reader: McapTopicReader, camera: str, time_ns: int) -> list[dict[str, object]] | None:
    """Truth of the frame that the camera showed at this moment: its last one."""
    packets = list(reader.packets(camera, time_ns - SEARCH_NS, time_ns + 1))
    if not packets:
        return None
    frame_ns = packets[-1].time_ns
    found = [
        json.loads(message.data) for message in reader.messages({truth_objects_topic(camera)}, frame_ns, frame_ns + 1)
    ]
    return list(found[-1]["objects"]) if found else None


class TruthScore:
    """One file's scores in one head. Errors and misses are collected; heads without truth stay empty."""

    def __init__(self, head: Head, height: int, width: int) -> None:
        self._head, self._size = head, (height, width)
        classes = head.classes if isinstance(head, DetectionHead) else ()
        self.precision = [AveragePrecision() for _ in classes]
        self.errors = {name: AbsoluteError() for name in ("accel", "curvature", "lead_distance")}
        self.answers: list[bool] = []

    def add(self, instant: Instant, moment: TrueMoment) -> None:
        """Take in one instant's outputs and what was true."""
        if isinstance(self._head, DetectionHead):
            self._add_detections(self._head, instant, moment)
        elif isinstance(self._head, ControlHead):
            self._add_control(self._head, instant, moment)
        elif isinstance(self._head, ClassificationHead) and moment.weather in self._head.classes:
            scores = instant.rows_of(self._head.outputs.probabilities)
            row = scores[_row(self._head.camera, moment, len(scores))].reshape(-1)
            self.answers.append(self._head.classes[int(row.argmax())] == moment.weather)

    def _add_detections(self, head: DetectionHead, instant: Instant, moment: TrueMoment) -> None:
        sensitive = head.model_copy(update={"score_threshold": LOWEST_SCORE})
        found = decode_detections(sensitive, instant, *self._size)
        for row, truth in moment.objects.items():
            names = np.array(truth.class_names, dtype=object)
            for class_id, precision in enumerate(self.precision):
                chosen = (found.row == row) & (found.class_id == class_id)
                wanted = names == head.classes[class_id]
                precision.add(found.score[chosen], found.box_px[chosen], truth.box_px[wanted], truth.ignored[wanted])

    def _add_control(self, head: ControlHead, instant: Instant, moment: TrueMoment) -> None:
        rows = instant.rows_of(head.outputs.control)
        values = rows[_row(head.camera, moment, len(rows))]
        wanted = {"accel": "target_accel_mps2", "curvature": "target_curvature_1pm", "lead_distance": "lead_distance_m"}
        for (name, key), value in zip(wanted.items(), values, strict=False):
            if key in moment.ego:
                self.errors[name].add(float(value), float(moment.ego[key]))


def losses(fp32: TruthScore, candidate: TruthScore) -> list[Finding]:
    """What `candidate` loses against FP32, where there was truth."""
    return [*_detection_loss(fp32, candidate), *_control_losses(fp32, candidate), *_answer_loss(fp32, candidate)]


def _detection_loss(fp32: TruthScore, candidate: TruthScore) -> list[Finding]:
    scored = [index for index, entry in enumerate(fp32.precision) if entry.objects >= LEAST_OBJECTS_PER_CLASS]
    if not scored:
        return []
    one, other = (float(np.mean([part.precision[index].value() for index in scored])) for part in (fp32, candidate))
    objects = sum(fp32.precision[index].objects for index in scored)
    return [Finding("map50_loss", one - other, objects, f"{objects} objects of {len(scored)} classes", one, other)]


def _control_losses(fp32: TruthScore, candidate: TruthScore) -> list[Finding]:
    found = []
    for name, error in fp32.errors.items():
        if not error.errors:
            continue
        one, other = error.value(), candidate.errors[name].value()
        if name == "lead_distance":
            scale = float(np.mean(np.maximum(error.truths, 1.0)))
        else:
            scale = max(error.spread(), LEAST_SPREADS[name])
        found.append(Finding(f"{name}_loss", (other - one) / scale, len(error.errors), f"of {scale:.3g}", one, other))
    return found


def _answer_loss(fp32: TruthScore, candidate: TruthScore) -> list[Finding]:
    """Of classifications; one answer more or less in so small a sample is chance and counts as none."""
    count = len(fp32.answers)
    if not count:
        return []
    lost = sum(fp32.answers) - sum(candidate.answers)
    one, other = sum(fp32.answers) / count, sum(candidate.answers) / count
    return [Finding("accuracy_loss", max(lost - 1, 0) / count, count, f"{count} moments", one, other)]


def _row(camera: str | None, moment: TrueMoment, rows: int) -> int:
    """The row that speaks for the scene (see `runtime.inference.heads.decoder.scene_row`)."""
    return moment.row_of_camera.get(camera, 0) if camera is not None and rows > 1 else 0


def truth_of(manifest: Manifest, drives: Sequence[Path], seed: int) -> tuple[list[Sample], list[TrueMoment], list[str]]:
    """Samples and truth of several drives; the last are notes about drives without truth."""
    samples: list[Sample] = []
    moments: list[TrueMoment] = []
    notes: list[str] = []
    for path in drives:
        more, true = read_truth(manifest, path, seed)
        samples, moments = samples + more, moments + true
        if not more:
            notes.append(f"drive {path} carries no ground truth; heads are compared with FP32 alone there")
    return samples, moments, notes
