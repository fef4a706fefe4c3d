"""What a recorder is told, and what it tells of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from runtime.recording.thumbnails import ThumbnailSettings


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Limits of the recorder."""

    max_clip_s: float = 55.0  # as in `RecorderConfig`
    crash_pre_s: float = 10.0
    thumbnails: ThumbnailSettings = field(default_factory=ThumbnailSettings)


@dataclass(slots=True)
class RecorderStatus:
    """What the recorder did, for metrics."""

    sealed: int = 0
    sealed_bytes: int = 0
    shrunk: int = 0  # of those: cut down, because there was no room for all
    waiting: int = 0
    refused: int = 0  # attempts that came to nothing: disk, sink, policy, a record that cannot be read
    lost_firings: Counter[str] = field(default_factory=Counter)  # by rule: given up for good
    policy_refused: Counter[str] = field(default_factory=Counter)  # firings without a clip, by the policy's reason
    bad_firings: int = 0
    crashes_not_noted: int = 0  # attempts to leave a firing for a crash that found no room
    unread_answers: int = 0  # notes that no runtime took in time, or that could not be written
    last_error: str = ""
