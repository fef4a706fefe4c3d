"""Records that are written together: in the file when their block ends, in one write, and refused as one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from recorded_rig import CAMERAS, encode_camera, session, tick_report

from runtime.recording import segment_stream
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter


def written_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in (directory / "segments").iterdir())


def test_a_block_reaches_the_file_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    write = segment_stream.SegmentStream.write

    def counted(stream: segment_stream.SegmentStream, data: bytes) -> int:
        writes.append(len(data))
        return write(stream, data)

    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    packets = [encode_camera(camera, 2, seed=seed) for seed, camera in enumerate(CAMERAS)]
    writer.packet(packets[0][0])
    before = written_bytes(tmp_path)
    monkeypatch.setattr(segment_stream.SegmentStream, "write", counted)
    with writer.together():
        for camera in packets:
            assert writer.packet(camera[1])
        assert writer.tick(tick_report(1))
        assert written_bytes(tmp_path) == before
    assert len(writes) == 1
    found = [message.topic for message in HistoryReader(tmp_path).messages(0, 2**62)]
    assert "/tick" in found
    assert sum(topic.endswith("/video") for topic in found) == len(packets) + 1


def test_a_block_without_room_is_refused_record_by_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    packets = encode_camera("front", 4)
    assert packets[0].is_key
    with monkeypatch.context() as patched:

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

        with writer.together():
            writer.signals([])
            assert writer.packet(packets[0])
            assert writer.packet(packets[1])
            patched.setattr(segment_stream.os, "write", full)
    assert writer.counters.refused_records == 2
    assert writer.tick(tick_report(2))
    writer.close()
    reader = HistoryReader(tmp_path)
    assert "/tick" in {message.topic for message in reader.messages(0, 2**62)}
    assert reader.cameras(0, 2**62) == ()
    assert reader.key_frame_starts(["front"], 0, 2**62) == {}  # no index promises a key frame that is not there
