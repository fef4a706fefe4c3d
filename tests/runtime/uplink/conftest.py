"""Keys, a receiver and a vehicle's socket on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from live_receiver import VEHICLE, RunningReceiver

from runtime.uplink.keys import KeyPair, ensure_local_pair, load_keys
from runtime.uplink.sockets import vehicle_socket


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
