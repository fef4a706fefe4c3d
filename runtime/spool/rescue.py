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

from dataclasses import dataclass, field

from runtime.formats.mcap_files import McapFileError, McapTopicReader, McapTopicWriter
from runtime.spool.clips import ClipDraft, PartialClip, SpoolError, UnknownClipError
from runtime.spool.spool import Spool

PARTIAL_METADATA = "partial"


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
        times_ns = _copy_messages(spool, draft, reader)
        if not times_ns:
            spool.discard(draft)
            return None
        facts = {"partial": True, "priority": partial.priority.value, "start_ns": times_ns[0], "end_ns": times_ns[-1]}
        return spool.seal(draft, {**partial.metadata, **facts}).n
    except SpoolError:
        if draft.path.exists():
            spool.discard(draft)
        raise


def _copy_messages(spool: Spool, draft: ClipDraft, reader: McapTopicReader) -> list[int]:
    """Times of the first and the last message copied; empty when there was none."""
    edges: list[int] = []
    with spool.write_into(draft) as stream:
        writer = McapTopicWriter(stream)  # type: ignore[arg-type]  # it writes, tells and flushes
        count = 0
        for count, message in enumerate(reader.messages(), start=1):  # noqa: B007
            writer.write(message.channel, message.data, message.time_ns, message.wall_ns, message.sequence)
            edges = [*edges[:1], message.time_ns]
        writer.metadata(
            PARTIAL_METADATA, {"messages": str(count), "reason": "the machine stopped while it was written"}
        )
        writer.finish()
    return edges
