"""Fixtures of the scenarios: daemons and receivers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_processes import Daemon


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
