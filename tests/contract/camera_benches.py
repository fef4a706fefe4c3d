"""For each kind of camera source: a bench that makes one, with something real to receive from."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
from video_samples import encode, scenes, write_video

from runtime.capture.paced_sources import DriveCameraSource, video_file_source
from runtime.capture.rtsp import RtspSource
from runtime.capture.sources import CameraSource
from runtime.capture.v4l2 import V4l2Source
from runtime.capture.zeromq import ZeromqCameraSource
from runtime.clock import SystemClock
from runtime.drives import DriveEpoch, open_drive
from runtime.formats.bitstream import StreamInfo
from runtime.formats.zeromq_wire import encode_camera
from runtime.messages import NANOSECONDS_PER_SECOND, Packet

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)


@dataclass(frozen=True)
class Bench:
    """A source under test, and one of its kind that cannot be opened (None where that cannot be)."""

    source: CameraSource
    absent: CameraSource | None
    codec: str
    ends: bool


class RtspServers:
    """One running GStreamer RTSP server of each kind, shared by the tests of a module."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[subprocess.Popen[str], int]] = {}

    def port(self, kind: str) -> int:
        """The port of the server for `kind`; skips the test where GStreamer's packages are not installed."""
        if kind not in self._running:
            process = start_rtsp_server(kind)
            self._running[kind] = process, read_port(process)
        return self._running[kind][1]

    def close(self) -> None:
        for process, _ in self._running.values():
            stop_server(process)


@contextmanager
def drive_bench(folder: Path, servers: RtspServers) -> Iterator[Bench]:
    write_video(folder / "front.mp4", scenes(30))
    (folder / "drive.yaml").write_text(
        "name: d\ncameras: {front: {video: [front.mp4]}, gone: {video: [gone.mp4]}}\n", encoding="utf-8"
    )
    drive = open_drive(folder)
    clock = SystemClock()
    epoch = DriveEpoch(drive.start_ns, clock.now_ns())
    yield Bench(
        DriveCameraSource(drive.cameras["front"], clock, epoch),
        DriveCameraSource(drive.cameras["gone"], clock, epoch),
        "h264",
        ends=True,
    )


@contextmanager
def video_bench(folder: Path, servers: RtspServers) -> Iterator[Bench]:
    clock = SystemClock()
    path = write_video(folder / "clip.mp4", scenes(30))
    absent = video_file_source("front", folder / "gone.mp4", clock)
    yield Bench(video_file_source("front", path, clock), absent, "h264", ends=True)


@contextmanager
def zeromq_bench(folder: Path, servers: RtspServers) -> Iterator[Bench]:
    clock = SystemClock()
    socket = zmq.Context.instance().socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()
    packets = encode(scenes(40), "front")

    def publish() -> None:
        while not stop.is_set():
            for packet in packets:
                stamped = Packet(
                    "front", packet.sequence, clock.now_ns(), clock.wall_ns(), "h264", packet.is_key, packet.data
                )
                socket.send_multipart(encode_camera(stamped, StreamInfo("h264", 320, 240, 20.0)))
                if stop.wait(0.02):
                    return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        address = f"tcp://127.0.0.1:{port}"
        taken = ZeromqCameraSource("front", address, clock, bind=True)  # somebody else listens there
        yield Bench(ZeromqCameraSource("front", address, clock), taken, "h264", ends=False)
    finally:
        stop.set()
        thread.join()
        socket.close(linger=0)


def _rtsp_bench(port: int, codec: str) -> Bench:
    clock = SystemClock()
    address = f"rtsp://127.0.0.1:{port}"
    absent = RtspSource("front", f"{address}/nothing", clock)
    return Bench(RtspSource("front", f"{address}/camera", clock), absent, codec, ends=False)


@contextmanager
def rtsp_bench(folder: Path, servers: RtspServers) -> Iterator[Bench]:
    yield _rtsp_bench(servers.port("h264"), "h264")


@contextmanager
def rtsp_jpeg_bench(folder: Path, servers: RtspServers) -> Iterator[Bench]:
    yield _rtsp_bench(servers.port("jpeg"), "mjpeg")


def start_rtsp_server(kind: str, port: int = 0) -> subprocess.Popen[str]:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True).returncode:
        pytest.skip(f"no GStreamer RTSP server here: apt-get install {RTSP_PACKAGES}")
    script = Path(__file__).with_name("rtsp_server.py")
    return subprocess.Popen(
        [SYSTEM_PYTHON, str(script), kind, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
    )


def read_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.strip().isdigit(), f"the RTSP server did not start (exit {process.poll()})"
    return int(line)


def stop_server(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@contextmanager
def v4l2_bench(folder: Path, servers: RtspServers) -> Iterator[Bench]:
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        pytest.skip("this machine has no V4L2 device (/dev/video*): plug in a camera, or load the vivid module")
    clock = SystemClock()
    yield Bench(V4l2Source("front", devices[0], clock), V4l2Source("front", "/dev/video99", clock), "", ends=False)


CAMERA_BENCHES = {
    "drive": drive_bench,
    "video": video_bench,
    "zeromq": zeromq_bench,
    "rtsp": rtsp_bench,
    "rtsp_jpeg": rtsp_jpeg_bench,
    "v4l2": v4l2_bench,
}

#: Sources may take this long to deliver what the test waits for; none does unless the machine is overloaded.
PATIENCE_NS = 20 * NANOSECONDS_PER_SECOND
