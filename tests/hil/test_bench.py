"""The bench against a real daemon: it plays a drive at it from outside and hears what became of every frame."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from live_processes import Daemon
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, FIRINGS, write_tiny_drive

from replay.hil import HilError, play_hil
from runtime.formats.documents import DocumentError
from runtime.health.telemetry import TOPIC

pytestmark = pytest.mark.timeout(180)

#: A camera's first frames may go out before the daemon's socket for it is there.
FIRST_FRAMES = 3


def daemon_on_the_bench(folder: Path, rules: Path, to_address: str, results: str, **more: object) -> Daemon:
    """A daemon whose every source is the bench."""
    source = {"kind": "zeromq", "address": to_address}
    config = {
        "cameras": {name: {"source": source, "rate_hz": rate_hz} for name, (rate_hz, _) in CAMERAS.items()},
        "signals": {"sources": [source]},
        "rules": {"files": [str(rules)]},
        "health": {"status_interval_s": 0.1, "telemetry": results},
        **more,
    }
    return Daemon(folder, config)


@pytest.fixture
def addresses(tmp_path: Path) -> tuple[str, str]:
    """Where the bench publishes, and where the daemon does."""
    return f"ipc://{tmp_path}/bench", f"ipc://{tmp_path}/results"


@pytest.fixture
def daemon(tmp_path: Path, tiny_rules: Path, addresses: tuple[str, str]) -> Iterator[Daemon]:
    """A running daemon on the bench, with a small network."""
    bundle = write_tiny_bundle(tmp_path / "bundle", len(CAMERAS))
    one = daemon_on_the_bench(tmp_path / "daemon", tiny_rules, *addresses, model={"bundle": str(bundle)})
    command = one.start("runtime")
    try:
        one.wait_for("runtime", lambda status: status["ticks"] > 0, "the first tick")
        yield one
    finally:
        command.end()


def test_every_frame_that_is_sent_is_seen_in_a_tick(
    daemon: Daemon, tiny_drive: Path, addresses: tuple[str, str]
) -> None:
    result = play_hil(tiny_drive, *addresses, None, threading.Event(), wait_s=60)
    facts = result.to_json()
    assert {camera: counts["sent"] for camera, counts in facts["frames"].items()} == {
        camera: 6 * rate_hz for camera, (rate_hz, _) in CAMERAS.items()
    }
    status = daemon.wait_for("runtime", lambda status: status["firing_count"] == len(FIRINGS), "both firings")
    skipped = status["framesets_dropped"]
    for camera, counts in facts["frames"].items():
        # On a machine that is too busy the daemon itself says which frames missed their tick.
        assert 0 <= counts["lost"] <= FIRST_FRAMES + status["cameras"][camera]["late"] + skipped, (camera, facts)
    assert facts["malformed_results"] == 0
    assert facts["camera_errors"] == {}
    assert facts["latency_ms"]["count"] == facts["results"] >= 120 - FIRST_FRAMES - skipped
    assert facts["latency_ms"]["p50"] > 0
    assert facts["firings"] == {rule: 1 for rule, _ in FIRINGS}
    assert facts["samples_sent"] > 1000
    assert status["cameras"]["front"]["decode_errors"] == 0


def test_only_the_asked_seconds_are_played_and_damage_costs_one_camera(
    daemon: Daemon, tiny_drive: Path, addresses: tuple[str, str], tmp_path: Path
) -> None:
    for path in tiny_drive.iterdir():
        if path.name != "rear.mp4":
            (tmp_path / "drive").mkdir(exist_ok=True)
            (tmp_path / "drive" / path.name).symlink_to(path)
    result = play_hil(tmp_path / "drive", *addresses, 1.0, threading.Event(), wait_s=60)
    assert result.seconds == pytest.approx(1.0)
    assert result.frames_sent["front"] == pytest.approx(20, abs=1)
    assert result.frames_sent["rear"] == 0
    assert set(result.camera_errors) == {"rear"}
    assert result.frames_seen["front"] > 0


def test_nobody_listening_is_an_error_that_names_the_topics(tiny_drive: Path, addresses: tuple[str, str]) -> None:
    with pytest.raises(HilError, match=r"camera/front/, camera/rear/, camera/side/ within 0\.2 s"):
        play_hil(tiny_drive, *addresses, None, threading.Event(), wait_s=0.2)


def test_drive_without_cameras_waits_for_its_signals(tmp_path: Path, addresses: tuple[str, str]) -> None:
    drive = write_tiny_drive(tmp_path / "signals", with_cameras=False)
    with pytest.raises(HilError, match="signals/"):
        play_hil(drive, *addresses, None, threading.Event(), wait_s=0.2)


def test_interrupt_ends_the_wait(tiny_drive: Path, addresses: tuple[str, str]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(HilError, match="interrupted"):
        play_hil(tiny_drive, *addresses, None, stop, wait_s=60)


@pytest.mark.parametrize("address", ["tcp://nowhere", "127.0.0.1:5570", "tcp://127.0.0.1:notaport"])
def test_bad_address_is_refused_by_name(tiny_drive: Path, address: str) -> None:
    with pytest.raises(HilError, match=address):
        play_hil(tiny_drive, address, None, None, threading.Event())


def test_address_in_use_is_refused(tiny_drive: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as taken:
        port = taken.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(HilError, match=str(port)):
            play_hil(tiny_drive, f"tcp://127.0.0.1:{port}", None, None, threading.Event())


def test_bad_drive_is_told_before_a_socket_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        play_hil(tmp_path, "tcp://nowhere", None, None, threading.Event())


def test_malformed_results_are_counted_and_change_nothing(tiny_drive: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as results, context.socket(zmq.SUB) as camera:
        results_port = results.bind_to_random_port("tcp://127.0.0.1")
        to_address = f"tcp://127.0.0.1:{free_port(context)}"
        for topic in CAMERAS:
            camera.setsockopt(zmq.SUBSCRIBE, f"camera/{topic}/".encode())
        camera.connect(to_address)
        stop = threading.Event()
        garbage = threading.Thread(target=send_garbage, args=(results, camera, stop))
        garbage.start()
        try:
            result = play_hil(
                tiny_drive, to_address, f"tcp://127.0.0.1:{results_port}", 0.5, threading.Event(), wait_s=30
            )
        finally:
            stop.set()
            garbage.join()
    assert result.malformed_results >= 3
    assert result.results == 0
    assert sum(result.frames_seen.values()) == 0
    assert sum(result.frames_sent.values()) > 0


def send_garbage(results: zmq.Socket[bytes], camera: zmq.Socket[bytes], stop: threading.Event) -> None:
    """Three kinds of message that are no telemetry, for every frame that comes."""
    while not stop.is_set():
        if camera.poll(50):
            camera.recv_multipart()
            results.send_multipart([TOPIC])
            results.send_multipart([TOPIC, b"\xc1 not MessagePack"])
            results.send_multipart([TOPIC, b"\x81\xa1v\x63"])


def free_port(context: zmq.Context[zmq.Socket[bytes]]) -> int:
    with context.socket(zmq.PUB) as probe:
        return int(probe.bind_to_random_port("tcp://127.0.0.1"))
