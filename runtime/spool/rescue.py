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

A file of which nothing can be read stays partial: it is listed, and goes when room is needed (see
`admission`), with an alarm.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.backoff import Backoff
from runtime.formats import topics
from runtime.formats.json_messages import decode_firing
from runtime.formats.mcap_files import McapFileError, McapTopicReader, McapTopicWriter, RawMessage
from runtime.formats.offer_limits import MAX_LISTED
from runtime.messages import NANOSECONDS_PER_SECOND, Firing
from runtime.spool.clips import ClipDraft, PartialClip, UnknownClipError
from runtime.spool.spool import Spool

log = logging.getLogger(__name__)

#: The metadata record of a rescued clip that says what it is; `facts` there is the JSON of what travels ahead of it.
PARTIAL_METADATA = "partial"
COPY_BYTES = 1 << 20
#: Between attempts at what failed: twice as long each time, and no longer than this.
FAILED_FIRST_S, FAILED_LONGEST_S = 5.0, 600.0
CUT_SHORT = "the machine stopped while the clip was written"


@dataclass(slots=True)
class RescueReport:
    """Numbers of the clips that were sealed as partial, and how many partial clips were left or dropped."""

    rescued: list[int] = field(default_factory=list)
    entombed: list[int] = field(default_factory=list)  # might not be sealed
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
    for partial in sorted(spool.partial(), key=lambda partial: (partial.priority.rank, partial.draft_id)):
        try:
            _settle(spool, partial, report, rules or RescueRules(), is_awaited)
        except UnknownClipError:
            continue  # it has just gone, to make room for one that was rescued before it
        except OSError as error:
            log.warning("%s stays partial: %s", partial.path, error)
            report.failed += 1
            report.last_error = str(error)
    return report


def _settle(
    spool: Spool, partial: PartialClip, report: RescueReport, rules: RescueRules, is_awaited: IsAwaited
) -> None:  # fmt: skip
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
        _decide(spool, partial, report, rules)


def _decide(spool: Spool, partial: PartialClip, report: RescueReport, rules: RescueRules) -> None:
    try:
        refusal = rules.refusal(partial.metadata)
    except OSError as error:
        log.warning("%s stays partial: %s", partial.path, error)
        report.held_back += 1
        return
    if refusal is not None:
        report.entombed.append(spool.entomb_partial(partial, refusal))
    else:
        _rescue(spool, partial, report, rules)


def _rescue(spool: Spool, partial: PartialClip, report: RescueReport, rules: RescueRules) -> None:
    remains = spool.resume(partial)
    n = None
    try:
        n = _copy(spool, partial, rules.locked_bytes(partial.path))
    except McapFileError:
        pass  # nothing of it can be read, as when nothing was found in it
    finally:
        if n is None:
            spool.abandon(remains)
    if n is None:
        report.unreadable += 1
        return
    spool.discard(remains)
    report.rescued.append(n)


def _copy(spool: Spool, partial: PartialClip, locked_bytes: int | None) -> int | None:
    """The number of the new clip; None when nothing of the old one can be read."""
    expected_bytes = written_bytes(partial.path) if locked_bytes is None else locked_bytes
    age = spool.age_of_partial(partial)
    draft = spool.begin(max(1, expected_bytes), partial.priority, metadata=partial.metadata, as_old_as=age)
    try:
        if locked_bytes is not None:
            said = _copy_locked(spool, draft, partial, locked_bytes)
        else:
            with McapTopicReader(partial.path) as reader:
                said = _copy_messages(spool, draft, partial, reader)
        if not said:
            spool.discard(draft)
            return None
        return spool.seal(draft, said).n
    except (OSError, McapFileError):
        if draft.path.exists():
            spool.discard(draft)
        raise


def written_bytes(path: Path) -> int:
    """Where the zeros of what was only reserved begin: nobody shall give way for those."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = stream.seek(max(0, end - COPY_BYTES))
            data = stream.read(end - start).rstrip(b"\0")
            if data:
                return start + len(data)
            end = start
    return 0


def _known_by(partial: PartialClip) -> dict[str, Any]:
    """What was noted when the clip began, and that it is cut short."""
    return {**partial.metadata, "partial": True, "priority": partial.priority.value, "ended_early": CUT_SHORT}


def _copy_locked(spool: Spool, draft: ClipDraft, partial: PartialClip, length: int) -> dict[str, Any]:
    """Byte by byte: nobody here can look inside, and what the receiver opens ends at its last whole chunk."""
    with spool.write_into(draft) as stream, partial.path.open("rb") as source:
        while length > 0 and (block := source.read(min(length, COPY_BYTES))):
            stream.write(block)
            length -= len(block)
        return {**_known_by(partial), "bytes": stream.tell()}


@dataclass(slots=True)
class _Found:
    """What a copy came by."""

    count: int = 0
    first: RawMessage | None = None
    last: RawMessage | None = None
    cameras: dict[str, None] = field(default_factory=dict)
    firings: list[Firing] = field(default_factory=list)

    def note(self, message: RawMessage) -> None:
        self.count += 1
        self.first, self.last = self.first or message, message
        if message.channel.schema_name in (topics.VIDEO_SCHEMA, topics.THUMBNAIL_SCHEMA):
            self.cameras[topics.camera_of(message.topic) or message.topic] = None
        if message.topic == topics.FIRING and len(self.firings) < MAX_LISTED:
            try:
                self.firings.append(decode_firing(message.data))
            except (KeyError, TypeError, ValueError) as error:  # it is copied all the same
                log.warning("a firing in a partial clip cannot be listed: %r", error)

    def facts(self, known_by: Mapping[str, Any]) -> dict[str, Any]:
        """What the catalogue looks clips up by: what was noted, except where the file itself tells better."""
        assert self.first is not None
        assert self.last is not None
        cameras = list(self.cameras)[:MAX_LISTED]
        planned = known_by.get("cameras", [])
        missing = {"missing_cameras": [one for one in planned if one not in self.cameras]} if planned else {}
        told = {
            "rules": list(dict.fromkeys(firing.rule for firing in self.firings)),
            "campaigns": sorted({firing.campaign for firing in self.firings if firing.campaign}),
            "firing_times_ns": [firing.time_ns for firing in self.firings],
        }
        edges = {
            "start_ns": self.first.time_ns,
            "end_ns": self.last.time_ns,
            "start_wall_ns": self.first.wall_ns,
            "end_wall_ns": self.last.wall_ns,
        }
        return {**told, **known_by, "cameras": cameras, **missing, **edges}


def _copy_messages(spool: Spool, draft: ClipDraft, partial: PartialClip, reader: McapTopicReader) -> dict[str, Any]:
    """Message by message; empty when there was none."""
    found = _Found()
    with spool.write_into(draft) as stream:
        writer = McapTopicWriter(stream)  # type: ignore[arg-type]  # it writes, tells and flushes
        for message in reader.messages():
            writer.write(message.channel, message.data, message.time_ns, message.wall_ns, message.sequence)
            found.note(message)
        if found.count == 0:
            return {}
        said = found.facts(_known_by(partial))
        facts = {"messages": str(found.count), "reason": CUT_SHORT, "facts": json.dumps(said)}
        writer.metadata(PARTIAL_METADATA, facts)
        writer.finish()
        return {**said, "bytes": stream.tell()}
