"""What `verify_clip` found: for people one line for each broken promise, for programs codes.

A clip can break a promise with every message. `MAX_PROBLEMS` are told in full, the others counted by code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.formats.printable import counted
from runtime.recording.manifest import ClipManifest

MAX_PROBLEMS = 100


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
    """What `verify_clip` found. `problems_beyond` counts, by code, what no longer went into `problems`."""

    path: Path
    manifest: ClipManifest | None = None
    problems: list[Problem] = field(default_factory=list)
    problems_beyond: Counter[str] = field(default_factory=Counter)
    frames_decoded: dict[str, int] = field(default_factory=dict)
    _told: set[Problem] = field(default_factory=set, repr=False)  # looked up for every message of a hostile clip

    def add(self, problem: Problem) -> None:
        """One more broken promise; the same one is told once."""
        if problem in self._told:
            return
        if len(self.problems) < MAX_PROBLEMS:
            self._told.add(problem)
            self.problems.append(problem)
        else:
            self.problems_beyond[problem.code] += 1

    @property
    def ok(self) -> bool:
        """True when the clip keeps every promise."""
        return not self.problems

    @property
    def decoded(self) -> str:
        """How much was looked at, for people."""
        frames = sum(self.frames_decoded.values())
        return f"{counted(len(self.frames_decoded), 'camera')}, {counted(frames, 'frame')} decoded"

    def lines(self) -> list[str]:
        """For people: what is wrong, and how much more of it there is."""
        told = [str(problem) for problem in self.problems]
        if self.problems_beyond:
            by_code = ", ".join(f"{count} [{code}]" for code, count in sorted(self.problems_beyond.items()))
            told.append(f"and {self.problems_beyond.total()} more: {by_code}")
        return told

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
            "problems_beyond": dict(sorted(self.problems_beyond.items())),
        }
