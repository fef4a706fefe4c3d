"""What a tracker may be told: when detections make, keep and end a track."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When detections make, keep and end a track."""

    confident_score: float = 0.4  # above: looked for first
    start_score: float = 0.45  # above: may start a track
    confident_overlap: float = 0.15  # of enlarged boxes
    weak_overlap: float = 0.35
    confirm_hits: int = 2
    coast_s: float = 1.0
    forget_s: float = 3.0
    max_tracks: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.max_tracks <= 10_000 or self.confirm_hits < 1:
            raise ValueError(f"max_tracks {self.max_tracks} must be 1 to 10000, confirm_hits {self.confirm_hits} >= 1")
        if not 0.0 < self.coast_s <= self.forget_s <= 60.0:
            raise ValueError(f"0 < coast_s {self.coast_s} <= forget_s {self.forget_s} <= 60 does not hold")
