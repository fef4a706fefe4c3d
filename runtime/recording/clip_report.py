"""What `verify_clip` found: for people one line for each broken promise, for programs codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.recording.manifest import ClipManifest


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken promise."""

    code: str
    message: str
    camera: str | None = None

    def __str__(self) -> str:
        return f"[{self.code}] {f'camera {self.camera}: ' if self.camera else ''}{self.message}"


@dataclass(slots=True)
class ClipReport:
    """What `verify_clip` found."""

    path: Path
    manifest: ClipManifest | None = None
    problems: list[Problem] = field(default_factory=list)
    frames_decoded: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when the clip keeps every promise."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        problems = [{"code": p.code, "camera": p.camera, "message": p.message} for p in self.problems]
        clip_id = self.manifest.clip_id if self.manifest else None
        decoded = dict(sorted(self.frames_decoded.items()))
        return {
            "path": str(self.path),
            "ok": self.ok,
            "clip_id": clip_id,
            "frames_decoded": decoded,
            "problems": problems,
        }
