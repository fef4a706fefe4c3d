"""What is copied of half a clip into one of its own, and what that one is known by.

An open clip is copied message by message, as far as checksums hold; a locked one byte by byte, as far as it can be
opened. What was noted when the clip began travels ahead of it, except where the file itself tells better.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.formats import topics
from runtime.formats.json_messages import decode_firing
from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter, RawMessage
from runtime.formats.offer_limits import MAX_LISTED
from runtime.messages import Firing
from runtime.spool.clips import ClipDraft, PartialClip
from runtime.spool.spool import Spool

log = logging.getLogger(__name__)

#: The metadata record of a rescued clip that says what it is; `facts` there is the JSON of what travels ahead of it.
PARTIAL_METADATA = "partial"
COPY_BYTES = 1 << 20
CUT_SHORT = "the machine stopped while the clip was written"


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


def known_by(partial: PartialClip) -> dict[str, Any]:
    """What was noted when the clip began, and that it is cut short."""
    return {**partial.metadata, "partial": True, "priority": partial.priority.value, "ended_early": CUT_SHORT}


def copy_locked(spool: Spool, draft: ClipDraft, partial: PartialClip, length: int) -> dict[str, Any]:
    """Byte by byte: nobody here can look inside, and what the receiver opens ends at its last whole chunk."""
    with spool.write_into(draft) as stream, partial.path.open("rb") as source:
        while length > 0 and (block := source.read(min(length, COPY_BYTES))):
            stream.write(block)
            length -= len(block)
        return {**known_by(partial), "bytes": stream.tell()}


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


def copy_messages(spool: Spool, draft: ClipDraft, partial: PartialClip, reader: McapTopicReader) -> dict[str, Any]:
    """Message by message; empty when there was none."""
    found = _Found()
    with spool.write_into(draft) as stream:
        writer = McapTopicWriter(stream)  # type: ignore[arg-type]  # it writes, tells and flushes
        for message in reader.messages():
            writer.write(message.channel, message.data, message.time_ns, message.wall_ns, message.sequence)
            found.note(message)
        if found.count == 0:
            return {}
        said = found.facts(known_by(partial))
        facts = {"messages": str(found.count), "reason": CUT_SHORT, "facts": json.dumps(said)}
        writer.metadata(PARTIAL_METADATA, facts)
        writer.finish()
        return {**said, "bytes": stream.tell()}
