"""The bench: plays a drive at an unmodified, running daemon from outside, in real time, and measures it.

Cameras and signals go out over one ZeroMQ PUB socket (`runtime.formats.zeromq_wire`), each packet at its capture
time on this machine's monotonic clock. The daemon subscribes to it with `kind: zeromq` sources. With
`health: {telemetry: ADDRESS}` in its configuration the daemon says after every tick which frames it saw, and the bench
takes the time: capture→result is from a frameset's capture to the arrival of its result here, everything included.
Bench and daemon share one clock, so they run on one machine.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zmq

from runtime.clock import Clock, SystemClock
from runtime.drives import Drive, DriveEpoch, DriveVideoError, open_drive
from runtime.formats.bitstream import StreamInfo
from runtime.formats.zeromq_wire import encode_camera, encode_signals
from runtime.health.histogram import LatencyHistogram
from runtime.health.telemetry import TOPIC, TelemetryError, TickResult, decode_tick
from runtime.messages import NANOSECONDS_PER_SECOND, Packet, SignalSample

LEAD_IN_NS = NANOSECONDS_PER_SECOND
#: Results of the last frames are waited for so long after the drive's end.
SETTLE_NS = NANOSECONDS_PER_SECOND
#: Frames that the bench remembers while their results are outstanding.
MAX_OUTSTANDING = 100_000
PRUNE_ABOVE = 5_000
OUTSTANDING_NS = 5 * NANOSECONDS_PER_SECOND
SEND_QUEUE_MESSAGES = 4096


class HilError(RuntimeError):
    """The bench cannot play: a bad address, or nobody is listening."""


@dataclass(slots=True)
class HilResult:
    """What the bench saw."""

    drive: str
    seconds: float
    frames_sent: Counter[str] = field(default_factory=Counter)
    frames_seen: Counter[str] = field(default_factory=Counter)
    samples_sent: int = 0
    results: int = 0
    malformed_results: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    firings: Counter[str] = field(default_factory=Counter)
    camera_errors: dict[str, str] = field(default_factory=dict)
    listened: bool = True  # False: no results address was given, so nothing is known of what the daemon saw

    def to_json(self) -> dict[str, Any]:
        """`{"drive","seconds","frames":{camera:{"sent","seen","lost"}},"latency_ms",...}`; "sent" alone if unheard."""
        frames = {camera: self._counts(camera) for camera in self.frames_sent}
        return {
            "drive": self.drive,
            "seconds": round(self.seconds, 3),
            "frames": frames,
            "samples_sent": self.samples_sent,
            "results": self.results,
            "malformed_results": self.malformed_results,
            "latency_ms": self.latency.to_dict(),
            "firings": dict(self.firings),
            "camera_errors": dict(self.camera_errors),
        }

    def _counts(self, camera: str) -> dict[str, int]:
        sent, seen = self.frames_sent[camera], self.frames_seen[camera]
        return {"sent": sent, "seen": seen, "lost": sent - seen} if self.listened else {"sent": sent}


def play_hil(
    drive_path: Path, to_address: str, results_address: str | None, seconds: float | None, stop: threading.Event,
    wait_s: float = 30.0,
) -> HilResult:  # fmt: skip
    """Play a drive (or its first `seconds`) at whoever subscribes to `to_address`.

    Raises:
        DocumentError: the drive is bad.
        HilError: an address cannot be used, or no camera of the drive was subscribed to within `wait_s`.
    """
    bench = _Bench(open_drive(drive_path), SystemClock(), to_address, results_address)
    try:
        bench.wait_for_subscribers(wait_s, stop)
        return bench.play(seconds, stop)
    finally:
        bench.close()


class _Bench:
    """Sockets and bookkeeping of one run. Sends on the calling thread, listens on its own."""

    def __init__(self, drive: Drive, clock: Clock, to_address: str, results_address: str | None) -> None:
        self._drive = drive
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._out = self._socket(zmq.XPUB, to_address, bind=True)
        self._results = None if results_address is None else self._socket(zmq.SUB, results_address, bind=False)
        self._listener = threading.Thread(target=self._listen, name="bench-results", daemon=True)
        self._over = threading.Event()
        self._outstanding: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._streams: dict[str, StreamInfo] = {}
        self.result = HilResult(drive.name, 0.0, listened=results_address is not None)

    def _socket(self, kind: int, address: str, *, bind: bool) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, SEND_QUEUE_MESSAGES)  # takes effect only before bind
        try:
            if bind:
                socket.bind(address)
            else:
                socket.setsockopt(zmq.SUBSCRIBE, TOPIC)
                socket.connect(address)
        except zmq.ZMQError as error:
            socket.close()
            raise HilError(f"address {address!r} cannot be used: {error} (write tcp://127.0.0.1:PORT)") from error
        return socket

    def wait_for_subscribers(self, wait_s: float, stop: threading.Event) -> None:
        """Until every camera of the drive (or the signals, where it has none) has a subscriber."""
        wanted = {f"camera/{camera}/".encode() for camera in self._drive.cameras} or {b"signals/"}
        deadline_ns = self._clock.now_ns() + round(wait_s * NANOSECONDS_PER_SECOND)
        while wanted:
            if stop.is_set():
                raise HilError("interrupted while waiting for subscribers")
            if self._clock.now_ns() > deadline_ns:
                missing = ", ".join(sorted(topic.decode() for topic in wanted))
                raise HilError(f"nobody subscribed to {missing} within {wait_s:g} s: does the daemon use this address?")
            if self._out.poll(100):
                event = self._out.recv()
                if event[:1] == b"\x01":
                    wanted = {topic for topic in wanted if not topic.startswith(event[1:])}

    def play(self, seconds: float | None, stop: threading.Event) -> HilResult:
        """Send everything at its time; returns what the daemon made of it."""
        self._listener.start()
        epoch = DriveEpoch(self._drive.start_ns, self._clock.now_ns() + LEAD_IN_NS)
        end_ns = self._drive.end_ns
        if seconds is not None:
            end_ns = min(end_ns, self._drive.start_ns + round(seconds * NANOSECONDS_PER_SECOND))
        for item in self._timeline():
            if item.time_ns > end_ns:
                break
            if not self._clock.wait_until(epoch.to_live(item.time_ns), stop):
                end_ns = item.time_ns  # interrupted: only so much was played
                break
            self._send(item, epoch)
        stop.wait(SETTLE_NS / NANOSECONDS_PER_SECOND)
        self._over.set()
        self._listener.join(5.0)
        self.result.seconds = (end_ns - self._drive.start_ns) / NANOSECONDS_PER_SECOND
        return self.result

    def _timeline(self) -> Iterator[Packet | SignalSample]:
        packets = [self._packets(name) for name in self._drive.cameras]
        return heapq.merge(*packets, self._drive.signal_samples(), key=lambda item: item.time_ns)

    def _packets(self, name: str) -> Iterator[Packet]:
        """A camera's packets; one that is damaged ends here and is named in the result."""
        camera = self._drive.cameras[name]
        try:
            self._streams[name] = camera.stream()
            yield from camera.packets()
        except DriveVideoError as error:
            self.result.camera_errors[name] = str(error)

    def _send(self, item: Packet | SignalSample, epoch: DriveEpoch) -> None:
        live_ns = epoch.to_live(item.time_ns)
        if isinstance(item, SignalSample):
            self.result.samples_sent += 1
            self._out.send_multipart(encode_signals([replace(item, time_ns=live_ns)], self.result.samples_sent))
            return
        wall_ns = self._clock.wall_ns() - self._clock.now_ns() + live_ns
        self.result.frames_sent[item.camera] += 1
        with self._lock:
            if len(self._outstanding) < MAX_OUTSTANDING:
                self._outstanding.add((item.camera, live_ns))
        packet = replace(item, time_ns=live_ns, wall_ns=wall_ns)
        self._out.send_multipart(encode_camera(packet, self._streams[item.camera]))

    def _listen(self) -> None:
        while self._results is not None and not self._over.is_set():
            if self._results.poll(100):
                now_ns = self._clock.now_ns()
                try:
                    self._take(decode_tick(self._results.recv_multipart()), now_ns)
                except TelemetryError:
                    self.result.malformed_results += 1

    def _take(self, tick: TickResult, now_ns: int) -> None:
        with self._lock:
            ours = {(camera, time_ns) for camera, time_ns in tick.frames.items()} & self._outstanding
            self._outstanding -= ours
            if len(self._outstanding) > PRUNE_ABOVE:  # what has not come back by now is lost
                oldest_ns = tick.time_ns - OUTSTANDING_NS
                self._outstanding = {frame for frame in self._outstanding if frame[1] >= oldest_ns}
        self.result.firings.update(tick.firings)
        if not ours:
            return
        self.result.results += 1
        self.result.frames_seen.update(camera for camera, _ in ours)
        self.result.latency.record_ns(max(0, now_ns - tick.time_ns))

    def close(self) -> None:
        """Close the sockets, after the listener has left them."""
        self._over.set()
        if self._listener.ident is not None:
            self._listener.join(5.0)
        self._context.destroy(linger=0)
