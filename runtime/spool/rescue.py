"""What becomes of the partial clips that a recorder finds at its start.

A partial clip of this run of the machine may be cut again: history, on tmpfs, lives on as long as the machine, and its
firing may still wait; and so may one that the fleet asked for, from a clip that is here still. It stays until the whole
was sealed, and goes then. When its firings wait no more and it was not sealed (history had lost its seconds, or the
firings with them), it is all that is left of its clip, as is one of an earlier run: history went with the power.

Such a one was judged as a whole and treated as it was written; what was noted of that when it began tells whether it
may be sealed now (`RescueRules.refusal`). If so, it is copied into a clip of its own that says `partial` and is known
by the facts noted at its beginning: message by message as far as checksums hold, or, where it is locked, byte by byte
as far as it can be opened. It lacks at most the last two seconds that were written. If not, it gets a number all the
same, as a tombstone with the reason, and its bytes go.

Half a clip of an earlier run of which nothing can be read, for the power went before anything of it was on the disk,
gets a number as a tombstone, too, once no other half of the same clip has turned out better: nobody else can tell the
fleet what became of it. Any other file of which nothing can be read stays partial: it is listed, and goes when room is
needed (see `admission`), with an alarm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.backoff import Backoff
from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.spool.clips import PartialClip, UnknownClipError
from runtime.spool.half_copies import CUT_SHORT, copy_locked, copy_messages, written_bytes
from runtime.spool.spool import Spool

log = logging.getLogger(__name__)

#: Between attempts at what failed: twice as long each time, and no longer than this.
FAILED_FIRST_S, FAILED_LONGEST_S = 5.0, 600.0
NOTHING_LEFT = f"{CUT_SHORT}, and nothing of it can be read"


@dataclass(slots=True)
class RescueReport:
    """Numbers of the clips that were sealed as partial, and how many partial clips were left or dropped."""

    rescued: list[int] = field(default_factory=list)
    entombed: list[int] = field(default_factory=list)  # might not be sealed, or nothing of them can be read
    dropped: int = 0  # the whole clip was sealed
    #: May be cut again, by what they are known by: left until their firings wait no more.
    awaited: list[Mapping[str, Any]] = field(default_factory=list)
    held_back: int = 0  # what decides cannot be read now: left, to be tried again
    failed: int = 0  # no room, or the disk fails: left, to be tried again
    last_error: str = ""  # of those
    unreadable: int = 0  # left


#: Whether a clip of which half is left may still be cut, by what it is known by.
IsAwaited = Callable[[Mapping[str, Any]], bool]


def all_awaited(known_by: Mapping[str, Any]) -> bool:
    """Before it is known which firings wait."""
    return True


def nothing_refused(known_by: Mapping[str, Any]) -> str | None:
    """Where no policy decides over clips."""
    return None


def nothing_locked(path: Path) -> int | None:
    """Where clips are not encrypted."""
    return None


@dataclass(frozen=True, slots=True)
class RescueRules:
    """What the spool cannot know of clips."""

    #: Why half a clip that began with this metadata may not be sealed; None: it may. OSError: nobody can tell now.
    refusal: Callable[[Mapping[str, Any]], str | None] = nothing_refused
    #: How many bytes of a locked file can be opened; None: it is not locked, or nothing of it can be. OSError.
    locked_bytes: Callable[[Path], int | None] = nothing_locked


class PartialRescue:
    """The recorder's: looks at its start, and again when the clip that one waits for will not be cut again.

    What fails is tried again, after a while that grows: a full spool or disk may have room later.
    """

    def __init__(self, spool: Spool, rules: RescueRules | None = None) -> None:
        """Without `rules` every partial clip may be sealed, and none is locked."""
        self._spool = spool
        self._rules = rules or RescueRules()
        self._waiting: list[Mapping[str, Any]] | None = None  # what the awaited ones are known by; None: not looked yet
        self._again_ns: int | None = None  # on the monotonic clock; something failed
        self._pauses = Backoff(FAILED_FIRST_S, FAILED_LONGEST_S)

    def step(self, is_awaited: IsAwaited) -> RescueReport | None:
        """What was done; None where nothing changed. Raises LedgerError, and tries again later."""
        now_ns = self._spool.monotonic_ns()
        is_due = self._again_ns is not None and now_ns >= self._again_ns
        if self._waiting is not None and not is_due and all(is_awaited(known_by) for known_by in self._waiting):
            return None
        self._waiting = []
        self._again_ns = now_ns + round(self._pauses.next_s() * NANOSECONDS_PER_SECOND)
        report = rescue_partials(self._spool, self._rules, is_awaited)
        self._waiting = report.awaited
        if not report.failed and not report.held_back:
            self._again_ns = None
            self._pauses.reset()
        return report


def rescue_partials(
    spool: Spool, rules: RescueRules | None = None, is_awaited: IsAwaited = all_awaited
) -> RescueReport:  # fmt: skip
    """Deal with every partial clip, the most urgent first; one that fails is counted and keeps no other waiting.

    Raises LedgerError when there is no telling which there are.
    """
    report = RescueReport()
    lost: list[PartialClip] = []
    for partial in sorted(spool.partial(), key=lambda partial: (partial.priority.rank, partial.draft_id)):
        with _counted_failures(partial, report):
            _settle(spool, partial, report, rules or RescueRules(), is_awaited, lost)
    drafts = {partial.draft_id for partial in lost}
    halves = {partial.metadata.get("clip_id") for partial in spool.partial() if partial.draft_id not in drafts}
    for partial in lost:
        if partial.metadata["clip_id"] in halves:
            report.unreadable += 1  # another half of the same clip failed, and may turn out better later
            continue
        with _counted_failures(partial, report):
            _mourn(spool, partial, report)
    return report


@contextmanager
def _counted_failures(partial: PartialClip, report: RescueReport) -> Iterator[None]:
    try:
        yield
    except UnknownClipError:
        pass  # it has just gone, to make room for one that was rescued before it
    except OSError as error:
        log.warning("%s stays partial: %s", partial.path, error)
        report.failed += 1
        report.last_error = str(error)


def _settle(
    spool: Spool,
    partial: PartialClip,
    report: RescueReport,
    rules: RescueRules,
    is_awaited: IsAwaited,
    lost: list[PartialClip],
) -> None:
    """`lost` gains it where nothing of it can be read and nothing else will tell what became of it."""
    clip_id = partial.metadata.get("clip_id")
    may_be_cut_again = partial.boot_id == spool.boot_id or partial.metadata.get("pull_id") is not None
    if partial.boot_id is None:
        report.unreadable += 1  # set aside by recovery: evidence, not a clip
    elif clip_id is not None and spool.knows_clip(str(clip_id)):
        spool.discard(spool.resume(partial))
        report.dropped += 1
    elif may_be_cut_again and is_awaited(partial.metadata):
        report.awaited.append(partial.metadata)
    else:
        _decide(spool, partial, report, rules, lost)


def _decide(
    spool: Spool, partial: PartialClip, report: RescueReport, rules: RescueRules, lost: list[PartialClip]
) -> None:  # fmt: skip
    try:
        refusal = rules.refusal(partial.metadata)
    except OSError as error:
        log.warning("%s stays partial: %s", partial.path, error)
        report.held_back += 1
        return
    if refusal is not None:
        report.entombed.append(spool.entomb_partial(partial, refusal))
    elif (n := _rescued(spool, partial, rules)) is not None:
        report.rescued.append(n)
    elif partial.metadata.get("clip_id") is not None and partial.boot_id != spool.boot_id:
        lost.append(partial)
    else:
        report.unreadable += 1


def _mourn(spool: Spool, partial: PartialClip, report: RescueReport) -> None:
    if spool.knows_clip(str(partial.metadata["clip_id"])):
        spool.discard(spool.resume(partial))
        report.dropped += 1
    else:
        report.entombed.append(spool.entomb_partial(partial, NOTHING_LEFT))


def _rescued(spool: Spool, partial: PartialClip, rules: RescueRules) -> int | None:
    """Its number; None when nothing of it can be read."""
    remains = spool.resume(partial)
    n = None
    try:
        n = _copy(spool, partial, rules.locked_bytes(partial.path))
    except McapFileError:
        pass  # nothing of it can be read, as when nothing was found in it
    finally:
        if n is None:
            spool.abandon(remains)
    if n is not None:
        spool.discard(remains)
    return n


def _copy(spool: Spool, partial: PartialClip, locked_bytes: int | None) -> int | None:
    """The number of the new clip; None when nothing of the old one can be read."""
    expected_bytes = written_bytes(partial.path) if locked_bytes is None else locked_bytes
    age = spool.age_of_partial(partial)
    draft = spool.begin(max(1, expected_bytes), partial.priority, metadata=partial.metadata, as_old_as=age)
    try:
        if locked_bytes is not None:
            said = copy_locked(spool, draft, partial, locked_bytes)
        else:
            with McapTopicReader(partial.path) as reader:
                said = copy_messages(spool, draft, partial, reader)
        if not said:
            spool.discard(draft)
            return None
        return spool.seal(draft, said).n
    except (OSError, McapFileError):
        if draft.path.exists():
            spool.discard(draft)
        raise
