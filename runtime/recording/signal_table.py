"""The signals of a clip as one CSV: a row for each instant at which any of them was sampled, a column for each.

Columns `time_ns` (capture), `wall_ns` and `elapsed_s` (from the clip's first record) come first, then the signals by
name. A cell is empty where that signal was not sampled at that instant; nothing is filled in. True and false are
written as words. The file is written in one pass after one that finds the names: memory does not grow with the clip.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from runtime.formats.json_messages import decode_signals
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.messages import NANOSECONDS_PER_SECOND, SignalSample

_LEADING = ("time_ns", "wall_ns", "elapsed_s")


def write_signal_table(reader: McapTopicReader, start_ns: int, path: Path) -> int:
    """Write the table; how many rows below the head. OSError from the disk."""
    names = sorted({sample.name for message in _messages(reader) for sample in _samples(message)})
    rows = 0
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow((*_LEADING, *names))
        for time_ns, group in groupby(_messages(reader), key=lambda message: message.time_ns):
            messages = list(group)
            values = {sample.name: sample.value for message in messages for sample in _samples(message)}
            elapsed_s = (time_ns - start_ns) / NANOSECONDS_PER_SECOND
            lead = (time_ns, messages[0].wall_ns, f"{elapsed_s:.6f}")
            writer.writerow((*lead, *(_cell(values.get(name)) for name in names)))
            rows += 1
    return rows


def _messages(reader: McapTopicReader) -> Iterator[RawMessage]:
    return reader.messages(reader.signal_topics)


def _samples(message: RawMessage) -> list[SignalSample]:
    return decode_signals(message.data, message.topic.lstrip("/"), message.time_ns)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value
