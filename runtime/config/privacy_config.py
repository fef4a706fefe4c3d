"""What may leave the vehicle: section `privacy` of the rig's configuration. deploy/PRIVACY.md explains every key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runtime.config.bundles import ModelBundlePath
from runtime.config.places import ExistingFile
from runtime.config.quantities import Seconds, SecondsOrZero
from runtime.config.sources import CameraName, Section

SignalName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$", max_length=128)]


class BlurConfig(Section):
    """Blur what a detection network finds, in every frame of every clip."""

    bundle: ModelBundlePath = Field(description="a detector of faces and plates", examples=["./faces"])
    classes: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(), max_length=256, description="what to blur of all that it detects; empty: everything"
    )
    min_score: float = Field(default=0.2, ge=0, le=1, description="low: a blurred lamp post costs less than a face")
    hold_s: SecondsOrZero = Field(default=0.5, le=5, description="a region stays blurred so long before and after")
    grow: float = Field(default=0.2, ge=0, le=2, description="of a box's side, on every side")
    cameras: tuple[CameraName, ...] = Field(default=(), max_length=16, description="empty: all")
    threads: int = Field(default=1, ge=1, le=64)


class EncryptionConfig(Section):
    """Lock every clip for the fleet before it reaches the disk."""

    recipients: tuple[ExistingFile, ...] = Field(
        min_length=1, max_length=16, description="public keys, made by 'shadowrig clip new-key'"
    )


class PrivacyConfig(Section):
    """It fails closed: what is asked for here and cannot be done means that there is no clip."""

    zones: tuple[ExistingFile, ...] = Field(
        default=(), max_length=64, description="files of places where nothing is sealed; campaigns may add others"
    )
    zone_margin_m: float = Field(default=30.0, ge=0, le=10_000, description="every zone counts as wider by so much")
    without_fix: Literal["refuse", "keep"] = Field(
        default="refuse", description="a clip during which the place was unknown at times, where there are zones"
    )
    fix_timeout_s: Seconds = Field(default=2.0, le=60, description="a position older than this is none")
    location: Literal["keep", "round", "remove"] = "keep"
    location_decimals: int = Field(default=2, ge=0, le=5, description="of degrees, for round: 2 is about 1.1 km")
    location_signals: tuple[SignalName, ...] = Field(
        default=(), max_length=64, description="signals that tell the place, beside those with latitude in the name"
    )
    blur: BlurConfig | None = None
    encryption: EncryptionConfig | None = None
    campaigns_may_lift: tuple[Literal["video", "location"], ...] = Field(
        default=("video", "location"), description="what a signed campaign may take home raw, for its own firings"
    )
    keep_s: Seconds | None = Field(default=None, description="clips older than this are deleted, delivered or not")
