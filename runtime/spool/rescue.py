"""What becomes of the partial clips that a recorder finds at its start.

A partial clip of this run of the machine is cut again: history, on tmpfs, still has its seconds and its firing still
waits. One of an earlier run is all that is left of its clip: history went with the power. It is copied, chunk by chunk
as far as checksums hold, into a clip of its own that says `partial`; it lacks at most the last two seconds that were
written. A file that is no readable MCAP (locked for the fleet, or damaged from its start) stays partial: it is listed,
and goes before any clip when room is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.formats.mcap_files import McapFileError, McapTopicReader, McapTopicWriter
from runtime.spool.clips import ClipDraft, PartialClip, SpoolError
from runtime.spool.spool import Spool

PARTIAL_METADATA = "partial"


@dataclass(slots=True)
class RescueReport:
    """Numbers of the clips that were sealed as partial, and how many partial clips were left or dropped."""

    rescued: list[int] = field(default_factory=list)
    cut_again: int = 0
    unreadable: int = 0


def rescue_partials(spool: Spool) -> RescueReport:
    """Deal with every partial clip. Raises SpoolError when there is no room or the disk fails; call it again then."""
    report = RescueReport()
    for partial in spool.partial():
        if partial.boot_id is None:
            report.unreadable += 1  # set aside by recovery: evidence, not a clip
        elif partial.boot_id == spool.boot_id:
            spool.discard(spool.resume(partial))
            report.cut_again += 1
        else:
            _rescue(spool, partial, report)
    return report


def _rescue(spool: Spool, partial: PartialClip, report: RescueReport) -> None:
    clip_id = partial.metadata.get("clip_id")
    if clip_id is not None and spool.knows_clip(str(clip_id)):
        spool.discard(spool.resume(partial))
        report.cut_again += 1
        return
    remains = spool.resume(partial)
    try:
        with McapTopicReader(partial.path) as reader:
            n = _copy(spool, partial, reader)
    except McapFileError:
        n = None
    if n is None:
        spool.abandon(remains)
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
