"""Where a recording comes from: what every clip must be able to say about the software that made it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from runtime.messages import NANOSECONDS_PER_SECOND

#: A camera that gives frames at least every second is silent after this.
SILENCE_NS = 2 * NANOSECONDS_PER_SECOND
#: However slow one is declared to be.
MAX_SILENCE_NS = 3600 * NANOSECONDS_PER_SECOND


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

    @property
    def silence_limit_ns(self) -> int:
        """Without a frame for longer it shows nothing: what it showed last is long past. Bounded: clips are hostile."""
        distance_ns = 1.5 * NANOSECONDS_PER_SECOND / self.rate_hz if self.rate_hz > 0.0 else 0.0
        return round(min(max(distance_ns, SILENCE_NS), MAX_SILENCE_NS))


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
