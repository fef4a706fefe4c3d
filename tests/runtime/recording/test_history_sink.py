from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded_rig import START_NS, encode_camera, firing, session, tick_report

from runtime.formats import topics
from runtime.formats.json_messages import tensor_from_json
from runtime.messages import Packet, SignalSample
from runtime.recording import history_sink, segment_stream
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_sink import HistorySink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.sessions import SessionState, list_sessions


class HeldWriter(HistoryWriter):
    """A history on a disk that does not answer until `release` is set."""

    release: threading.Event

    def packet(self, packet: Packet) -> bool:
        assert self.release.wait(20)
        return super().packet(packet)


@pytest.fixture
def held(tmp_path: Path) -> HeldWriter:
    writer = HeldWriter(tmp_path, 60, 10**9, session())
    writer.release = threading.Event()
    return writer


def test_what_is_offered_is_in_history_after_stop(tmp_path: Path) -> None:
    sink = HistorySink(HistoryWriter(tmp_path, 60, 10**9, session()))
    sink.start()
    packets = encode_camera("front_main", 40)
    assert all(sink.packet(packet) for packet in packets)
    assert sink.signals([SignalSample("vehicle.speed_mps", START_NS, 3.0)])
    assert sink.tick(tick_report(3))
    assert sink.firing(firing(1.0))
    assert sink.log("warning", "capture", "camera rear is late", START_NS)
    assert sink.stop()
    found = {message.topic for message in HistoryReader(tmp_path).messages(0, 2**62)}
    assert found >= {"/camera/front_main/video", "/vehicle", "/tick", "/prediction", "/comparison", "/firing", "/log"}
    assert sink.refused() == {}
    assert sink.errors() == {}
    assert [item.state for item in list_sessions(HistoryLayout(tmp_path))] == [SessionState.ENDED]


def test_a_slow_disk_refuses_offers_and_counts_them_by_kind(held: HeldWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_sink, "MAX_QUEUED_RECORDS", 8)
    sink = HistorySink(held)
    sink.start()
    packet = encode_camera("front", 1)[0]
    taken = sum(sink.packet(packet) for _ in range(50))
    assert 8 <= taken <= 9  # the queue, and the one that the thread holds
    assert not sink.signals([SignalSample("vehicle.speed_mps", START_NS, 3.0)])
    assert sink.refused() == {"packet": 50 - taken, "signals": 1}
    held.release.set()
    assert sink.stop()


def test_queued_bytes_are_bounded_too(held: HeldWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_sink, "MAX_QUEUED_BYTES", 100_000)
    sink = HistorySink(held)
    sink.start()
    taken = sum(sink.packet(Packet("front", i, START_NS, START_NS, "h264", True, bytes(30_000))) for i in range(9))
    assert 3 <= taken <= 4
    held.release.set()
    assert sink.stop()


def test_a_firing_is_taken_even_when_the_queue_of_records_is_full(
    held: HeldWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_sink, "MAX_QUEUED_RECORDS", 2)
    sink = HistorySink(held)
    sink.start()
    packet = encode_camera("front", 1)[0]
    for _ in range(10):
        sink.packet(packet)
    assert sink.firing(firing(1.0))
    held.release.set()
    assert sink.stop()
    assert len(HistoryLayout(held.layout.directory).list_firings()) == 1


def test_values_in_a_ring_are_copied_when_they_are_offered(held: HeldWriter) -> None:
    sink = HistorySink(held)
    sink.start()
    sink.packet(encode_camera("front", 1)[0])
    report = tick_report(5)
    assert report.prediction is not None
    sink.tick(report)
    report.prediction.heads["embedding"][:] = -1.0  # type: ignore[index]
    report.prediction.detections.box_px[:] = -1.0
    report.tracks[0].box_px = (0.0, 0.0, 0.0, 0.0)
    held.release.set()
    assert sink.stop()
    messages = {message.topic: message for message in HistoryReader(held.layout.directory).messages(0, 2**62)}
    prediction = messages[topics.PREDICTION].json()
    assert np.array_equal(tensor_from_json(prediction["heads"]["embedding"]), np.full((8, 4), 5, np.float32))
    assert prediction["detections"][0]["box_px"] == [20, 30, 60, 70]
    assert "mask" not in prediction["heads"]


def test_a_value_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    sink = HistorySink(HistoryWriter(tmp_path, 60, 10**9, session()))
    sink.start()
    assert sink.packet(Packet("front", 0, START_NS, START_NS, "gif", True, b"GIF89a"))
    assert sink.signals([SignalSample("speed", START_NS, 3.0)])
    assert sink.tick(tick_report(1))
    assert sink.stop()
    errors = sink.errors()
    assert sum(errors.values()) == 2
    assert any("codec 'gif'" in text for text in errors)
    assert any("no namespace" in text for text in errors)
    assert "/tick" in {message.topic for message in HistoryReader(tmp_path).messages(0, 2**62)}


def test_offers_after_stop_are_refused(tmp_path: Path) -> None:
    sink = HistorySink(HistoryWriter(tmp_path, 60, 10**9, session()))
    sink.start()
    assert sink.stop()
    assert not sink.tick(tick_report(1))
    assert not sink.firing(firing(1.0))
    assert sink.refused() == {"tick": 1, "firing": 1}


def test_a_disk_error_costs_its_records_and_not_the_thread_that_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO, or a directory that somebody removed: refused and counted, and written again once it works."""
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    sink = HistorySink(writer)
    packets = encode_camera("front_main", 60)
    is_broken, real = threading.Event(), os.write

    def write(descriptor: int, data: bytes) -> int:
        if is_broken.is_set() and threading.current_thread().name == "history":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, data)

    monkeypatch.setattr(segment_stream.os, "write", write)
    sink.start()
    for index, packet in enumerate(packets):
        if index in (20, 40):
            wait_until(lambda: not sink._records and not sink._in_hand)
            (is_broken.set if index == 20 else is_broken.clear)()
        sink.packet(packet)
    assert sink.stop()
    found = [message.packet().sequence for message in HistoryReader(tmp_path).messages(0, 2**62)]
    assert found == [*range(20), *range(40, 60)]
    assert sink.errors() == {"OSError: [Errno 5] Input/output error": 20}


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)
