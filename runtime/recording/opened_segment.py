"""How a second of history is opened: its writer renames it meanwhile, and drops it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.recording.layout import HistoryLayout, Segment


@contextlib.contextmanager
def opened(layout: HistoryLayout, segment: Segment) -> Iterator[McapTopicReader | None]:
    """The segment under whichever name it has now, or None when it is gone or has not even a header yet."""
    reader = None
    for path in (segment.path, layout.closed_segment(segment.start_ns), layout.held_segment(segment.start_ns)):
        with contextlib.suppress(FileNotFoundError, McapFileError):
            reader = McapTopicReader(path)
            break
    try:
        yield reader
    finally:
        if reader is not None:
            reader.close()
