"""`drive.yaml`: the simplest recording anyone can bring, as typed values.

The keys are described where they stand. Unknown keys, wrong types and contradictions are all reported at once, with
their lines. Paths are relative to the folder of the file.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from runtime.drives.can_decoding import CanSignalSource
from runtime.formats.documents import Mistake

CameraName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
SignalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[A-Za-z0-9_]+)+$")]
RelativePath = Annotated[str, StringConstraints(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CameraEntry(_Strict):
    """One camera: its video files in order, and where its capture times come from."""

    video: list[RelativePath] = Field(min_length=1, description="video files in order", examples=["[front_0.ts]"])
    timestamps: RelativePath | None = Field(default=None, description="CSV of per-frame capture times")
    loop: bool = Field(default=False, description="play again and again until the drive ends")
    offset_s: float = Field(default=0.0, ge=0.0, strict=False, description="start this far into the video")

    @model_validator(mode="after")
    def _times_come_from_one_place(self) -> CameraEntry:
        if self.timestamps is not None and (self.loop or self.offset_s):
            raise Mistake(
                "recorded capture times fix when each frame was taken: it cannot loop or start elsewhere",
                "remove loop and offset_s, or remove timestamps",
            )
        return self


class CanEntry(_Strict):
    """A raw CAN log, and which of its signals are ours."""

    log: RelativePath = Field(description="any log that python-can reads", examples=["drive.candump.log"])
    dbc: RelativePath = Field(description="the database of the messages", examples=["car.dbc"])
    strict: bool = Field(default=True, description="refuse a database with overlapping signals")
    signals: dict[SignalName, CanSignalSource]


class DriveDescription(_Strict):
    """The whole of `drive.yaml`."""

    name: str = Field(min_length=1, examples=["my_drive"])
    description: str = ""
    cameras: dict[CameraName, CameraEntry] = Field(default_factory=dict)
    signals: dict[Namespace, RelativePath] = Field(default_factory=dict)
    can: CanEntry | None = None
    truth: RelativePath | None = None

    @field_validator("cameras", "signals", mode="before")
    @classmethod
    def _nothing_means_none(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _records_something(self) -> DriveDescription:
        if not self.cameras and not self.signals and self.can is None:
            raise Mistake("the drive has neither cameras nor signals", "add at least one of cameras, signals, can")
        return self
