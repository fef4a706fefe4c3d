"""Partial clips at the recorder's start: cut again where history lives on, sealed as partial where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter
from runtime.messages import Priority
from runtime.spool import Spool, rescue_partials

QUOTA_BYTES = 64 << 20


def open_spool(directory: Path, boot: str) -> Spool:
    return Spool.open(directory, QUOTA_BYTES, boot_id=boot)


def write_half(directory: Path, lines: int = 3, clip_id: str = "half") -> None:
    """A recorder that dies with the power: some chunks are written, the end is not."""
    with open_spool(directory, "first") as spool:
        draft = spool.begin(1 << 20, Priority.HIGH, metadata={"clip_id": clip_id})
        stream = spool.write_into(draft)
        writer = McapTopicWriter(stream)
        for second in range(lines):
            writer.log("info", "test", f"line {second}", second)
            writer.flush()
        stream.sync()
        draft.release()


def test_after_a_power_cut_what_was_written_of_a_clip_is_sealed_as_partial(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "second") as spool:
        report = rescue_partials(spool)
        assert (report.rescued, report.cut_again, report.unreadable) == ([1], 0, 0)
        clip = spool.clip(1)
        assert clip.priority is Priority.HIGH
        assert clip.metadata == {"clip_id": "half", "partial": True, "priority": "high", "start_ns": 0, "end_ns": 2}
        with McapTopicReader(clip.path, strict=True) as reader:
            assert [message.time_ns for message in reader.messages()] == [0, 1, 2]
        assert spool.partial() == []
        assert rescue_partials(spool).rescued == [], "once"


def test_without_a_power_cut_a_partial_clip_is_dropped_for_it_will_be_cut_again(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        assert rescue_partials(spool).cut_again == 1
        assert (spool.partial(), spool.counts().sealed) == ([], 0)


def test_a_partial_clip_whose_whole_was_sealed_later_is_dropped(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(10)
        draft.path.write_bytes(b"whole")
        spool.seal(draft, {"clip_id": "half"})
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool).rescued == []
        assert spool.counts().sealed == 1


@pytest.mark.parametrize("content", [b"", os.urandom(5000), bytes(5000)], ids=["empty", "no MCAP", "zeros"])
def test_what_cannot_be_read_stays_partial_and_is_counted(tmp_path, content):
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(5000)
        draft.path.write_bytes(content)
        draft.release()
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool).unreadable == 1
        assert [partial.path for partial in spool.partial()] == [draft.path]
        assert spool.counts().sealed == 0


def test_a_damaged_chunk_is_left_out_and_the_rest_is_kept(tmp_path):
    write_half(tmp_path, lines=5)
    (path,) = (tmp_path / "partial").iterdir()
    content = bytearray(path.read_bytes())
    end = len(content.rstrip(b"\0"))
    content[end - 40] ^= 1
    path.write_bytes(content)
    with open_spool(tmp_path, "second") as spool:
        (n,) = rescue_partials(spool).rescued
        with McapTopicReader(spool.clip(n).path, strict=True) as reader:
            assert 1 <= len(list(reader.messages())) < 5
