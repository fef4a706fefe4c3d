"""A model bundle, opened for a rig: framesets in, predictions out.

    network = Network.open("runtime/models/hydra_mini", cameras=rig_cameras)
    prediction = network.predict(frameset, geometries, signals)

Opening checks everything and allocates everything; `predict` runs the backend and decodes the heads. Detections of
several heads are joined, with the later heads' classes after the earlier ones'. Arrays in `Prediction.heads` are views
into the backend's ring with one row per batch row: camera `i` of the frameset has row `network.rows[i]`.

`backend` and `precision` are explained in `backends`; on the CPU `precision` is `auto` (INT8 where the bundle has it),
`int8` or `fp32`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import SourceMemory
from runtime.inference.backend import Backend, NetworkDescription, RawOutputs
from runtime.inference.backends import BackendRequest, open_backend
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.embedding import find_embedding
from runtime.inference.heads import build_decoder, misreading
from runtime.inference.heads.decoder import BatchLayout, BundleFitError, HeadResult, ObjectDepth, RowDetections
from runtime.inference.heads.grouping import HeadDecoders
from runtime.inference.heads.specification import DepthHead, DetectionHead, Head, HydraDetectionsHead
from runtime.inference.heads.uncertainty import DETECTION_ENTROPY, detection_entropy
from runtime.inference.onnx_backend import OnnxSettings
from runtime.inference.padding import padding_frameset
from runtime.inference.rows import layout_for
from runtime.inference.source_boxes import SourceBoxes
from runtime.messages import Action, Detections, Frameset, Prediction, SignalReader, SignalValue
from runtime.rig import Rig


class Network:
    """One candidate network, ready for ticks. Make one with `Network.open`."""

    def __init__(
        self,
        bundle: ModelBundle,
        backend: Backend,
        layout: BatchLayout,
        cameras: Sequence[str],
        backend_reasons: Sequence[str] = (),
    ) -> None:
        #: Why this backend and no other, where that was open; for reports.
        self.backend_reasons = tuple(backend_reasons)
        #: Called when the backend has run and Python's part begins, on the thread that asked for the prediction.
        self.on_ran: Callable[[], None] | None = None
        self.cameras = tuple(cameras)
        self.rows = tuple(layout.row_of_camera[camera] for camera in cameras)
        self.image_spec: ImageSpec = bundle.manifest.images.image_spec
        self._backend = backend
        tensors = backend.infer(padding_frameset(self.cameras, self.image_spec, present=True), None).tensors
        backend.reset()
        for head in bundle.manifest.heads:
            wrong = misreading(head, tensors)
            if wrong is not None:
                raise BundleFitError(f"{bundle.directory}: head {head.name!r}: {wrong}")
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        #: How often states were forgotten because they had led to outputs that are not finite; None without states.
        self.states_forgotten: int | None = 0 if bundle.manifest.states else None
        self._decoders = HeadDecoders([build_decoder(head, shapes, layout) for head in bundle.manifest.heads])
        #: Where this network's embedding of a scene is; None when it has none.
        self.embedding = find_embedding(bundle.manifest.name, bundle.manifest.heads, shapes, self._rig_layout(layout))
        self.class_names, self._first_class = _joined_classes(bundle)
        heads = bundle.manifest.heads
        #: States that objects can have, and the fields of tracks that this network tells of objects.
        self.states = frozenset(state for head in heads for state in _states(head))
        self.object_fields = frozenset(field for head in heads for field in _told_fields(head))
        #: Scalars that are published on some ticks only, beside those of every prediction.
        self.occasional_scalars = (DETECTION_ENTROPY,) if self.class_names else ()
        identity = self.image_spec.geometry(self.image_spec.width, self.image_spec.height)
        self._source_boxes = SourceBoxes(self.rows, layout.rows, identity)

    @staticmethod
    def open(
        directory: str | Path,
        cameras: Sequence[str],
        backend: str = "onnx",
        precision: str = "auto",
        threads: int | Literal["auto"] = 1,
        spinning: bool = False,
        rig: Rig | None = None,
        engines: Path | None = None,
        preprocess: str = "host",
    ) -> Network:
        """Load, check and warm the bundle in `directory` for these cameras; `rig` is their calibration, if any.

        `engines` is the folder of built TensorRT engines, for backends `auto` and `tensorrt`; with the latter
        `preprocess` says where images are prepared (auto, host, device).

        Raises:
            DocumentError: the bundle is not whole; with every problem.
            BundleFitError: a good bundle that does not fit the cameras, the precision or the backend.
            BackendError: the backend cannot run the file.
        """
        bundle = load_bundle(directory)
        layout = layout_for(bundle.manifest, cameras)
        settings = OnnxSettings(threads=threads, spinning=spinning)
        request = BackendRequest(backend, precision, settings, engines, preprocess)
        runner, reasons = open_backend(request, bundle, layout, cameras, rig)
        network = Network(bundle, runner, layout, cameras, reasons)
        runner.warmup()
        return network

    def _rig_layout(self, layout: BatchLayout) -> BatchLayout:
        """`layout` with the cameras in the rig's order."""
        return replace(layout, row_of_camera=dict(zip(self.cameras, self.rows, strict=True)))

    @property
    def description(self) -> NetworkDescription:
        """Which file runs, and how."""
        return self._backend.description

    @property
    def sources(self) -> SourceMemory | None:
        """Where capture leaves source frames, for this network to prepare; None: it takes prepared images only."""
        return self._backend.sources

    @property
    def ring_length(self) -> int:
        """How many predictions later the arrays of one are overwritten."""
        return self._backend.ring_length

    def predict(
        self, frameset: Frameset, geometries: Sequence[Geometry | None] | None, signals: SignalReader | None
    ) -> Prediction:
        """What the network says about `frameset`. `geometries` has one entry per camera (None where it is missing).

        Raises:
            FramesetError: the frameset is not of the cameras and size that the network was opened for.
            BackendError: the run failed.
        """
        outputs = self._backend.infer(frameset, signals)
        if self.on_ran is not None:
            self.on_ran()
        if self.states_forgotten is not None and not _are_finite(outputs.tensors.values()):
            # What is not a number stays in the memory for good: better begin anew than see nothing ever after.
            self._backend.reset()
            self.states_forgotten += 1
        results = self._decoders.decode(outputs.tensors, outputs.row_present)
        return self._joined(frameset.time_ns, outputs, results, geometries)

    def run_bare(self, frameset: Frameset, signals: SignalReader | None) -> None:
        """One run of the backend and nothing else: what a tick is measured against."""
        self._backend.infer(frameset, signals)

    def silent_outputs(self) -> list[str]:
        """Names of outputs that are not finite on an image of padding: a sign of a broken export."""
        frameset = padding_frameset(self.cameras, self.image_spec, present=True)
        tensors = self._backend.infer(frameset, None).tensors
        self._backend.reset()
        return [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]

    def reset(self) -> None:
        """States begin anew with the next frameset: for whoever turns to another scene. Nothing to do without."""
        self._backend.reset()

    def close(self) -> None:
        """Give the backend back."""
        self._backend.close()

    def _joined(
        self,
        time_ns: int,
        outputs: RawOutputs,
        results: Sequence[HeadResult],
        geometries: Sequence[Geometry | None] | None,
    ) -> Prediction:
        scalars: dict[str, SignalValue] = {}
        arrays: dict[str, NDArray[np.generic]] = {}
        control: Action | None = None
        lead_distance_m: float | None = None
        depth: ObjectDepth | None = None
        for result in results:
            scalars.update(result.scalars)
            arrays.update(result.arrays)
            control = result.control or control
            depth = result.depth or depth
            lead_distance_m = result.lead_distance_m if result.control else lead_distance_m
        detections = self._detections(results, depth, geometries)
        doubt = detection_entropy(detections.score) if self.class_names else None
        if doubt is not None:
            scalars[DETECTION_ENTROPY] = doubt
        return Prediction(
            time_ns=time_ns,
            detections=detections,
            class_names=self.class_names,
            control=control,
            lead_distance_m=lead_distance_m,
            scalars=scalars,
            heads=arrays,
            camera_rows=self.rows,
            infer_ns=outputs.infer_ns,
        )

    def _detections(
        self, results: Sequence[HeadResult], depth: ObjectDepth | None, geometries: Sequence[Geometry | None] | None
    ) -> Detections:
        found = [
            _shifted(result.detections, first)
            for result, first in zip(results, self._first_class, strict=True)
            if result.detections is not None and len(result.detections)
        ]
        joined = _concatenated(found)
        if depth is not None:
            measured = depth.of_boxes(joined.row, joined.box_px)
            own = joined.distance_m
            joined.distance_m = measured if own is None else np.where(np.isnan(own), measured, own)
        return self._source_boxes.map(joined, geometries)


def _are_finite(tensors: Iterable[NDArray[np.generic]]) -> bool:
    """Without an array of truths for each: the least and the greatest are finite when all are."""
    return all(
        np.isfinite(tensor.min()) and np.isfinite(tensor.max())
        for tensor in tensors
        if tensor.dtype.kind == "f" and tensor.size
    )


def _joined_classes(bundle: ModelBundle) -> tuple[tuple[str, ...], list[int]]:
    """The class names of all detection heads, one after another, and where each head's begin."""
    names: list[str] = []
    first = []
    for head in bundle.manifest.heads:
        first.append(len(names))
        if isinstance(head, DetectionHead):
            names += head.classes
    return tuple(names), first


def _states(head: Head) -> list[str]:
    """The states that a head can tell of objects."""
    if not isinstance(head, HydraDetectionsHead):
        return []
    return [state for states in head.states.values() for state in states]


def _told_fields(head: Head) -> list[str]:
    """The fields of tracks that a head tells besides boxes."""
    if isinstance(head, DepthHead):
        return ["predicted_distance_m"]
    if not isinstance(head, HydraDetectionsHead):
        return []
    told = {"predicted_distance_m": head.outputs.distance, "predicted_speed_mps": head.outputs.speed}
    return [field for field, output in told.items() if output is not None]


def _shifted(found: RowDetections, first_class: int) -> RowDetections:
    if first_class:
        found.class_id = found.class_id + np.int32(first_class)
    return found


def _concatenated(found: Sequence[RowDetections]) -> RowDetections:
    if not found:
        return RowDetections.empty()
    if len(found) == 1:
        return found[0]
    return RowDetections(
        row=np.concatenate([part.row for part in found]),
        class_id=np.concatenate([part.class_id for part in found]),
        score=np.concatenate([part.score for part in found]),
        box_px=np.concatenate([part.box_px for part in found]),
        state=[state for part in found for state in part.state],
        distance_m=_filled([(part.distance_m, len(part)) for part in found]),
        speed_mps=_filled([(part.speed_mps, len(part)) for part in found]),
    )


def _filled(parts: Sequence[tuple[NDArray[np.float32] | None, int]]) -> NDArray[np.float32] | None:
    """Optional columns of several heads as one, NaN where a head has none; None where no head has one."""
    if all(column is None for column, _ in parts):
        return None
    return np.concatenate([np.full(size, np.nan, np.float32) if column is None else column for column, size in parts])
