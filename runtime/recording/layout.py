"""Where things lie in a history directory. The runtime writes it, the recorder reads it; nothing else connects the two.

    segments/<start_ns:020d>.mcap.open   the second being written: unchunked MCAP, one write for each record
    segments/<start_ns:020d>.mcap        a closed second: immutable until it is unlinked as the oldest
    held/<start_ns:020d>.mcap            a closed second, older than history keeps, that a clip still waits for
    needs/<request>.json                 a window that a pull waits for: left by the recorder, see `history_needs`
    firings/<time_ns:020d>-<sequence:06d>.json   a firing that waits for its clip, written atomically
    firings/*.bad                        a firing file that could not be read, kept for a look
    sessions/<session>.json              provenance of one run of the runtime
    sessions/<session>.changes           other rules that it took over while it ran, one line each
    sessions/<session>.lock              flock'ed by that run for as long as it lives
    sessions/<session>.ended             written by a run that left cleanly
    sessions/<session>.crashed           written by the recorder once it has taken note of a crash
    intents/<clip_id>.json               a clip about to be sealed and the firing files that it answers
    answers/<time_ns:020d>-<sequence:06d>.json   what became of a firing: left by the recorder, taken by the runtime
    selection.json                       the runtime's budgets and tallies, for its next start; the recorder copies it

The directory belongs on tmpfs: it is emptied by a reboot, like the monotonic clock that its names are written in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.selection_file import SELECTION_FILE

SEGMENT_NS = 1_000_000_000
#: A record later than this after its capture is not found; capture and decoding are bounded far below it.
LATE_NS = 2_000_000_000
OPEN_SUFFIX = ".mcap.open"
CLOSED_SUFFIX = ".mcap"
_DRAFT_SUFFIX = ".new"


@dataclass(frozen=True, slots=True)
class Segment:
    """One second of history on disk."""

    path: Path
    start_ns: int
    is_open: bool


class HistoryLayout:
    """Paths of one history directory."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.segments = self.directory / "segments"
        self.held = self.directory / "held"
        self.needs = self.directory / "needs"
        self.firings = self.directory / "firings"
        self.sessions = self.directory / "sessions"
        self.intents = self.directory / "intents"
        self.answers = self.directory / "answers"
        self.selection = self.directory / SELECTION_FILE

    def create(self) -> None:
        """Make the directories that are missing, and remove drafts that their killed writers left there. OSError."""
        for directory in (
            self.segments, self.held, self.needs, self.firings, self.sessions, self.intents, self.answers
        ):  # fmt: skip
            directory.mkdir(parents=True, exist_ok=True)
        for draft in (*self.directory.glob(f".*{_DRAFT_SUFFIX}"), *self.directory.glob(f"*/.*{_DRAFT_SUFFIX}")):
            if not _is_alive(draft.name.removesuffix(_DRAFT_SUFFIX).rpartition(".")[2]):
                draft.unlink(missing_ok=True)

    def open_segment(self, start_ns: int) -> Path:
        """The path of a segment while it is written."""
        return self.segments / f"{start_ns:020d}{OPEN_SUFFIX}"

    def closed_segment(self, start_ns: int) -> Path:
        """The path of a segment once its second is closed."""
        return self.segments / f"{start_ns:020d}{CLOSED_SUFFIX}"

    def held_segment(self, start_ns: int) -> Path:
        """The path of a segment that is kept for a clip."""
        return self.held / f"{start_ns:020d}{CLOSED_SUFFIX}"

    def firing(self, time_ns: int, sequence: int) -> Path:
        """The file of one firing; times are monotonic, so runs that follow each other never collide."""
        return self.firings / f"{time_ns:020d}-{sequence:06d}.json"

    def answer(self, time_ns: int, sequence: int) -> Path:
        """The note about one firing."""
        return self.answers / f"{time_ns:020d}-{sequence:06d}.json"

    def list_segments(self) -> list[Segment]:
        """Segments by start, oldest first. One that is closed or moved during the listing is seen once, either way.

        Between two of them others may be missing: those that nobody waits for.
        """
        found: dict[int, Segment] = {}
        for folder in (self.segments, self.held):  # in the order in which a segment moves
            for name in _names(folder):
                stem, _, _ = name.partition(".")
                if stem.isdigit() and name.endswith((OPEN_SUFFIX, CLOSED_SUFFIX)):
                    start_ns = int(stem)
                    found[start_ns] = Segment(folder / name, start_ns, name.endswith(OPEN_SUFFIX))
        return [found[start_ns] for start_ns in sorted(found)]

    def list_firings(self) -> list[Path]:
        """Firing files, oldest first."""
        return [self.firings / name for name in _names(self.firings) if name.endswith(".json")]

    def count_firings(self) -> int:
        """How many firings wait."""
        return sum(name.endswith(".json") for name in _names(self.firings))

    def list_needs(self) -> list[Path]:
        """Windows that pulls wait for."""
        return [self.needs / name for name in _names(self.needs) if name.endswith(".json")]

    def list_answers(self) -> list[Path]:
        """Notes about firings, oldest firing first."""
        return [self.answers / name for name in _names(self.answers) if name.endswith(".json")]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _is_alive(process_id: str) -> bool:
    """Whether the writer of a draft may still be at it; runtime and recorder see each other's processes."""
    try:
        os.kill(int(process_id), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """A reader sees the whole file or none. No fsync: history does not outlive the machine's memory.

    The draft bears the process's number: two may write at once, and what a killed one leaves is known by it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_DRAFT_SUFFIX}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
