"""Guesses the heads of a foreign network from its decoder and output shapes, as they stand in `model.yaml`.

The guess is a first draft that a person can correct; what cannot be guessed is a problem with what to do about it.
`check_head` judges the draft afterwards, so this module looks only at what it needs to write one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence

from runtime.inference.coco import COCO_CLASSES
from runtime.inference.graph import Graph, TensorSpec
from runtime.inference.heads.yolov8 import FIRST_CLASS as YOLOV8_FIRST_CLASS
from runtime.inference.heads.yolov8 import form_of
from runtime.inference.heads.yolox import FIRST_CLASS

HeadDraft = dict[str, object]

#: Below this nothing is worth a tracker's time; it also catches weak detections of known objects.
YOLOX_SCORE_THRESHOLD = 0.1


#: Class names of the largest head allowed, generously.
MAX_NOTE_LENGTH = 400_000


class DraftError(ValueError):
    """No head can be guessed; `fix` says what would help."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def draft_heads(decoder: str, graph: Graph, labels: Sequence[str] | None) -> list[HeadDraft]:
    """Heads for `graph` under `decoder`, one of `runtime.inference.heads.DECODERS`.

    Raises:
        DraftError: the outputs do not tell enough.
    """
    if labels is None and decoder == "yolov8":
        labels = noted_labels(graph)
    return _DRAFTS[decoder](graph.outputs, labels)


def noted_labels(graph: Graph) -> list[str] | None:
    """Class names that the exporter left in the file (`names`: a dict by class number, as Ultralytics writes it)."""
    try:
        names = ast.literal_eval(graph.metadata.get("names", "None")[:MAX_NOTE_LENGTH])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None  # somebody else's note
    if not isinstance(names, dict) or sorted(names, key=repr) != sorted(range(len(names)), key=repr):
        return None
    labels = [str(names[number]) for number in range(len(names))]
    return labels if labels and len(set(labels)) == len(labels) and all(labels) else None


def _yolox(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    tensor = _only(outputs, "yolox")
    count = _size(tensor, 2, 3) - FIRST_CLASS
    if labels is None and count != len(COCO_CLASSES):
        raise DraftError(f"output {tensor} has {count} classes, not COCO's {len(COCO_CLASSES)}", "give their labels")
    return [
        {
            "name": "detections",
            "decoder": "yolox",
            "outputs": {"predictions": tensor.name},
            "classes": list(labels or COCO_CLASSES),
            "score_threshold": YOLOX_SCORE_THRESHOLD,
            "iou_threshold": 0.5,
        }
    ]


def _yolov8(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    tensor = _only(outputs, "yolov8")
    form = form_of(tensor.shape)
    if form is None:
        forms = "[batch, 4 + classes, boxes], [batch, boxes, 4 + classes] or [batch, boxes, 6]"
        raise DraftError(f"output {tensor} is none of {forms}", "choose another decoder, or export with fixed shapes")
    if form == "suppressed" and labels is None:
        raise DraftError(f"output {tensor} holds class numbers, not how many there are", "give their labels")
    count = int(tensor.shape[1 if form == "channels_first" else 2] or 0) - YOLOV8_FIRST_CLASS
    if labels is None and count != len(COCO_CLASSES):
        raise DraftError(f"output {tensor} has {count} classes, not COCO's {len(COCO_CLASSES)}", "give their labels")
    return [
        {
            "name": "detections",
            "decoder": "yolov8",
            "outputs": {"predictions": tensor.name},
            "classes": list(labels or COCO_CLASSES),
            "form": form,
            "score_threshold": YOLOX_SCORE_THRESHOLD,
            "iou_threshold": 0.5,
        }
    ]


def _hydra_detections(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    roles = {role: next((name for name in outputs if role in name.lower()), None) for role in ("heatmap", "box")}
    missing = [role for role, name in roles.items() if name is None]
    if missing:
        raise DraftError(f"no output is named after {' or '.join(missing)}", "write model.yaml by hand")
    if labels is None:
        raise DraftError("the classes of the heatmap are not known", "give their labels")
    return [{"name": "detections", "decoder": "hydra_detections", "outputs": roles, "classes": list(labels)}]


def _control(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    return [{"name": "control", "decoder": "control", "outputs": {"control": _only(outputs, "control").name}}]


def _segmentation(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    heads: list[HeadDraft] = []
    for name, tensor in outputs.items():
        head = _identifier(name)
        if _holds_class_ids(tensor):
            heads.append(_class_id_draft(tensor, labels))
            continue
        count = _size(tensor, 1, 4)
        if labels is not None:
            classes = list(labels)
        elif count == 2:
            classes = ["background", head]
        else:
            classes = [f"{head}_{index}" for index in range(count)]
        draft: HeadDraft = {"name": head, "decoder": "segmentation", "outputs": {"mask": name}, "classes": classes}
        published = [label for label in classes if label != "background"]
        heads.append({**draft, "exclusive": count > 1, "publish": published})
    return heads


def _holds_class_ids(tensor: TensorSpec) -> bool:
    """Whether a mask names each pixel's class: one plane, or whole numbers in one."""
    is_whole = not tensor.dtype.startswith("float")
    return len(tensor.shape) == 3 or (is_whole and len(tensor.shape) == 4 and tensor.shape[1] == 1)


def _class_id_draft(tensor: TensorSpec, labels: Sequence[str] | None) -> HeadDraft:
    if labels is None:
        raise DraftError(f"output {tensor} holds class numbers, not how many there are", "give their labels")
    classes = list(labels)
    return {
        "name": _identifier(tensor.name),
        "decoder": "segmentation",
        "outputs": {"mask": tensor.name},
        "classes": classes,
        "form": "class_ids",
        "publish": [label for label in classes if label != "background"],
    }


def _classification(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    tensor = _only(outputs, "classification")
    classes = list(labels) if labels is not None else [f"class_{index}" for index in range(_size(tensor, 1, 2))]
    return [
        {
            "name": _identifier(tensor.name),
            "decoder": "classification",
            "outputs": {"probabilities": tensor.name},
            "classes": classes,
        }
    ]


def _depth(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    """Metres is a guess: `quantity` and `scale` are for a person to check, because no shape tells them."""
    name = _only(outputs, "depth").name
    return [{"name": "depth", "decoder": "depth", "outputs": {"depth": name}, "quantity": "metres", "scale": 1.0}]


def _raw(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    return [{"name": _identifier(name), "decoder": "raw", "outputs": {"tensor": name}} for name in outputs]


def _embedding(outputs: Mapping[str, TensorSpec], labels: Sequence[str] | None) -> list[HeadDraft]:
    name = _only(outputs, "embedding").name
    return [{"name": "embedding", "decoder": "embedding", "outputs": {"embedding": name}}]


_DRAFTS: Mapping[str, Callable[[Mapping[str, TensorSpec], Sequence[str] | None], list[HeadDraft]]] = {
    "yolox": _yolox,
    "yolov8": _yolov8,
    "hydra_detections": _hydra_detections,
    "control": _control,
    "segmentation": _segmentation,
    "classification": _classification,
    "depth": _depth,
    "raw": _raw,
    "embedding": _embedding,
}


def _only(outputs: Mapping[str, TensorSpec], decoder: str) -> TensorSpec:
    if len(outputs) != 1:
        listed = ", ".join(str(tensor) for tensor in outputs.values())
        raise DraftError(f"decoder {decoder} reads one output, the network has {listed}", "write model.yaml by hand")
    return next(iter(outputs.values()))


def _size(tensor: TensorSpec, axis: int, rank: int) -> int:
    """The size that counts classes."""
    if len(tensor.shape) != rank or tensor.shape[axis] is None:
        fix = "choose another decoder, or export with fixed shapes"
        raise DraftError(f"output {tensor} needs {rank} dimensions, of which number {axis + 1} counts classes", fix)
    return int(tensor.shape[axis] or 0)


def _identifier(name: str) -> str:
    """A graph's output name as a head's name: lower case, digits and underscores."""
    cleaned = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")[:40]
    return cleaned if cleaned[:1].isalpha() else f"output_{cleaned}".rstrip("_")
