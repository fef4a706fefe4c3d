"""What `model.yaml` says about a head: which decoder, which graph outputs it reads, and its settings.

Each decoder has its own model, so that a setting it does not know is an error and not ignored. `outputs` maps the
decoder's name of a tensor to the graph's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.formats.documents import Mistake, suggest

HeadName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,47}$", examples=["detections"])]
ClassName = Annotated[str, Field(min_length=1, max_length=64)]
Activation = Literal["none", "sigmoid", "softmax"]
Yolov8Form = Literal["channels_first", "channels_last", "suppressed"]

MAX_CLASSES = 4096
MAX_DETECTIONS_PER_CAMERA = 1000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Head(_Strict):
    name: HeadName


class DetectionHead(_Head):
    """What all heads that find objects share. `decoder` says how: see the heads made from this one."""

    decoder: str
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    score_threshold: float = Field(default=0.1, ge=0.001, le=1.0)
    iou_threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    max_per_camera: int = Field(default=100, ge=1, le=MAX_DETECTIONS_PER_CAMERA)

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(classes)


class HydraDetectionsOutputs(_Strict):
    """Tensors of a centre-point detection head."""

    heatmap: str
    box: str
    state: str | None = None
    distance: str | None = None
    speed: str | None = None


class HydraDetectionsHead(DetectionHead):
    """Centre points on a grid (see `hydra_detections`)."""

    decoder: Literal["hydra_detections"]
    outputs: HydraDetectionsOutputs
    states: dict[str, tuple[str, ...]] = Field(default_factory=dict, max_length=1)

    @model_validator(mode="after")
    def _states_of_known_classes(self) -> HydraDetectionsHead:
        for class_name in self.states:
            if class_name not in self.classes:
                fix = suggest(class_name, self.classes)
                raise Mistake(f"states of unknown class {class_name!r}", fix, at=("states", class_name))
        if bool(self.states) != (self.outputs.state is not None):
            raise Mistake("states and outputs.state go together", "declare both or neither", at=("outputs",))
        return self


class YoloxOutputs(_Strict):
    """The one tensor of a YOLO network."""

    predictions: str


class YoloxHead(DetectionHead):
    """Anchor-free grid cells at several strides (see `yolox`)."""

    decoder: Literal["yolox"]
    outputs: YoloxOutputs
    strides: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(default=(8, 16, 32), min_length=1, max_length=8)


class Yolov8Head(DetectionHead):
    """Anchor-free boxes without objectness (see `yolov8`)."""

    decoder: Literal["yolov8"]
    outputs: YoloxOutputs
    form: Yolov8Form = "channels_first"
    activation: Literal["none", "sigmoid"] = "none"


class ControlOutputs(_Strict):
    """The one tensor of a control head."""

    control: str


class ControlHead(_Head):
    """What the candidate would do (see `control`)."""

    decoder: Literal["control"]
    outputs: ControlOutputs
    camera: str | None = None
    lead_threshold: float = Field(default=0.5, ge=0.0, le=1.0)


class SegmentationOutputs(_Strict):
    """The one tensor of a segmentation head."""

    mask: str


class SegmentationHead(_Head):
    """A class for each pixel (see `segmentation`)."""

    decoder: Literal["segmentation"]
    outputs: SegmentationOutputs
    #: `scores`: a plane for each class. `class_ids`: one plane that names the class (an argmax inside the graph).
    form: Literal["scores", "class_ids"] = "scores"
    classes: tuple[HeadName, ...] = Field(min_length=1, max_length=256)
    #: True: each pixel has the one class that scores highest. False: each class is a mask of its own, cut at 0.5.
    exclusive: bool = False
    #: Classes whose share of the image is published; all of them when empty.
    publish: tuple[str, ...] = ()
    activation: Literal["none", "sigmoid"] = "none"

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(classes)

    @model_validator(mode="after")
    def _publish_known_classes(self) -> SegmentationHead:
        for index, name in enumerate(self.publish):
            if name not in self.classes:
                raise Mistake(f"unknown class {name!r}", suggest(name, self.classes), at=("publish", index))
        return self


class ClassificationOutputs(_Strict):
    """The one tensor of a classification head."""

    probabilities: str


class ClassificationHead(_Head):
    """One class for the whole scene (see `classification`)."""

    decoder: Literal["classification"]
    outputs: ClassificationOutputs
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    camera: str | None = None
    activation: Activation = "none"

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(classes)


class DepthOutputs(_Strict):
    """The one tensor of a depth head."""

    depth: str


class DepthHead(_Head):
    """How far each pixel is (see `depth`)."""

    decoder: Literal["depth"]
    outputs: DepthOutputs
    quantity: Literal["metres", "inverse_metres"] = "metres"
    #: Metres for one unit of the tensor; for an inverse depth, metres at a value of 1.
    scale: float = Field(default=1.0, gt=0.0, le=1e6)
    max_m: float = Field(default=250.0, gt=0.0, le=10_000.0)


class RawHead(_Head):
    """Tensors handed on as they are; an embedding is one."""

    decoder: Literal["raw", "embedding"]
    outputs: dict[HeadName, str] = Field(min_length=1, max_length=32)


Head = Annotated[
    HydraDetectionsHead
    | YoloxHead
    | Yolov8Head
    | ControlHead
    | SegmentationHead
    | ClassificationHead
    | DepthHead
    | RawHead,
    Field(discriminator="decoder"),
]


def _distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for index, name in enumerate(classes):
        if name in seen:
            raise Mistake(f"class {name!r} stands twice", "give each its own name", at=(index,))
        seen.add(name)
    return classes


def tensors_of(head: Head) -> dict[str, str]:
    """The graph outputs that a head reads, by the decoder's names for them."""
    if isinstance(head, RawHead):
        return dict(head.outputs)
    return {key: str(name) for key, name in head.outputs.model_dump().items() if name is not None}
