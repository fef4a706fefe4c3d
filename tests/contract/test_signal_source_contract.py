"""What every signal source promises: typed samples of this clock, a clean stop, and no harm from what it receives."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import can
import msgpack
import pytest
import zmq

from runtime.clock import SystemClock
from runtime.drives import DriveEpoch, open_drive
from runtime.formats.documents import DocumentError
from runtime.formats.zeromq_wire import encode_signals
from runtime.messages import SignalSample
from runtime.signals.can_bus import CanBusSource
from runtime.signals.recorded import RecordedSignalSource
from runtime.signals.sources import SignalSource
from runtime.signals.zeromq import ZeromqSignalSource

CLOCK = SystemClock()
DBC = """\
VERSION ""
BO_ 180 SPEED: 8 XXX
 SG_ SPEED : 47|16@0+ (0.01,0) [0|250] "km/h" XXX
BO_ 548 BRAKE_MODULE: 8 XXX
 SG_ BRAKE_PRESSED : 5|1@0+ (1,0) [0|1] "" XXX
"""


@dataclass(frozen=True)
class Place:
    message: str
    signal: str
    bus: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    invert: bool = False


@dataclass(frozen=True)
class Bench:
    """A source, and a function that makes its counterpart deliver speed 20 m/s and a pressed brake, again and again."""

    source: SignalSource
    send: Callable[[], None]
    send_garbage: Callable[[], None] | None = None


@contextmanager
def recorded_bench(folder: Path) -> Iterator[Bench]:
    rows = "".join(f"{1000 + index * 10_000_000},20.0,1\n" for index in range(300))
    (folder / "vehicle.csv").write_text("mono_ns,speed_mps,brake_pressed\n" + rows)
    (folder / "drive.yaml").write_text("name: d\nsignals: {vehicle: vehicle.csv}\n")
    drive = open_drive(folder)
    epoch = DriveEpoch(drive.start_ns, CLOCK.now_ns())
    yield Bench(RecordedSignalSource(drive, CLOCK, epoch), lambda: None)


@contextmanager
def can_bench(folder: Path) -> Iterator[Bench]:
    (folder / "car.dbc").write_text(DBC)
    places = {
        "vehicle.speed_mps": Place("SPEED", "SPEED", scale=0.2777777778),
        "vehicle.brake_pressed": Place("BRAKE_MODULE", "BRAKE_PRESSED"),
    }
    with can.Bus(interface="virtual", channel=folder.name) as sender:

        def send() -> None:
            sender.send(
                can.Message(arbitration_id=180, data=bytes([0, 0, 0, 0, 0, 0x1C, 0x20, 0]), is_extended_id=False)
            )
            sender.send(can.Message(arbitration_id=548, data=bytes([0x20, 0, 0, 0, 0, 0, 0, 0]), is_extended_id=False))

        def send_garbage() -> None:
            sender.send(can.Message(arbitration_id=180, data=b"\x01", is_extended_id=False))
            sender.send(can.Message(arbitration_id=77, data=b"\x01", is_extended_id=False))
            sender.send(can.Message(arbitration_id=180, is_remote_frame=True, is_extended_id=False))

        source = CanBusSource("virtual", folder.name, folder / "car.dbc", places, CLOCK)
        yield Bench(source, send, send_garbage)


@contextmanager
def zeromq_bench(folder: Path) -> Iterator[Bench]:
    socket = zmq.Context.instance().socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def send() -> None:
        now_ns = CLOCK.now_ns()
        samples = [
            SignalSample("vehicle.speed_mps", now_ns, 20.0),
            SignalSample("vehicle.brake_pressed", now_ns, True),
        ]
        socket.send_multipart(encode_signals(samples, 0))

    def send_garbage() -> None:
        far = [{"name": "vehicle.speed_mps", "time_ns": CLOCK.now_ns() + 10**12, "value": 1.0}]
        socket.send_multipart([b"signals/", b"\xc1"])
        socket.send_multipart([b"signals/"])
        socket.send_multipart([b"signals/", msgpack.packb({"version": 1, "samples": far})])

    yield Bench(ZeromqSignalSource(f"tcp://127.0.0.1:{port}", CLOCK), send, send_garbage)
    socket.close(linger=0)


BENCHES = {"recorded": recorded_bench, "can": can_bench, "zeromq": zeromq_bench}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with BENCHES[request.param](tmp_path) as made:
        yield made
        made.source.stop()


def send_until(condition: Callable[[], bool], act: Callable[[], None]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        act()
        time.sleep(0.01)
        assert time.monotonic() < give_up, "nothing came"


def test_samples_are_named_typed_and_of_this_clock(bench: Bench) -> None:
    received: list[SignalSample] = []
    before_ns = CLOCK.now_ns() - 1_000_000_000
    bench.source.start(received.append)
    send_until(
        lambda: {sample.name for sample in received} >= {"vehicle.speed_mps", "vehicle.brake_pressed"}, bench.send
    )
    values = {sample.name: sample.value for sample in received}
    assert values == {"vehicle.speed_mps": pytest.approx(20.0), "vehicle.brake_pressed": True}
    assert isinstance(values["vehicle.brake_pressed"], bool)
    assert all(before_ns <= sample.time_ns <= CLOCK.now_ns() for sample in received)


def test_times_of_one_signal_never_go_back(bench: Bench) -> None:
    received: list[SignalSample] = []
    bench.source.start(received.append)
    send_until(lambda: len(received) >= 20, bench.send)
    for name in ("vehicle.speed_mps", "vehicle.brake_pressed"):
        times = [sample.time_ns for sample in received if sample.name == name]
        assert times == sorted(times)


def test_after_stop_nothing_more_is_delivered(bench: Bench) -> None:
    received: list[SignalSample] = []
    bench.source.start(received.append)
    send_until(lambda: bool(received), bench.send)
    bench.source.stop()
    count = len(received)
    bench.send()
    time.sleep(0.05)
    assert len(received) == count
    assert bench.source.status().state in ("stopped", "ended")
    assert bench.source.status().samples == count


def test_stopping_a_source_that_never_ran_or_twice_is_harmless(bench: Bench) -> None:
    bench.source.stop()
    bench.source.stop()


def test_a_source_starts_once(bench: Bench) -> None:
    bench.source.start(lambda sample: None)
    with pytest.raises(RuntimeError, match="started before"):
        bench.source.start(lambda sample: None)


def test_garbage_is_counted_and_what_is_sound_still_comes(bench: Bench) -> None:
    if bench.send_garbage is None:
        pytest.skip("a recording is checked when it is opened")
    received: list[SignalSample] = []
    bench.source.start(received.append)
    send_until(lambda: bool(received), bench.send)
    send_until(lambda: bench.source.status().malformed > 0, bench.send_garbage)
    count = len(received)
    send_until(lambda: len(received) > count, bench.send)
    assert all(sample.value in (pytest.approx(20.0), True) for sample in received)


def test_a_consumer_that_raises_does_not_end_the_process(bench: Bench) -> None:
    raised = threading.Event()

    def offer(sample: SignalSample) -> None:
        raised.set()
        raise ZeroDivisionError("a bug in the consumer")

    bench.source.start(offer)
    send_until(raised.is_set, bench.send)
    send_until(lambda: bench.source.status().state == "failed", lambda: None)
    assert "ZeroDivisionError" in bench.source.status().error


def test_a_bus_that_is_not_there_is_tried_again_and_told(tmp_path: Path) -> None:
    (tmp_path / "car.dbc").write_text(DBC)
    places = {"vehicle.speed_mps": Place("SPEED", "SPEED")}
    source = CanBusSource("socketcan", "nocan99", tmp_path / "car.dbc", places, CLOCK)
    source.start(lambda sample: None)
    send_until(lambda: source.status().reconnects >= 1, lambda: None)
    assert "socketcan:nocan99" in source.status().error
    source.stop()


def test_wrong_mappings_are_all_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "car.dbc").write_text(DBC)
    places = {
        "vehicle.speed_mps": Place("SPED", "SPEED"),
        "vehicle.brake_pressed": Place("BRAKE_MODULE", "BRAKE"),
    }
    with pytest.raises(DocumentError) as caught:
        CanBusSource("virtual", "x", tmp_path / "car.dbc", places, CLOCK)
    fixes = " ".join(sorted(problem.fix for problem in caught.value.problems))
    assert len(caught.value.problems) == 2
    assert "BRAKE_PRESSED" in fixes
    assert "SPEED" in fixes
