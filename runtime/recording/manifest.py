"""The clip contract as data: what a sealed clip says of itself, and what `verify_clip` holds it to.

It is written twice into the MCAP file: as attachment `manifest.json` and, for readers that list metadata, as the
metadata record `shadowrig.manifest` (key `json`); `shadowrig.provenance` repeats the provenance as flat pairs.
Times are capture times (monotonic ns); wall times stand beside them for people.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Priority, SignalValue
from runtime.recording.provenance import Provenance

MANIFEST_ATTACHMENT = "manifest.json"
MANIFEST_METADATA = "shadowrig.manifest"
PROVENANCE_METADATA = "shadowrig.provenance"
FORMAT_VERSION = 1
#: A distance between two frames beyond this many periods is a gap.
GAP_PERIODS = 1.5
#: Gaps listed one by one; `gap_count` counts all.
MAX_LISTED_GAPS = 100


class ManifestError(ValueError):
    """A manifest that is missing or cannot be read."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gap(_Part):
    """Nothing between two frames for more than `GAP_PERIODS` periods."""

    after_ns: int
    duration_ms: float


class CameraManifest(_Part):
    """One camera's part of the clip."""

    codec: str
    transcoded: bool
    frames: int
    bytes: int
    first_ns: int
    last_ns: int
    period_ms: float | None = Field(description="declared by the rig, else the median; None for a single frame")
    starts_late_s: float  # its first frame after the requested start; 0 when at or before it
    ends_early_s: float  # before the requested end by more than `GAP_PERIODS` periods, else 0
    gap_count: int
    gaps: list[Gap]
    lag_median_ms: float | None = Field(description="to the nearest frame of the reference camera; None without one")
    lag_max_ms: float | None
    sha256: str = Field(description="over the payloads of its packets, in order of capture time")


class FiringManifest(_Part):
    """A firing that the clip answers."""

    rule: str
    rule_version: str
    sequence: int
    session: str
    time_ns: int
    wall_ns: int
    operands: dict[str, SignalValue | None]
    priority: Priority
    sample_probability: float
    pre_s: float
    post_s: float
    rules_sha256: str = ""  # fingerprint of all rules that ran when this one fired
    score: float | None = None  # what a value-ranked budget chose it by
    campaign: str = ""  # "name@version"; empty: the vehicle's own rules
    tally: dict[str, int] = Field(
        default_factory=dict, description="events of its rule until then, by what became of them: for unbiased rates"
    )


class ClipManifest(_Part):
    """Everything that a clip promises."""

    format: Literal["shadowrig-clip"] = "shadowrig-clip"
    format_version: int = FORMAT_VERSION
    clip_id: str
    requested_start_ns: int
    requested_end_ns: int
    start_ns: int  # of the first record
    end_ns: int  # of the last record
    start_wall_ns: int
    end_wall_ns: int
    priority: Priority
    firings: list[FiringManifest]
    reference_camera: str | None
    cameras: dict[str, CameraManifest]
    missing_cameras: list[str]
    topics: dict[str, int]  # messages by topic
    pre_roll_short_s: float  # by how much the history's first record came too late; 0 when whole
    ended_early: str | None  # why the post-roll is short; None when it is whole
    provenance: Provenance
    privacy: dict[str, Any] = Field(default_factory=dict, description="what was done to it before sealing")

    @property
    def duration_s(self) -> float:
        """From the first record to the last."""
        return (self.end_ns - self.start_ns) / NANOSECONDS_PER_SECOND

    @property
    def rules(self) -> list[str]:
        """Names of the rules that fired, each once."""
        return list(dict.fromkeys(firing.rule for firing in self.firings))


def parse_manifest(data: bytes | str) -> ClipManifest:
    """ManifestError lists everything that is wrong with it."""
    try:
        manifest = ClipManifest.model_validate_json(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"manifest cannot be read: {wrong}") from error
    if manifest.format_version > FORMAT_VERSION:
        raise ManifestError(
            f"manifest has format version {manifest.format_version}, this software reads up to {FORMAT_VERSION}"
        )
    return manifest


def find_gaps(times_ns: list[int], period_ns: float) -> list[Gap]:
    """Every distance between neighbouring frames beyond `GAP_PERIODS` periods."""
    limit_ns = GAP_PERIODS * period_ns
    return [
        Gap(after_ns=earlier, duration_ms=(later - earlier) / NANOSECONDS_PER_MILLISECOND)
        for earlier, later in pairwise(times_ns)
        if later - earlier > limit_ns
    ]
