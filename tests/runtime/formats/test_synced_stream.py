"""Bytes of a file being written: never long in danger, never beyond what was reserved, never trusted after an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter
from runtime.formats.synced_stream import SYNC_BYTES, SYNC_INTERVAL_NS, SyncedStream


def refuse(total_bytes: int) -> int:
    raise OSError(28, "No space left on device")


@pytest.fixture
def descriptor(tmp_path: Path):
    opened = os.open(tmp_path / "draft", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def stream_of(descriptor: int, clock: ManualClock, reserved_bytes: int = 1000) -> SyncedStream:
    return SyncedStream(descriptor, reserved_bytes, refuse, clock.now_ns)


def test_room_is_taken_before_the_first_byte_and_cut_off_by_whoever_seals(descriptor, clock):
    with stream_of(descriptor, clock) as stream:
        stream.write(b"abc")
        assert os.fstat(descriptor).st_size == 1000
        assert os.fstat(descriptor).st_blocks > 0
        assert stream.finished_bytes() == stream.tell() == 3
    assert os.pread(descriptor, 3, 0) == b"abc", "closing the stream leaves the caller's descriptor open"


def test_bytes_are_synced_after_two_seconds_of_writing(descriptor, clock):
    with stream_of(descriptor, clock) as stream:
        stream.write(b"a")
        clock.advance_to(SYNC_INTERVAL_NS - 1)
        stream.write(b"b")
        assert stream.synced_bytes == 0
        clock.advance_to(SYNC_INTERVAL_NS)
        assert stream.sync_is_due
        stream.write(b"c")
        assert stream.synced_bytes == 3
        assert not stream.sync_is_due


def test_many_bytes_are_synced_sooner(descriptor, clock):
    with stream_of(descriptor, clock, SYNC_BYTES + 1) as stream:
        stream.write(bytes(SYNC_BYTES))
        assert stream.synced_bytes == SYNC_BYTES


def test_a_write_beyond_the_reservation_asks_first_and_writes_nothing_when_refused(descriptor, clock):
    with stream_of(descriptor, clock, 4) as stream:
        stream.write(b"abcd")
        with pytest.raises(OSError, match="No space"):
            stream.write(b"e")
        assert stream.tell() == 4
    granted: list[int] = []
    with SyncedStream(descriptor, 4, lambda total: granted.append(total) or total, clock.now_ns) as stream:
        stream.write(b"abcde")
    assert granted == [5]


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
def test_after_an_error_the_stream_refuses_everything_and_syncs_no_more(descriptor, clock, monkeypatch, call):
    def failing(*arguments):
        raise OSError(5, "Input/output error")

    with stream_of(descriptor, clock) as stream:
        monkeypatch.setattr(os, call, failing)
        clock.advance_to(SYNC_INTERVAL_NS)
        with pytest.raises(OSError, match="Input/output error"):
            stream.write(b"x")
        monkeypatch.undo()
        monkeypatch.setattr(os, "fdatasync", lambda descriptor: pytest.fail("the same file was synced again"))
        for act in (stream.sync, lambda: stream.write(b"y"), stream.finished_bytes):
            with pytest.raises(OSError, match="throw this file away"):
                act()


def test_a_clip_cut_short_reads_to_its_last_chunk_and_every_chunk_has_a_checksum(descriptor, clock, tmp_path):
    with stream_of(descriptor, clock, 1 << 20) as stream:
        writer = McapTopicWriter(stream)
        for second in range(3):
            writer.log("info", "test", f"line {second}", second)
            writer.flush()
        stream.sync()
    path = tmp_path / "draft"
    with McapTopicReader(path) as reader:
        assert len(list(reader.messages())) == 3, "the zeros of the reservation behind it end it, no more"
    damaged = bytearray(path.read_bytes())
    at = damaged.index(b"line 1") if b"line 1" in damaged else stream.synced_bytes // 2
    damaged[at] ^= 1
    path.write_bytes(damaged)
    with McapTopicReader(path) as reader:
        assert len(list(reader.messages())) < 3, "a flipped bit does not pass for data"
