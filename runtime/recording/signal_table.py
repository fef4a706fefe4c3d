"""The signals of a clip as one CSV: a row for each instant at which any of them was sampled, a column for each.

Columns `time_ns` (capture), `wall_ns` and `elapsed_s` (from the clip's first record) come first, then the signals by
name. A cell is empty where that signal was not sampled at that instant; nothing is filled in. True and false are
written as words. The file is written in one pass after one that finds the names: memory does not grow with the clip.
Signals beyond `MAX_COLUMNS` are an error: a clip could make a table of any size with them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_file import ClipError

#: Canonical signals, 1,024 declared ones, and room for what is computed of them.
MAX_COLUMNS = 4096
_LEADING = ("time_ns", "wall_ns", "elapsed_s")


def write_signal_table(reader: McapTopicReader, start_ns: int, path: Path) -> int:
    """Write the table; how many rows below the head. McapFileError, ClipError, or OSError from the disk."""
    names = _names(reader)
    rows = 0
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow((*_LEADING, *names))
        for time_ns, group in groupby(_messages(reader), key=lambda message: message.time_ns):
            messages = list(group)
            values = {sample.name: sample.value for message in messages for sample in message.signals()}
            elapsed_s = (time_ns - start_ns) / NANOSECONDS_PER_SECOND
            lead = (time_ns, messages[0].wall_ns, f"{elapsed_s:.6f}")
            writer.writerow((*lead, *(_cell(values.get(name)) for name in names)))
            rows += 1
    return rows


def _messages(reader: McapTopicReader) -> Iterator[RawMessage]:
    return reader.messages(reader.signal_topics)


def _names(reader: McapTopicReader) -> list[str]:
    names: set[str] = set()
    for message in _messages(reader):
        names.update(sample.name for sample in message.signals())
        if len(names) > MAX_COLUMNS:
            raise ClipError(
                f"{reader.path}: more than {MAX_COLUMNS} signals are no table: export the other parts of this clip"
            )
    return sorted(names)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value
