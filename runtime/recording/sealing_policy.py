"""What stands between history and a sealed clip: one seam, through which every clip goes, whatever asked for it.

    verdict = policy.admit(plan, window, history)   # before anything reaches the disk: a Treatment, or a SealingRefusal
    treatment.transform(messages, is_beside)        # every message, in order of time, before anything else sees it
    treatment.wrap(stream)                          # every byte, before it reaches the disk

The recorder composes nothing here: `runtime.privacy` implements the policy, replays have none. It fails closed: a
refusal, whether answered by `admit` or raised as `SealingRefusedError` in the middle of a transformation, means that
there is no clip. A final one is given up at once, another (a file that cannot be read, a detector that is missing) is
tried again for as long as history has the seconds; both are counted and named to the rule that fired. A final one
names the times that it is about (`ForbiddenTime`), so that of hundreds of firings that share a clip each is judged by
what was read once (`admission`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import filterfalse
from typing import IO, Any, Protocol

from runtime.formats.mcap_files import RawMessage
from runtime.messages import Firing, SignalSample
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.firing_files import WaitingFiring

#: Whether a message is only there to be looked at: a clip of thumbnails comes with the packets between its pictures,
#: so that what is seen in those can be blurred in these.
IsBeside = Callable[[RawMessage], bool]


@dataclass(frozen=True, slots=True)
class ForbiddenTime:
    """No clip may begin by `until_ns` and end at `from_ns` or later: the edges, included, of a time that none may hold.

    `until_ns` may come first: then what lies between two instants is forbidden to a clip that holds both.
    """

    from_ns: int
    until_ns: int
    reason: str  # these two as in `SealingRefusal`
    detail: str
    camera: str = ""  # forbidden to clips with this camera; empty: to all
    spares_later: bool = False  # not to clips of what happened after it: they may begin behind it

    def forbids(self, waiting: WaitingFiring) -> bool:
        """Whether this firing may have no clip by itself."""
        cameras = waiting.firing.capture.cameras
        if (self.camera and cameras and self.camera not in cameras) or waiting.end_ns < self.from_ns:
            return False
        return (waiting.firing.time_ns if self.spares_later else waiting.start_ns) <= self.until_ns


@dataclass(frozen=True, slots=True)
class SealingRefusal:
    """Why there is no clip."""

    reason: str  # one word for counters: "zone", "no_fix", ...
    detail: str  # for people at the vehicle: names zones and files; never a position
    is_final: bool = True  # False: what is in the way may be mended while history still has the seconds
    forbidden: tuple[ForbiddenTime, ...] = ()  # within what was asked for; empty: nobody knows
    admitted_from_ns: int | None = None  # the same clip may be asked for again, if it holds nothing from before this

    @property
    def told(self) -> str:
        """For those who asked from afar, whatever the reason: who asks for one second after another learns places."""
        return "privacy: the vehicle's privacy policy refuses it (its recorder's status says more)"


class SealingRefusedError(Exception):
    """A clip that was begun may not be finished."""

    def __init__(self, refusal: SealingRefusal) -> None:
        super().__init__(f"{refusal.reason}: {refusal.detail}")
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class ClipWindow:
    """What a clip will hold: from its first key frame, which may lie before what was asked for, to its last record."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class SealedBefore:
    """What a sealed clip says of itself where it is the source of another."""

    start_ns: int  # its first record; nobody can look behind it
    privacy: Mapping[str, Any]  # what was done to it: `ClipManifest.privacy`
    number: int = 0  # its place in the sink's count, from 1 on; 0: it came from elsewhere


class SignalHistory(Protocol):
    """What a policy may read before it decides."""

    @property
    def sealed_before(self) -> SealedBefore | None:
        """None: this is history, as it was recorded."""

    def signal_samples(self, namespace: str, start_ns: int, end_ns: int) -> Iterator[SignalSample | tuple[str, int]]:
        """Samples of `<namespace>.*` with start <= time <= end, in order; `(name, time_ns)` where one became unknown.

        OSError when history cannot be read, McapFileError when one of its records cannot.
        """

    def first_time_ns(self, start_ns: int, end_ns: int) -> int:
        """Capture time of the first record from `start_ns` on, or `start_ns` where that is not known to be later."""


class ClipStream(Protocol):
    """Where the bytes of a clip go."""

    def write(self, data: bytes, /) -> int:
        """Take all of `data`; OSError from the disk."""

    def tell(self) -> int:
        """Bytes taken so far."""

    def flush(self) -> None:
        """Hand on what can be."""

    def finish(self) -> None:
        """No more follows. Leaves the file underneath open."""


class Treatment(Protocol):
    """What is done to one clip; used once."""

    def firing(self, firing: Firing) -> Firing:
        """A firing as the clip's manifest may show it."""

    def transform(self, messages: Iterable[RawMessage], is_beside: IsBeside) -> Iterator[RawMessage]:
        """The messages that may enter the clip, in order of time, without those beside it.

        SealingRefusedError: none may, after all.
        """

    def wrap(self, stream: IO[bytes], known_by: Mapping[str, Any]) -> ClipStream:
        """What the clip is written through. `known_by` is what anybody may know who finds the file."""

    def verdict(self) -> Mapping[str, Any]:
        """What was judged before the first byte and is done to every one, for who finds half of it. JSON-ready."""

    def facts(self) -> Mapping[str, Any]:
        """For the manifest, once all is transformed: what was done. Empty: nothing. JSON-ready."""

    def metadata(self) -> Mapping[str, Any]:
        """For the spool and the receiver, beside what travels ahead of every clip."""


class SealingPolicy(Protocol):
    """Decides over every clip."""

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        """May this be sealed, and how? Never raises but OSError."""


class Untreated:
    """History as it is."""

    def firing(self, firing: Firing) -> Firing:
        """Unchanged."""
        return firing

    def transform(self, messages: Iterable[RawMessage], is_beside: IsBeside) -> Iterator[RawMessage]:
        """Unchanged."""
        return filterfalse(is_beside, messages)

    def wrap(self, stream: IO[bytes], known_by: Mapping[str, Any]) -> ClipStream:
        """Nothing around it."""
        return PlainStream(stream)

    def verdict(self) -> Mapping[str, Any]:
        """Nothing was judged."""
        return {}

    def facts(self) -> Mapping[str, Any]:
        """Nothing was done."""
        return {}

    def metadata(self) -> Mapping[str, Any]:
        """Nothing to add."""
        return {}


class OpenPolicy:
    """Every clip, untreated: for replays, whose recordings are somebody's files already."""

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        """Always."""
        return Untreated()


class PlainStream:
    """The file itself."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes, /) -> int:
        """To the file."""
        return self._stream.write(data)

    def tell(self) -> int:
        """Of the file."""
        return self._stream.tell()

    def flush(self) -> None:
        """The file."""
        self._stream.flush()

    def finish(self) -> None:
        """Nothing is held back."""
        self._stream.flush()
