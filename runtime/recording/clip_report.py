"""What `verify_clip` found: for people one line for each broken promise, for programs codes.

A clip of a million bad messages breaks a million promises: the first `MAX_PROBLEMS` are listed, the others counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.formats.printable import counted
from runtime.recording.manifest import ClipManifest

MAX_PROBLEMS = 200


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
    problems_left_out: int = 0
    frames_decoded: dict[str, int] = field(default_factory=dict)

    def add(self, problem: Problem) -> None:
        """List it, once; count it where too many are listed already."""
        if problem in self.problems:
            return
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.problems_left_out += 1

    @property
    def lines(self) -> list[str]:
        """One for each problem, and one for those that are not listed."""
        more = [f"[more] {self.problems_left_out} more problems"] if self.problems_left_out else []
        return [*map(str, self.problems), *more]

    @property
    def ok(self) -> bool:
        """True when the clip keeps every promise."""
        return not self.problems

    @property
    def decoded(self) -> str:
        """How much was looked at, for people."""
        frames = sum(self.frames_decoded.values())
        return f"{counted(len(self.frames_decoded), 'camera')}, {counted(frames, 'frame')} decoded"

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
            "problems_left_out": self.problems_left_out,
        }
