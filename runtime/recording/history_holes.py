"""Where seconds of history are missing between two that are left, and what can be shown behind such a hole.

Of history older than its `seconds` only what clips wait for is kept (`history_ring`). Each segment says which one came
before it; where that is not the one that lies before it now, there is a hole. Behind it a camera's pictures begin with
its next key frame: what comes before that depends on pictures that are gone. Packets that never came into history make
no such hole: those that depend on them were refused as well (`picture_chains`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from runtime.formats.mcap_files import McapFileError, McapTopicReader, RawMessage
from runtime.formats.topics import VIDEO_SCHEMA
from runtime.recording.history_writer import PREVIOUS, SEGMENT_METADATA
from runtime.recording.layout import Segment


def facts(reader: McapTopicReader, name: str) -> dict[str, str]:
    """A metadata record of a segment; empty where there is none, or where one that cannot be read is in the way."""
    try:
        return reader.metadata().get(name, {})
    except McapFileError:
        return {}


def follows(reader: McapTopicReader, earlier: Segment) -> bool:
    """Whether nothing is missing between the two. What says nothing of it was not written into a history with holes."""
    previous = facts(reader, SEGMENT_METADATA).get(PREVIOUS)
    return previous is None or previous == str(earlier.start_ns)


def from_key_frames(messages: Iterable[RawMessage], holes_ns: Sequence[int]) -> Iterator[RawMessage]:
    """Without pictures that depend on what is gone; `holes_ns`, ascending, is where each hole ends."""
    whole: dict[str, int] = {}  # by topic: holes before its newest key frame
    for message in messages:
        if message.channel.schema_name == VIDEO_SCHEMA:
            holes = bisect_right(holes_ns, message.time_ns)
            if whole.get(message.topic, 0) < holes and not message.packet().is_key:
                continue
            whole[message.topic] = holes
        yield message
