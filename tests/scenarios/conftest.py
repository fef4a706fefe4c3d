"""Fixtures of the scenarios: daemons and receivers that end with their test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_processes import Command, Daemon, wait_for

from runtime.uplink.keys import ensure_local_pair


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons (not started), and ends them after the test."""
    made: list[Daemon] = []

    def make(name: str = "daemon", **config: Any) -> Daemon:
        made.append(Daemon(tmp_path / name, config))
        return made[-1]

    yield make
    for one in made:
        if one.command is not None:
            one.command.end()


@dataclass(frozen=True)
class Receiver:
    """A running `shadowrig receive` that knows the vehicle of `Daemon`."""

    config: Path
    address: str
    directory: Path
    vehicle_keys: Path

    @property
    def clips(self) -> list[Path]:
        """What has arrived, in the order in which it was sealed."""
        return sorted((self.directory / "clips").rglob("*.mcap"))


@pytest.fixture
def start_receiver(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Starts a receiver and waits until it listens; more of its configuration as arguments."""
    started: list[Command] = []

    def start(**more: Any) -> Receiver:
        keys, directory = tmp_path / "keys", tmp_path / "received"
        keys.mkdir(mode=0o700)
        ensure_local_pair(keys, "tiny-car")
        config = {"bind": "tcp://127.0.0.1:*", "directory": str(directory), "keys": str(keys / "receiver"), **more}
        path = tmp_path / "receiver.yaml"
        path.write_text(yaml.safe_dump(config))
        command = Command(tmp_path / "receiver.log", "receive", "--config", str(path))
        started.append(command)
        found = wait_for(lambda: re.search(r"listening at (tcp://\S+)", command.output), "the receiver's start")
        return Receiver(path, found.group(1), directory, keys / "vehicle")

    yield start
    for command in started:
        command.end()
