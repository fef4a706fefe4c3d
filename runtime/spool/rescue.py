"""What becomes of the partial clips that a recorder finds at its start.

A partial clip of this run of the machine may be cut again: history, on tmpfs, lives on as long as the machine, and its
firing may still wait. It stays until the whole was sealed, and goes then. When no firing waits any more and it was not
sealed (history had lost its seconds, or the firing with them), it is all that is left of its clip, as is one of an
earlier run: history went with the power. Such a one is copied, chunk by chunk as far as checksums hold, into a clip of
its own that says `partial`; it lacks at most the last two seconds that were written. A file that is no readable MCAP
(locked for the fleet, or damaged from its start) stays partial: it is listed, and goes before any clip when room is
needed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from runtime.formats import topics
from runtime.formats.json_messages import decode_firing
from runtime.formats.mcap_files import McapFileError, McapTopicReader, McapTopicWriter, RawMessage
from runtime.messages import Firing
from runtime.spool.clips import ClipDraft, PartialClip, SpoolError, UnknownClipError
from runtime.spool.spool import Spool

log = logging.getLogger(__name__)

PARTIAL_METADATA = "partial"
#: Names and firings listed in the metadata, which must fit an offer.
MAX_LISTED = 64


@dataclass(slots=True)
class RescueReport:
    """Numbers of the clips that were sealed as partial, and how many partial clips were left or dropped."""

    rescued: list[int] = field(default_factory=list)
    dropped: int = 0  # the whole clip was sealed
    awaited: int = 0  # may be cut again: left until no firing waits
    held_back: int = 0  # nobody may decide over half a clip: left
    unreadable: int = 0  # left


class PartialRescue:
    """The recorder's: looks at its start, and once more when the firings that were there have been dealt with."""

    def __init__(self, spool: Spool, may_seal: bool = True) -> None:
        """`may_seal` False: a policy decides over clips, and cannot over half of one; such stay partial."""
        self._spool = spool
        self._may_seal = may_seal
        self._has_looked = False
        self._is_over = False

    def step(self, firings_wait: bool) -> RescueReport | None:
        """What was done; None when there was nothing to look at. Raises SpoolError, and tries no more before a start.

        While `firings_wait`, only the first call looks.
        """
        if self._is_over or (firings_wait and self._has_looked):
            return None
        self._has_looked = self._is_over = True
        report = rescue_partials(self._spool, may_seal=self._may_seal, firings_wait=firings_wait)
        self._is_over = report.awaited == 0
        return report


def rescue_partials(spool: Spool, may_seal: bool = True, firings_wait: bool = True) -> RescueReport:
    """Deal with every partial clip. Raises SpoolError when there is no room or the disk fails; call it again then."""
    report = RescueReport()
    for partial in spool.partial():
        try:
            _settle(spool, partial, report, may_seal, firings_wait)
        except UnknownClipError:
            continue  # it has just gone, to make room for one that was rescued before it
    return report


def _settle(spool: Spool, partial: PartialClip, report: RescueReport, may_seal: bool, firings_wait: bool) -> None:
    clip_id = partial.metadata.get("clip_id")
    if partial.boot_id is None:
        report.unreadable += 1  # set aside by recovery: evidence, not a clip
    elif clip_id is not None and spool.knows_clip(str(clip_id)):
        spool.discard(spool.resume(partial))
        report.dropped += 1
    elif firings_wait and partial.boot_id == spool.boot_id:
        report.awaited += 1
    elif not may_seal:
        report.held_back += 1
    else:
        _rescue(spool, partial, report)


def _rescue(spool: Spool, partial: PartialClip, report: RescueReport) -> None:
    remains = spool.resume(partial)
    n = None
    try:
        with McapTopicReader(partial.path) as reader:
            n = _copy(spool, partial, reader)
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


def _copy(spool: Spool, partial: PartialClip, reader: McapTopicReader) -> int | None:
    """The number of the new clip; None when nothing of the old one can be read."""
    draft = spool.begin(max(1, partial.size_bytes), partial.priority)
    try:
        found = _copy_messages(spool, draft, reader)
        if found.first is None or found.last is None:
            spool.discard(draft)
            return None
        said = {**found.facts(), **partial.metadata, "partial": True, "priority": partial.priority.value}
        return spool.seal(draft, {**said, **_edges(found.first, found.last)}).n
    except (SpoolError, McapFileError):
        if draft.path.exists():
            spool.discard(draft)
        raise


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

    def facts(self) -> dict[str, Any]:
        """What the catalogue looks clips up by, as far as the file tells: the firings that happened within it."""
        return {
            "cameras": list(self.cameras)[:MAX_LISTED],
            "rules": list(dict.fromkeys(firing.rule for firing in self.firings)),
            "campaigns": sorted({firing.campaign for firing in self.firings if firing.campaign}),
            "firing_times_ns": [firing.time_ns for firing in self.firings],
        }


def _edges(first: RawMessage, last: RawMessage) -> dict[str, int]:
    return {
        "start_ns": first.time_ns,
        "end_ns": last.time_ns,
        "start_wall_ns": first.wall_ns,
        "end_wall_ns": last.wall_ns,
    }


def _copy_messages(spool: Spool, draft: ClipDraft, reader: McapTopicReader) -> _Found:
    found = _Found()
    with spool.write_into(draft) as stream:
        writer = McapTopicWriter(stream)  # type: ignore[arg-type]  # it writes, tells and flushes
        for message in reader.messages():
            writer.write(message.channel, message.data, message.time_ns, message.wall_ns, message.sequence)
            found.note(message)
        facts = {"messages": str(found.count), "reason": "the machine stopped while it was written"}
        writer.metadata(PARTIAL_METADATA, facts)
        writer.finish()
    return found
