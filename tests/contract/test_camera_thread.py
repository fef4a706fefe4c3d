"""Camera threads over real sources: framesets and packets come out, and nothing a camera does gets any further."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from camera_benches import read_port, start_rtsp_server, stop_server
from video_samples import PERIOD_NS, encode, scenes, write_video

from runtime.capture.assembler import Assembler
from runtime.capture.camera_path import CameraPath
from runtime.capture.camera_thread import CameraThread, PacketSink
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.conditioning import EncodingWorker
from runtime.capture.paced_sources import DriveCameraSource, video_file_source
from runtime.capture.phase import InstantGrid
from runtime.capture.rtsp import RtspSource
from runtime.capture.sources import CameraSource, CaptureEnded, CaptureReadError, StreamInfo
from runtime.clock import ManualClock, SystemClock
from runtime.drives import DriveEpoch, open_drive
from runtime.formats.image_spec import ImageSpec
from runtime.messages import Packet

SPEC = ImageSpec(64, 48)


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = 20.0) -> None:
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.005)


class Recorder:
    """Where packets go."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.worker = EncodingWorker(self.packets.append)
        self.worker.start()
        self.sink = PacketSink(self.packets.append, self.worker)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    assert made.worker.stop()


class ScriptedSource:
    """Plays a list of packets and errors, once for each time that it is opened."""

    def __init__(self, clock: SystemClock, *scripts: list[Packet | Exception]) -> None:
        self._clock = clock
        self._scripts = iter(scripts)
        self._script: Iterator[Packet | Exception] = iter(())
        self.closed = 0

    def open(self) -> StreamInfo:
        self._script = iter(next(self._scripts))
        return StreamInfo("h264", 320, 240, 20.0)

    def read(self, timeout_s: float) -> Packet | None:
        item = next(self._script, CaptureEnded("over"))
        if isinstance(item, Exception):
            raise item
        return Packet(item.camera, item.sequence, self._clock.now_ns(), 0, item.codec, item.is_key, item.data)

    def close(self) -> None:
        self.closed += 1


def thread_of(source: CameraSource, name: str = "front", sink: PacketSink | None = None) -> CameraThread:
    path = CameraPath(CameraWatch(name), None)
    return CameraThread(source, path, SystemClock(), sink)


def test_a_paced_drive_gives_the_framesets_that_its_frames_make(tmp_path: Path, recorder: Recorder) -> None:
    """The clock is turned by hand: two threads, no waiting, every frame in its instant."""
    for name in ("front", "rear"):
        write_video(tmp_path / f"{name}.mp4", scenes(10))
    (tmp_path / "drive.yaml").write_text(
        "name: d\ncameras: {front: {video: [front.mp4]}, rear: {video: [rear.mp4]}}\n", encoding="utf-8"
    )
    drive = open_drive(tmp_path)
    clock = ManualClock(5_000_000_000)
    epoch = DriveEpoch(0, 5_000_000_000)
    grid = InstantGrid(PERIOD_NS, "front", start_ns=5_000_000_000)
    assembler = Assembler(("front", "rear"), SPEC, grid)
    sources = {name: DriveCameraSource(camera, clock, epoch) for name, camera in drive.cameras.items()}
    paths = {name: CameraPath(CameraWatch(name), assembler) for name in sources}
    for name, source in sources.items():
        paths[name].open(source.open(), clock.now_ns())
    for instant in range(10):
        for name, source in sources.items():
            packet = source.read(1.0)
            assert packet is not None
            assert packet.time_ns == epoch.to_live(instant * PERIOD_NS)
            paths[name].feed(packet)
        frameset = assembler.take(instant)
        assert frameset.present.all()
        assert frameset.frame_sequence.tolist() == [instant, instant]


def test_a_recording_runs_through_and_ends(tmp_path: Path, recorder: Recorder) -> None:
    source = video_file_source("front", write_video(tmp_path / "clip.mp4", scenes(10)), SystemClock())
    assembler = Assembler(("front",), SPEC, InstantGrid(PERIOD_NS, "front"))
    thread = CameraThread(source, CameraPath(CameraWatch("front"), assembler), SystemClock(), recorder.sink)
    thread.start()
    assert thread.join(20)
    assert thread.watch.connection == "ended"
    assert thread.watch.counters.decoded == 10
    assert assembler.counters()["front"].received == 10
    assert [packet.sequence for packet in recorder.packets] == list(range(10))


def test_what_cannot_go_into_a_clip_is_encoded_by_the_worker(tmp_path: Path, recorder: Recorder) -> None:
    path = write_video(tmp_path / "clip.avi", scenes(10), codec="mjpeg")
    thread = thread_of(video_file_source("front", path, SystemClock()), sink=recorder.sink)
    thread.start()
    assert thread.join(20)
    wait_for(lambda: len(recorder.packets) == 10, "ten encoded packets")
    assert all(packet.codec == "h264" and packet.transcoded for packet in recorder.packets)


def test_a_missing_recording_fails_for_good_and_says_why(tmp_path: Path) -> None:
    thread = thread_of(video_file_source("front", tmp_path / "gone.mp4", SystemClock()))
    thread.start()
    assert thread.join(20)
    assert thread.watch.connection == "failed"
    assert "gone.mp4" in thread.watch.error


def test_a_stream_that_breaks_off_is_opened_again() -> None:
    packets = encode(scenes(6))
    source = ScriptedSource(SystemClock(), [*packets[:3], CaptureReadError("cable pulled")], [*packets[3:]])
    thread = thread_of(source)
    thread.start()
    assert thread.join(20)
    assert (thread.watch.counters.packets, thread.watch.counters.reconnects, source.closed) == (6, 1, 2)


def test_an_unforeseen_error_stops_its_camera_only() -> None:
    broken = thread_of(ScriptedSource(SystemClock(), [ZeroDivisionError("a bug")]), "broken")
    sound = thread_of(ScriptedSource(SystemClock(), list(encode(scenes(3)))), "sound")
    for thread in (broken, sound):
        thread.start()
    assert broken.join(20)
    assert sound.join(20)
    assert (broken.watch.connection, broken.watch.error) == ("failed", "ZeroDivisionError: a bug")
    assert sound.watch.connection == "ended"


def test_packets_with_impossible_times_are_counted_and_go_nowhere(recorder: Recorder) -> None:
    clock = SystemClock()

    class Wrong(ScriptedSource):
        def read(self, timeout_s: float) -> Packet | None:
            packet = super().read(timeout_s)
            assert packet is not None
            shift = (-60_000_000_000, 0, 3_000_000_000)[packet.sequence % 3]
            return Packet("front", packet.sequence, packet.time_ns + shift, 0, "h264", packet.is_key, packet.data)

    thread = thread_of(Wrong(clock, list(encode(scenes(9), group=1))), sink=recorder.sink)
    thread.start()
    assert thread.join(20)
    assert (thread.watch.counters.bad_time, thread.watch.counters.packets) == (6, 3)
    assert [packet.sequence for packet in recorder.packets] == [1, 4, 7]


def test_what_refers_to_a_packet_with_an_impossible_time_is_not_recorded(recorder: Recorder) -> None:
    class Late(ScriptedSource):
        def read(self, timeout_s: float) -> Packet | None:
            packet = super().read(timeout_s)
            if packet is None or packet.sequence != 4:
                return packet
            return replace(packet, time_ns=packet.time_ns - 60_000_000_000)

    thread = thread_of(Late(SystemClock(), list(encode(scenes(20), group=10))), sink=recorder.sink)
    thread.start()
    assert thread.join(20)
    assert (thread.watch.counters.bad_time, thread.watch.counters.packets) == (1, 19)
    assert [packet.sequence for packet in recorder.packets] == [0, 1, 2, 3, *range(10, 20)]


def test_a_thread_stops_when_told_to_although_its_source_is_silent() -> None:
    class Silent(ScriptedSource):
        def read(self, timeout_s: float) -> Packet | None:
            reading.set()
            time.sleep(min(timeout_s, 0.05))
            return None

    reading = threading.Event()
    source = Silent(SystemClock(), [])
    thread = thread_of(source)
    thread.start()
    assert reading.wait(20)
    thread.stop()
    assert thread.join(20)
    assert source.closed == 1


def test_an_rtsp_camera_that_restarts_comes_back_by_itself() -> None:
    server = start_rtsp_server("h264")
    port = read_port(server)
    thread = thread_of(RtspSource("front", f"rtsp://127.0.0.1:{port}/camera", SystemClock()))
    thread.start()
    try:
        wait_for(lambda: thread.watch.counters.packets > 5, "packets")
        stop_server(server)
        wait_for(lambda: thread.watch.connection == "connecting", "the loss to be noticed")
        seen = thread.watch.counters.packets
        server = start_rtsp_server("h264", port)
        read_port(server)
        wait_for(lambda: thread.watch.counters.packets > seen + 5, "packets after the restart", patience_s=40)
        assert thread.watch.counters.reconnects >= 1
    finally:
        thread.stop()
        stop_server(server)
        assert thread.join(20)
