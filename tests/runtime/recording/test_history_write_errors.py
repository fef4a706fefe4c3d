"""A file system that fails otherwise than by being full: what it costs, what is told, and that history goes on."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_rig import GOP, SECOND_NS, START_NS, encode_camera, firing, session

from runtime.messages import Firing, Packet
from runtime.recording import segment_stream
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_sink import HistoryDeathError, HistorySink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.sessions import SessionState, list_sessions


def settled(condition: Callable[[], bool]) -> bool:
    """Whether it comes true at all: the sink writes in a thread of its own."""
    for _ in range(2000):
        if condition():
            return True
        time.sleep(0.005)
    return False


def fails_once(number: int) -> Callable[[int, bytes], int]:
    """`os.write` whose first call fails."""
    left = [number]
    write = os.write

    def failing(descriptor: int, data: bytes) -> int:
        if left:
            raise OSError(left.pop(), "it failed")
        return write(descriptor, data)

    return failing


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EIO])
def test_a_write_that_fails_costs_its_group_of_pictures_and_history_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    sink = HistorySink(HistoryWriter(tmp_path, 60, 10**9, session()))
    sink.start()
    packets = encode_camera("front_main", 40)
    for packet in packets[:10]:
        assert sink.packet(packet)
    assert settled(lambda: len(list(HistoryReader(tmp_path).messages(0, 2**62))) == 10)
    with monkeypatch.context() as patched:
        patched.setattr(segment_stream.os, "write", fails_once(number))
        assert sink.packet(packets[10])
        assert settled(lambda: bool(sink.errors()))
    for packet in packets[11:]:
        assert sink.packet(packet)
    assert sink.firing(firing(1.5))
    sink.raise_if_dead()
    assert sink.stop()
    assert ["it failed" in text for text in sink.errors()] == [True]
    assert packets[10].is_key
    assert sink.counters.refused_records == GOP
    found = [message.time_ns for message in HistoryReader(tmp_path).messages(0, 2**62, {"/camera/front_main/video"})]
    assert found == [packet.time_ns for packet in (*packets[:10], *packets[10 + GOP :])]
    assert len(sink._writer.layout.list_firings()) == 1
    assert [run.state for run in list_sessions(sink._writer.layout)] == [SessionState.ENDED]


def test_a_firing_reaches_the_recorder_although_its_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    monkeypatch.setattr(segment_stream.os, "write", fails_once(errno.EIO))
    with pytest.raises(OSError, match="it failed"):
        writer.firing(firing(1.5))
    assert len(writer.layout.list_firings()) == 1


def test_a_second_that_cannot_be_finished_or_renamed_is_bounded_and_read_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = HistoryWriter(tmp_path, 2, 10**9, session())
    packets = encode_camera("front_main", 120)

    def stuck(path: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "cannot be renamed", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stuck)
        for packet in packets[:30]:
            assert writer.packet(packet)
    assert [segment.is_open for segment in writer.layout.list_segments()] == [True, True]
    assert len(list(HistoryReader(tmp_path).messages(0, 2**62))) == 30
    for packet in packets[30:]:
        assert writer.packet(packet)
    assert len(writer.layout.list_segments()) == 3
    assert not any(segment.is_open for segment in writer.layout.list_segments()[:-1])
    writer.close()


def test_nothing_is_appended_behind_a_torn_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    packets = encode_camera("front_main", 3, gop=2)
    assert writer.packet(packets[0])
    write = os.write

    def torn(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(errno.EIO, "torn")

    def never(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "not even that")

    with monkeypatch.context() as patched:
        patched.setattr(segment_stream.os, "write", torn)
        patched.setattr(segment_stream.os, "ftruncate", never)
        with pytest.raises(OSError, match=r"torn|not even that"):
            writer.packet(packets[1])
    assert writer.packet(packets[2])
    writer.close()
    found = [message.time_ns for message in HistoryReader(tmp_path).messages(0, 2**62)]
    assert found == [packets[0].time_ns, packets[2].time_ns]


class LostWriter(HistoryWriter):
    """One whose thread meets what no record can provoke."""

    def packet(self, packet: Packet) -> bool:
        raise KeyboardInterrupt

    def firing(self, firing: Firing) -> bool:
        raise AssertionError("nothing is written any more")


def test_a_writer_that_died_is_told_and_takes_nothing_more(tmp_path: Path) -> None:
    sink = HistorySink(LostWriter(tmp_path, 60, 10**9, session()))
    sink.start()
    (packet,) = encode_camera("front_main", 1)
    assert sink.packet(packet)
    assert settled(lambda: not sink._thread.is_alive())
    with pytest.raises(HistoryDeathError, match="KeyboardInterrupt"):
        sink.raise_if_dead()
    assert not sink.packet(packet)
    assert not sink.firing(firing(1.0))
    assert sink.refused() == {"packet": 1, "firing": 1}
    assert not sink.stop()


def test_history_that_cannot_be_closed_is_no_clean_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = HistorySink(HistoryWriter(tmp_path, 60, 10**9, session()))
    sink.start()

    def broken(path: Path, *arguments: object) -> None:
        raise OSError(errno.EIO, "no marker", str(path))

    monkeypatch.setattr(Path, "touch", broken)
    assert not sink.stop()
    assert any("no marker" in text for text in sink.errors())


def test_a_change_of_rules_is_noted_on_a_full_tmpfs_at_the_cost_of_the_oldest_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.recording.sessions import SessionChange, SessionLock

    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    for packet in encode_camera("front_main", 60):
        writer.packet(packet)
    note, left = SessionLock.note_change, [errno.ENOSPC]

    def full_once(lock: SessionLock, change: SessionChange) -> None:
        if left:
            raise OSError(left.pop(), "no space left on device")
        note(lock, change)

    monkeypatch.setattr(SessionLock, "note_change", full_once)
    writer.change(SessionChange(from_ns=START_NS + SECOND_NS, rules_sha256="f" * 64, model=None))
    (run,) = list_sessions(writer.layout)
    assert [change.rules_sha256 for change in run.changes] == ["f" * 64]
    assert writer.counters.segments_given_up == 1
