"""Real processes: the recorder answers the runtime's firings, and a killed runtime goes on counting where it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_processes import Daemon

from runtime.cli import main

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def vehicle(tmp_path: Path, tiny_drive: Path, tiny_rules: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "daemon", {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}})
    command = daemon.start()
    yield daemon
    command.end()


def is_answered(status: dict[str, Any], times: int) -> bool:
    """Every firing of that many plays of the drive was taken home, and the runtime knows."""
    counts = [status.get("ledger", {}).get(rule, {}) for rule in ("driver_takeover", "gas_pressed")]
    return counts == [{"kept": times}] * 2 and status["selection"]["firings_in_flight"] == 0


def test_firings_are_answered_and_counting_goes_on_after_a_kill(
    vehicle: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    status = vehicle.wait_for("runtime", lambda status: is_answered(status, 1), "answers to the first firings")
    assert status["selection"]["answers"] == 2
    assert status["selection"]["bytes_per_s"] > 0
    os.kill(status["pid"], signal.SIGKILL)
    again = vehicle.wait_for("runtime", lambda status: is_answered(status, 2), "the drive's second play")
    assert again["pid"] != status["pid"]
    assert again["selection"]["unknown_answers"] == 0
    assert sorted(firing["sequence"] for firing in again["firings"]) == [2, 3]
    assert main(["triggers", "ledger", "--config", str(vehicle.config_path)]) == 0
    assert "driver_takeover" in capsys.readouterr().out
