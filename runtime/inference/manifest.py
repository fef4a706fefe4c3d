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

Images come in one of three forms. One input with a batch of 1: the network is run once per camera. One input with a
larger batch `[batch, 3, height, width]`: a camera per row. Several inputs with a batch of 1 each: a camera per input,
which is then what a row is in the other form; all take images of the same size and kind, because capture prepares one.
A pixel enters a float32 input as `(pixel * scale - mean) / std`. A signal input takes the newest value of its signal,
or `unknown` while there is none; a calibration input takes matrices of the rig, and a state input what an output said
on the tick before. `deploy/MODELS.md` shows each form.

This module and `inputs` check what can be seen in the file alone; `bundle` checks it against the files beside it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.formats.documents import Mistake
from runtime.inference.heads.specification import Head
from runtime.inference.inputs import MAX_BATCH, CalibrationInput, ImagesInput, Input, SignalInput, StateInput

__all__ = [
    "MANIFEST_FILE",
    "MAX_BATCH",
    "CalibrationInput",
    "ImagesInput",
    "Input",
    "Manifest",
    "ModelFile",
    "SignalInput",
    "StateInput",
]

MANIFEST_FILE = "model.yaml"
MAX_HEADS = 64
MAX_INPUTS = 256

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["<64 hex digits: sha256sum FILE>"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    inputs: tuple[Input, ...] = Field(min_length=1, max_length=MAX_INPUTS)
    heads: tuple[Head, ...] = Field(min_length=1, max_length=MAX_HEADS)
    files: dict[str, ModelFile]
    cameras: tuple[str, ...] = ()
    metrics: dict[str, Any] = Field(default_factory=dict)

    @field_validator("inputs")
    @classmethod
    def _images_in_one_form(cls, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
        images = [index for index, entry in enumerate(inputs) if isinstance(entry, ImagesInput)]
        if not images:
            raise Mistake("has no entry of kind images", "declare the input that takes the cameras' images")
        if len(images) > MAX_BATCH:
            raise Mistake(f"has {len(images)} entries of kind images", f"a network takes at most {MAX_BATCH} cameras")
        for index in images if len(images) > 1 else ():
            entry = inputs[index]
            if isinstance(entry, ImagesInput) and entry.batch != 1:
                message = f"has a batch of {entry.batch}, beside other inputs of kind images"
                raise Mistake(message, "several images inputs take one camera each: a batch of 1", at=(index, "shape"))
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
        if self.cameras and not self.is_per_camera and len(self.cameras) > self.rows:
            message = f"{len(self.cameras)} cameras do not fit a batch of {self.rows}"
            raise Mistake(message, f"name at most {self.rows}", at=("cameras",))
        return self

    @property
    def images(self) -> ImagesInput:
        """The input that takes the images; the first of them where each camera has its own: all prepare alike."""
        return self.image_inputs[0]

    @property
    def image_inputs(self) -> tuple[ImagesInput, ...]:
        """The inputs that take images: one, or one for each camera."""
        return tuple(entry for entry in self.inputs if isinstance(entry, ImagesInput))

    @property
    def signals(self) -> tuple[SignalInput, ...]:
        """The inputs that take signals."""
        return tuple(entry for entry in self.inputs if isinstance(entry, SignalInput))

    @property
    def calibrations(self) -> tuple[CalibrationInput, ...]:
        """The inputs that take matrices of the rig."""
        return tuple(entry for entry in self.inputs if isinstance(entry, CalibrationInput))

    @property
    def states(self) -> tuple[StateInput, ...]:
        """The inputs that take what an output said on the tick before."""
        return tuple(entry for entry in self.inputs if isinstance(entry, StateInput))

    @property
    def has_separate_images(self) -> bool:
        """True when each camera has an input of its own."""
        return len(self.image_inputs) > 1

    @property
    def is_per_camera(self) -> bool:
        """True when the network sees one image at a time and runs once for each camera."""
        return not self.has_separate_images and self.images.batch == 1

    @property
    def rows(self) -> int:
        """Cameras that one run sees: rows of the batch, or images inputs."""
        return len(self.image_inputs) if self.has_separate_images else self.images.batch

    @property
    def row_cameras(self) -> tuple[str | None, ...]:
        """The camera that each row is meant for, as far as the bundle names them."""
        if self.has_separate_images and any(entry.camera for entry in self.image_inputs):
            return tuple(entry.camera for entry in self.image_inputs)
        return self.cameras


def _refuse_repeats(names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Mistake(f"name {name!r} stands twice", "give each its own name", at=(index, "name"))
