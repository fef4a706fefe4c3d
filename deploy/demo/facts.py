"""What a demo run established: the facts behind the table and the JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay.truth import Grades


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """Everything that one run of the demo measured; nothing here is computed from anything but that run."""

    drive_path: Path
    seconds: float
    framesets: int
    framesets_dropped: int
    frames_missing: Mapping[str, int]  # per camera
    frames_received: Mapping[str, int]
    latency_ms: Mapping[str, float]
    firings: Mapping[str, int]
    grades: Grades
    clips_sealed: int
    clips_delivered: int
    clips_verified: int
    bytes_seen: int
    bytes_home: int
    model: Mapping[str, str]
    realtime: str  # which real-time settings were granted
    clip_paths: tuple[Path, ...]
    contact_sheet: Path | None
    problems: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Every sealed clip delivered and verified, no planted takeover missed, and no process in trouble."""
        takeovers = self.grades.by_rule.get("driver_takeover")
        return (
            not self.problems
            and self.clips_sealed > 0
            and self.clips_sealed == self.clips_delivered == self.clips_verified
            and takeovers is not None
            and takeovers.missed == 0
        )

    def to_json(self) -> dict[str, Any]:
        """The facts in the shape that `--json` promises."""
        return {
            "framesets": self.framesets,
            "framesets_dropped": self.framesets_dropped,
            "frames_missing": dict(self.frames_missing),
            "latency_ms": dict(self.latency_ms),
            "firings": dict(self.firings),
            "truth": self.grades.totals(),
            "truth_by_rule": {
                rule: {"hit": grade.hit, "missed": grade.missed, "false": grade.false}
                for rule, grade in self.grades.by_rule.items()
            },
            "clips": {
                "sealed": self.clips_sealed,
                "delivered": self.clips_delivered,
                "verified": self.clips_verified,
            },
            "bytes": {"seen": self.bytes_seen, "home": self.bytes_home},
            "model": dict(self.model),
            "problems": list(self.problems),
        }
