"""A vehicle of the tiny drive, and commands that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_processes import Command, Daemon


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    """Commands that end with the test."""
    started: list[Command] = []
    yield started
    for command in started:
        command.end()


@pytest.fixture
def vehicle(tmp_path: Path, tiny_drive: Path, tiny_rules: Path) -> Daemon:
    return Daemon(tmp_path / "daemon", {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}})
