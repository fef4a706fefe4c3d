"""What a network takes, as `model.yaml` says it: images, signals, calibration matrices, and its own states.

Each kind has its own model, so that a setting that it does not know is an error and not ignored. What one input says
alone is checked here; how inputs fit one another and the graph, `input_checks` tells.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from runtime.formats.documents import Mistake
from runtime.formats.image_spec import MAX_SIDE_PX, ImageSpec

MAX_BATCH = 64
#: Each row of a batch costs its image's memory in every slot of the batch ring.
MAX_INPUT_ELEMENTS = 512 * 1024 * 1024
#: A state is held twice for each stream, and once more in a sample of calibration.
MAX_STATE_ELEMENTS = 64 * 1024 * 1024
MAX_RANK = 8
#: Longer than this a scene is another one, and a network that remembers the old one would be wrong about it.
DEFAULT_RESET_AFTER_S = 1.0

StateType = Literal["float32", "float16", "int32", "int64", "uint8", "bool"]
STATE_TYPES: tuple[str, ...] = get_args(StateType)

#: Sizes of the last two dimensions that each kind of calibration may have.
MATRIX_SIZES = {
    "intrinsics": ((3, 3), (4, 4)),
    "extrinsics": ((4, 4), (3, 4)),
    "projection": ((3, 4), (4, 4)),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImagesInput(_Strict):
    """An input that takes cameras' prepared images: all of them as a batch, or one camera's."""

    kind: Literal["images"]
    name: str = Field(min_length=1, description="the graph's input name")
    shape: tuple[int, int, int, int] = Field(description="batch, 3, height, width", examples=["[1, 3, 416, 416]"])
    dtype: Literal["uint8", "float32"]
    #: Whose image it is, where the network has an input for each camera; else cameras come in the rig's order.
    camera: str | None = Field(default=None, min_length=1)
    color: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["stretch", "letterbox"] = "stretch"
    pad_value: int = Field(default=114, ge=0, le=255)
    scale: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0.0, 0.0, 0.0)
    std: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (1.0, 1.0, 1.0)

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
    unknown: float = Field(default=0.0, allow_inf_nan=False)

    @field_validator("shape")
    @classmethod
    def _small_shape(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(shape) <= 4 or any(not 1 <= size <= MAX_BATCH for size in shape):
            raise Mistake("is not the shape of a signal", f"write 1 to 4 sizes of 1 to {MAX_BATCH}, such as [1, 1]")
        return shape


class CalibrationInput(_Strict):
    """An input that takes a matrix of the rig's calibration for each row of the batch, or for one camera.

    `intrinsics`: pixels of the *network's* image from the camera's frame. `extrinsics`: the vehicle's frame from the
    camera's. `projection`: pixels of the network's image (times depth) from the vehicle's frame.
    """

    kind: Literal["calibration"]
    name: str = Field(min_length=1, description="the graph's input name")
    what: Literal["intrinsics", "extrinsics", "projection"]
    shape: tuple[int, ...] = Field(description="any leading sizes, then the matrix", examples=["[8, 3, 3]"])
    dtype: Literal["float32"] = "float32"
    #: The images input whose camera it is about, where the network has an input for each camera.
    of: str | None = Field(default=None, min_length=1)
    #: True: the other way round. A matrix that has no inverse as it stands is inverted as [4, 4].
    inverse: bool = False
    #: What enters for a camera that the rig does not know; without it, such a rig is refused.
    fallback: tuple[tuple[float, ...], ...] | None = None

    @model_validator(mode="after")
    def _shape_of_matrices(self) -> CalibrationInput:
        known = " or ".join(f"[…, {rows}, {columns}]" for rows, columns in MATRIX_SIZES[self.what])
        too_long = len(self.shape) > MAX_RANK or any(not 1 <= size <= MAX_BATCH for size in self.shape)
        if self.shape[-2:] not in MATRIX_SIZES[self.what] or too_long or self.rows > MAX_BATCH:
            message = f"is not a shape of {self.what}"
            raise Mistake(message, f"write {known} with at most {MAX_BATCH} matrices", at=("shape",))
        if self.fallback is not None:
            lengths = {len(row) for row in self.fallback}
            if (len(self.fallback), *lengths) != self.matrix or not all(map(math.isfinite, sum(self.fallback, ()))):
                sizes = "x".join(map(str, self.matrix))
                raise Mistake(f"is not a matrix of {sizes} finite numbers", "write a list of rows", at=("fallback",))
        return self

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of one matrix."""
        return (self.shape[-2], self.shape[-1])

    @property
    def rows(self) -> int:
        """How many matrices the input holds."""
        return math.prod(self.shape[:-2])


class StateInput(_Strict):
    """An input that takes what an output said on the tick before; at first, and after a gap, it is `initial`."""

    kind: Literal["state"]
    name: str = Field(min_length=1, description="the graph's input name")
    output: str = Field(min_length=1, description="the graph's output that feeds it on the next tick")
    shape: tuple[int, ...] = Field(min_length=1, max_length=MAX_RANK, examples=["[1, 16, 24, 40]"])
    dtype: StateType = "float32"
    initial: float = Field(default=0.0, allow_inf_nan=False)
    reset_after_s: float = Field(default=DEFAULT_RESET_AFTER_S, gt=0.0, le=3600.0)

    @field_validator("shape")
    @classmethod
    def _bounded(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in shape) or math.prod(shape) > MAX_STATE_ELEMENTS:
            raise Mistake("is not the shape of a state", f"write sizes from 1, {MAX_STATE_ELEMENTS} elements in all")
        return shape

    @model_validator(mode="after")
    def _initial_exists(self) -> StateInput:
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            fits = abs(self.initial) <= float(np.finfo(dtype).max)
        else:
            low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
            fits = self.initial.is_integer() and low <= self.initial <= high
        if not fits:
            message = f"{self.initial:g} is no value of {self.dtype}"
            raise Mistake(message, "write one that the type can hold", at=("initial",))
        return self


Input = Annotated[ImagesInput | SignalInput | CalibrationInput | StateInput, Field(discriminator="kind")]
