"""Keys, a receiver and a vehicle's socket on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from clip_steps import CONTENT, DIGEST, NOW_NS
from live_receiver import VEHICLE, RunningReceiver

from runtime.uplink.keys import KeyPair, ensure_local_pair, load_keys
from runtime.uplink.reception import Reception
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.store import ClipStore, StoreLimits
from runtime.uplink.wire import Offer, encode


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return ensure_local_pair(tmp_path / "keys", VEHICLE)


@pytest.fixture
def receiver(tmp_path: Path, keys):
    running = RunningReceiver(tmp_path / "receiver", keys[1])
    yield running
    running.end()


@pytest.fixture
def context():
    with zmq.Context() as created:
        yield created
        created.destroy(linger=0)


@pytest.fixture
def own(keys) -> KeyPair:
    return load_keys(keys[0], "vehicle")


@pytest.fixture
def vehicle(context, receiver, own):
    """An enrolled vehicle that says what it likes."""
    socket = vehicle_socket(context, own, receiver.own.public)
    socket.connect(receiver.address)
    return socket


@pytest.fixture
def store(tmp_path: Path):
    created = ClipStore(tmp_path, StoreLimits())
    yield created
    created.close()


@pytest.fixture
def reception(store):
    created = Reception(store, 1 << 20)
    created.handle("car-1", [encode(Offer(1, DIGEST, len(CONTENT), "normal")), b"{}"], NOW_NS)
    return created
