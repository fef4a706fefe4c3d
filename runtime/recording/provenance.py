"""Where a recording comes from: what every clip must be able to say about the software that made it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ModelProvenance(BaseModel):
    """The network that ran beside the controller."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1)
    version: str = ""
    sha256: str = Field(min_length=1)
    backend: str = ""
    precision: str = ""


class CameraProvenance(BaseModel):
    """What the rig's configuration promises of one camera; 0 where it does not say."""

    model_config = ConfigDict(frozen=True)

    rate_hz: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False)
    width: int = 0
    height: int = 0
    calibrated: bool = False  # every clip with its pictures has its calibration, too


class Provenance(BaseModel):
    """Who, with what. `None` means there was none (no model loaded, camera rig not calibrated), not "unknown"."""

    model_config = ConfigDict(frozen=True)

    software_version: str = Field(min_length=1)
    vehicle: str = Field(min_length=1, description="pseudonym, never a VIN or plate")
    config_sha256: str = Field(min_length=1)
    rules_sha256: str = Field(min_length=1)
    model: ModelProvenance | None
    second_model: ModelProvenance | None = Field(default=None, description="the other candidate, beside it (A/B)")
    engine: str | None
    calibration_sha256: str | None
    cameras: dict[str, CameraProvenance] = Field(default_factory=dict)
