"""The clip contract as data: what a sealed clip says of itself, and what `verify_clip` holds it to.

It is written twice into the MCAP file: as attachment `manifest.json` and, for readers that list metadata, as the
metadata record `shadowrig.manifest` (key `json`); `shadowrig.provenance` repeats the provenance as flat pairs.
Times are capture times (monotonic ns); wall times stand beside them for people.

Clips come from vehicles, and a vehicle may be anybody's: every number is bounded to what can be counted with, every
camera named is one that the clip describes, and what is not so is a `ManifestError` before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.formats.pull_files import CAMERA_NAME
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, ClipVariant, Priority, SignalValue
from runtime.recording.provenance import Provenance

MANIFEST_ATTACHMENT = "manifest.json"
MANIFEST_METADATA = "shadowrig.manifest"
PROVENANCE_METADATA = "shadowrig.provenance"
FORMAT_VERSION = 1
#: A distance between two frames beyond this many periods is a gap.
GAP_PERIODS = 1.5
#: Gaps listed one by one; `gap_count` counts all.
MAX_LISTED_GAPS = 100
#: More than any rig has: each costs a decoder and a tile where a clip is looked at.
MAX_CLIP_CAMERAS = 64
#: So many mistakes of a manifest are listed; a hostile one has as many as it likes.
MAX_LISTED_MISTAKES = 20


class ManifestError(ValueError):
    """A manifest that is missing or cannot be read."""


def _camera_name(value: str) -> str:
    """Clips come from vehicles, and cameras become file names when one is exported."""
    if CAMERA_NAME.fullmatch(value) is None:
        raise ValueError(
            f"{value!r:.80} cannot name a camera: up to 64 letters, digits, _, . and -, none of . - in front"
        )
    return value


CameraName = Annotated[str, AfterValidator(_camera_name)]
#: Nanoseconds of either clock. The difference of two still fits 64 bits; a window may begin before its clock did.
InstantNs = Annotated[int, Field(ge=-(1 << 62), lt=1 << 62)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]
#: Of a window or a part of it: 30 years are no clip's, and as nanoseconds they still fit 64 bits.
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=-1e13, le=1e13, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gap(_Part):
    """Nothing between two frames for more than `GAP_PERIODS` periods."""

    after_ns: InstantNs
    duration_ms: Milliseconds


class CameraManifest(_Part):
    """One camera's part of the clip: its video, or its thumbnails."""

    codec: str  # "jpeg" for thumbnails
    transcoded: bool
    frames: Count
    bytes: Count
    first_ns: InstantNs
    last_ns: InstantNs
    period_ms: Milliseconds | None = Field(description="declared by the rig, else the median; None for a single frame")
    starts_late_s: Seconds  # its first frame after the window's start; 0 when at or before it
    ends_early_s: Seconds  # before the window's end by more than `GAP_PERIODS` periods, else 0
    gap_count: Count
    gaps: list[Gap] = Field(max_length=MAX_LISTED_GAPS)
    lag_median_ms: Milliseconds | None = Field(
        description="to the nearest frame of the reference camera; None without one"
    )
    lag_max_ms: Milliseconds | None
    sha256: str = Field(description="over the payloads of its packets, in order of capture time")


class FiringManifest(_Part):
    """A firing that the clip answers."""

    rule: str
    rule_version: str
    sequence: int
    session: str
    time_ns: InstantNs
    wall_ns: InstantNs
    operands: dict[str, SignalValue | None]
    priority: Priority
    sample_probability: float
    pre_s: Seconds
    post_s: Seconds
    rules_sha256: str = ""  # fingerprint of all rules that ran when this one fired
    score: float | None = None  # what a value-ranked budget chose it by
    campaign: str = ""  # "name@version"; empty: the vehicle's own rules
    tally: dict[str, int] = Field(
        default_factory=dict, description="events of its rule until then, by what became of them: for unbiased rates"
    )


class ShrinkageManifest(_Part):
    """What a clip was cut down to, because all that was asked for had no room."""

    start_ns: InstantNs
    end_ns: InstantNs
    left_out_cameras: list[CameraName]
    reason: str


class ThumbnailsManifest(_Part):
    """How the thumbnails of a low-bandwidth clip were made."""

    interval_s: Seconds
    width_px: Count
    failed: Count  # key frames that could not be decoded


class ClipManifest(_Part):
    """Everything that a clip promises."""

    format: Literal["shadowrig-clip"] = "shadowrig-clip"
    format_version: int = FORMAT_VERSION
    clip_id: str
    kind: Literal["event", "crash", "pull"] = "event"
    pull_id: str | None = None  # the request that a clip of kind pull answers
    variant: ClipVariant = ClipVariant.FULL
    requested_start_ns: InstantNs
    requested_end_ns: InstantNs
    start_ns: InstantNs  # of the first record
    end_ns: InstantNs  # of the last record
    start_wall_ns: InstantNs
    end_wall_ns: InstantNs
    priority: Priority
    firings: list[FiringManifest]
    reference_camera: CameraName | None
    cameras: dict[CameraName, CameraManifest] = Field(max_length=MAX_CLIP_CAMERAS)
    missing_cameras: list[CameraName] = Field(max_length=MAX_CLIP_CAMERAS)
    chosen_topics: list[str] = Field(default_factory=list, description="beside pictures only these; empty: all")
    missing_topics: list[str] = Field(default_factory=list, description="named by its firings, never recorded")
    shrunk: ShrinkageManifest | None = None
    thumbnails: ThumbnailsManifest | None = None
    topics: dict[str, Count]  # messages by topic
    pre_roll_short_s: Seconds  # by how much the history's first record came too late; 0 when whole
    ended_early: str | None  # why the post-roll is short; None when it is whole
    provenance: Provenance
    privacy: dict[str, Any] = Field(default_factory=dict, description="what was done to it before sealing")

    @model_validator(mode="after")
    def _reference_is_a_camera(self) -> ClipManifest:
        """Lags are told against it, and an export's mosaic keeps its time."""
        if self.reference_camera is not None and self.reference_camera not in self.cameras:
            has = ", ".join(self.cameras) or "no cameras"
            raise ValueError(
                f"reference_camera {self.reference_camera!r} is none of the clip's cameras ({has}): name one of them"
            )
        return self

    @property
    def window_ns(self) -> tuple[int, int]:
        """First and last instant that it promises to hold: what was asked for, unless it had to shrink."""
        if self.shrunk is not None:
            return self.shrunk.start_ns, self.shrunk.end_ns
        return self.requested_start_ns, self.requested_end_ns

    @property
    def duration_s(self) -> float:
        """From the first record to the last."""
        return (self.end_ns - self.start_ns) / NANOSECONDS_PER_SECOND

    @property
    def rules(self) -> list[str]:
        """Names of the rules that fired, each once."""
        return list(dict.fromkeys(firing.rule for firing in self.firings))


def flat_provenance(provenance: Provenance) -> dict[str, str]:
    """The provenance as pairs of text: what the metadata record repeats. What there was none of is left out."""
    flat = provenance.model_dump(exclude={"cameras", "model", "second_model"})
    for name, model in (("model", provenance.model), ("second_model", provenance.second_model)):
        flat |= {f"{name}_{key}": value for key, value in (model.model_dump() if model else {}).items()}
    return {key: str(value) for key, value in flat.items() if value is not None}


def parse_manifest(data: bytes | str) -> ClipManifest:
    """ManifestError lists everything that is wrong with it."""
    try:
        manifest = ClipManifest.model_validate_json(data)
    except ValidationError as error:
        raise ManifestError(f"manifest cannot be read: {_mistakes(error)}") from error
    if manifest.format_version > FORMAT_VERSION:
        raise ManifestError(
            f"manifest has format version {manifest.format_version}, this software reads up to {FORMAT_VERSION}"
        )
    return manifest


def _mistakes(error: ValidationError) -> str:
    """Each mistake with its place and its value; of very many the first few."""
    found = error.errors(include_url=False)
    listed = [
        f"{'.'.join(map(str, mistake['loc'])) or 'document'}: {mistake['msg']}{_value_of(mistake)}"[:400]
        for mistake in found[:MAX_LISTED_MISTAKES]
    ]
    more = len(found) - len(listed)
    return "; ".join(listed) + (f"; and {more} more" if more else "")


def _value_of(mistake: Mapping[str, Any]) -> str:
    """The value, where one is there and can be shown in a line."""
    value = mistake["input"]
    return f" (it is {value!r:.60})" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def find_gaps(times_ns: list[int], period_ns: float) -> list[Gap]:
    """Every distance between neighbouring frames beyond `GAP_PERIODS` periods."""
    limit_ns = GAP_PERIODS * period_ns
    return [
        Gap(after_ns=earlier, duration_ms=(later - earlier) / NANOSECONDS_PER_MILLISECOND)
        for earlier, later in pairwise(times_ns)
        if later - earlier > limit_ns
    ]
