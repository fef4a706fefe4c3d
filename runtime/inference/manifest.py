"""`model.yaml`: what a network takes, what its outputs mean, and which files hold it.

    name: hydra_mini
    version: "1"
    inputs:
      - {name: images, kind: images, shape: [8, 3, 192, 320], dtype: uint8, color: rgb, resize: stretch}
      - {name: speed_mps, kind: signal, signal: vehicle.speed_mps, shape: [1, 1], unknown: 0.0}
    heads:
      - {name: detections, decoder: yolox, outputs: {predictions: output}, classes: [person, car]}
    files:
      fp32: {path: model.fp32.onnx, sha256: 3f0c…}

Exactly one input has `kind: images`; its shape is `[batch, 3, height, width]`. A batch of 1 is run once per camera;
a larger batch holds one camera per row. A pixel enters a float32 input as `(pixel * scale - mean) / std`. A signal
input takes the newest value of its signal, or `unknown` while there is none.

This module checks what can be seen in the file alone; `bundle` checks it against the files beside it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.formats.documents import Mistake
from runtime.formats.image_spec import MAX_SIDE_PX, ImageSpec
from runtime.inference.heads.specification import Head

MANIFEST_FILE = "model.yaml"
MAX_BATCH = 64
MAX_HEADS = 64
#: Each row of a batch costs its image's memory in every slot of the batch ring.
MAX_INPUT_ELEMENTS = 512 * 1024 * 1024

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["<64 hex digits: sha256sum FILE>"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImagesInput(_Strict):
    """The input that takes the cameras' prepared images."""

    kind: Literal["images"]
    name: str = Field(min_length=1, description="the graph's input name")
    shape: tuple[int, int, int, int] = Field(description="batch, 3, height, width", examples=["[1, 3, 416, 416]"])
    dtype: Literal["uint8", "float32"]
    color: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["stretch", "letterbox"] = "stretch"
    pad_value: int = Field(default=114, ge=0, le=255)
    scale: float = Field(default=1.0, gt=0.0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @field_validator("shape")
    @classmethod
    def _image_shape(cls, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        batch, channels, height, width = shape
        if channels != 3:
            raise Mistake(f"has {channels} channels", "write [batch, 3, height, width]; only colour images exist here")
        if not 1 <= batch <= MAX_BATCH:
            raise Mistake(f"has a batch of {batch}", f"a batch is 1 to {MAX_BATCH}")
        if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
            raise Mistake(f"has images of {width}x{height}", f"each side is 1 to {MAX_SIDE_PX}")
        if batch * channels * height * width > MAX_INPUT_ELEMENTS:
            raise Mistake(f"has more than {MAX_INPUT_ELEMENTS} elements", "use a smaller image or batch")
        return shape

    @model_validator(mode="after")
    def _conversion_only_for_floats(self) -> ImagesInput:
        if self.dtype == "uint8" and not self.is_identity:
            raise Mistake("a uint8 input takes pixels as they are", "remove scale, mean and std, or use dtype: float32")
        if any(value <= 0.0 for value in self.std):
            raise Mistake("std must be positive", "write three numbers above 0", at=("std",))
        return self

    @property
    def is_identity(self) -> bool:
        """True when pixels enter with their own values, 0 to 255."""
        return self.scale == 1.0 and not any(self.mean) and all(value == 1.0 for value in self.std)

    @property
    def batch(self) -> int:
        """Rows of the input."""
        return self.shape[0]

    @property
    def image_spec(self) -> ImageSpec:
        """How capture has to prepare images for this input."""
        return ImageSpec(self.shape[3], self.shape[2], self.color, self.resize, self.pad_value)


class SignalInput(_Strict):
    """An input that takes one signal's value in every element."""

    kind: Literal["signal"]
    name: str = Field(min_length=1, description="the graph's input name")
    signal: str = Field(min_length=1, examples=["vehicle.speed_mps"])
    shape: tuple[int, ...] = Field(examples=["[1, 1]"])
    dtype: Literal["float32"] = "float32"
    unknown: float = 0.0

    @field_validator("shape")
    @classmethod
    def _small_shape(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(shape) <= 4 or any(not 1 <= size <= MAX_BATCH for size in shape):
            raise Mistake("is not the shape of a signal", f"write 1 to 4 sizes of 1 to {MAX_BATCH}, such as [1, 1]")
        return shape


Input = Annotated[ImagesInput | SignalInput, Field(discriminator="kind")]


class ModelFile(_Strict):
    """One file of the bundle and its hash."""

    path: str = Field(min_length=1)
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _inside_the_bundle(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path:
            raise Mistake("leaves the bundle", "write a path relative to the bundle's folder, without '..'")
        return path


class Manifest(_Strict):
    """The whole of `model.yaml`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["my_network"])
    version: str = Field(min_length=1, max_length=64, examples=['"1"'])
    licence: str = Field(min_length=1, examples=["Apache-2.0"])
    source: str = Field(min_length=1, description="who made it, from what")
    inputs: tuple[Input, ...] = Field(min_length=1)
    heads: tuple[Head, ...] = Field(min_length=1, max_length=MAX_HEADS)
    files: dict[str, ModelFile]
    cameras: tuple[str, ...] = ()
    metrics: dict[str, Any] = Field(default_factory=dict)

    @field_validator("inputs")
    @classmethod
    def _one_images_input(cls, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
        count = sum(isinstance(entry, ImagesInput) for entry in inputs)
        if count != 1:
            raise Mistake(f"has {count} entries of kind images", "declare exactly one input with kind: images")
        _refuse_repeats([entry.name for entry in inputs])
        return inputs

    @field_validator("heads")
    @classmethod
    def _distinct_heads(cls, heads: tuple[Head, ...]) -> tuple[Head, ...]:
        _refuse_repeats([head.name for head in heads])
        if sum(head.decoder == "control" for head in heads) > 1:
            raise Mistake("has more than one control head", "a network has one shadow action; make the others raw")
        return heads

    @field_validator("files")
    @classmethod
    def _something_to_run(cls, files: dict[str, ModelFile]) -> dict[str, ModelFile]:
        if not {"fp32", "cpu_int8"} & files.keys():
            raise Mistake("has no network", "add 'fp32: {path: model.fp32.onnx, sha256: …}'")
        return files

    @field_validator("cameras")
    @classmethod
    def _distinct_cameras(cls, cameras: tuple[str, ...]) -> tuple[str, ...]:
        for index, camera in enumerate(cameras):
            if camera in cameras[:index]:
                raise Mistake(f"names camera {camera!r} twice", "remove one", at=(index,))
        return cameras

    @model_validator(mode="after")
    def _one_camera_per_row(self) -> Manifest:
        batch = self.images.batch
        if self.cameras and batch > 1 and len(self.cameras) > batch:
            message = f"{len(self.cameras)} cameras do not fit a batch of {batch}"
            raise Mistake(message, f"name at most {batch}", at=("cameras",))
        return self

    @property
    def images(self) -> ImagesInput:
        """The input that takes the images."""
        return next(entry for entry in self.inputs if isinstance(entry, ImagesInput))

    @property
    def signals(self) -> tuple[SignalInput, ...]:
        """The inputs that take signals."""
        return tuple(entry for entry in self.inputs if isinstance(entry, SignalInput))


def _refuse_repeats(names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Mistake(f"name {name!r} stands twice", "give each its own name", at=(index, "name"))
