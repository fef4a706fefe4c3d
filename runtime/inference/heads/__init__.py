"""Head decoders by name: the one table that `model.yaml`, the importer and the network share.

Adding a decoder is a module with a class and a `check`, a specification in `specification`, and a branch in
`build_decoder` and `check_head`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads import classification, control, depth, hydra_detections, raw, segmentation, yolov8, yolox
from runtime.inference.heads.decoder import BatchLayout, HeadDecoder, HeadFault, TensorShape
from runtime.inference.heads.specification import (
    ClassificationHead,
    ControlHead,
    DepthHead,
    Head,
    HydraDetectionsHead,
    SegmentationHead,
    Yolov8Head,
    YoloxHead,
)

DECODERS = (
    "hydra_detections",
    "yolox",
    "yolov8",
    "control",
    "segmentation",
    "classification",
    "depth",
    "raw",
    "embedding",
)


def build_decoder(head: Head, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> HeadDecoder:
    """The decoder of `head` for stacked outputs of these shapes (which `check_head` has found to fit)."""
    if isinstance(head, HydraDetectionsHead):
        return hydra_detections.HydraDetectionsDecoder(head, shapes, layout)
    if isinstance(head, YoloxHead):
        return yolox.YoloxDecoder(head, shapes, layout)
    if isinstance(head, Yolov8Head):
        return yolov8.Yolov8Decoder(head, shapes, layout)
    if isinstance(head, ControlHead):
        return control.ControlDecoder(head, shapes, layout)
    if isinstance(head, SegmentationHead):
        return segmentation.SegmentationDecoder(head, shapes, layout)
    if isinstance(head, ClassificationHead):
        return classification.ClassificationDecoder(head, shapes, layout)
    if isinstance(head, DepthHead):
        return depth.DepthDecoder(head, shapes, layout)
    return raw.RawDecoder(head, shapes, layout)


def misreading(head: Head, tensors: Mapping[str, NDArray[np.generic]]) -> str | None:
    """What is wrong when the outputs for an image of padding are read as `head` says; None where nothing is seen."""
    return yolov8.misreading(head, tensors) if isinstance(head, Yolov8Head) else None


def check_head(head: Head, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Every way in which a graph's outputs do not fit `head`."""
    if isinstance(head, HydraDetectionsHead):
        return hydra_detections.check(head, shapes, layout)
    if isinstance(head, YoloxHead):
        return yolox.check(head, shapes, layout)
    if isinstance(head, Yolov8Head):
        return yolov8.check(head, shapes, layout)
    if isinstance(head, ControlHead):
        return control.check(head, shapes, layout)
    if isinstance(head, SegmentationHead):
        return segmentation.check(head, shapes, layout)
    if isinstance(head, ClassificationHead):
        return classification.check(head, shapes, layout)
    if isinstance(head, DepthHead):
        return depth.check(head, shapes, layout)
    return raw.check(head, shapes, layout)
