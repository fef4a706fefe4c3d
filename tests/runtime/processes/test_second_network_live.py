"""A second candidate in the live runtime: it runs beside the first, or is refused at the start with figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from live_processes import Daemon
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS

from runtime.recording.layout import HistoryLayout
from runtime.recording.sessions import list_sessions


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", len(CAMERAS))


def _status_of(daemon: Daemon) -> dict[str, Any]:
    """Once some framesets have been looked at; the runtime is stopped then, and must leave cleanly."""
    command = daemon.start("runtime")
    try:
        status = daemon.wait_for("runtime", lambda status: status["framesets"] > 5, "the first framesets")
        assert command.stop() == 0
    finally:
        command.end()
    return status


def test_two_networks_run_and_the_session_names_both(
    tmp_path: Path, tiny_drive: Path, tiny_rules: Path, bundle: Path
) -> None:
    models = {"model": {"bundle": str(bundle)}, "second_model": {"bundle": str(bundle)}}
    daemon = Daemon(tmp_path / "car", {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}, **models})
    status = _status_of(daemon)
    assert status["second_model"]["name"] == "tiny"
    assert status["second_model"]["runs"] + status["second_model"]["skipped"] > 3
    assert "second" in status["stages_ms"]
    (session,) = list_sessions(HistoryLayout(daemon.folder / "history"))
    assert session.record.provenance.second_model is not None
    assert session.record.provenance.second_model.name == "tiny"


def test_a_second_network_that_does_not_fit_is_refused_and_the_first_goes_on(
    tmp_path: Path, tiny_drive: Path, tiny_rules: Path, bundle: Path
) -> None:
    """Within 85 % of 4 ms no processor runs hydra_mini."""
    models = {"model": {"bundle": str(bundle)}, "second_model": {"bundle": "hydra_mini"}, "tick": {"rate_hz": 240}}
    daemon = Daemon(tmp_path / "car", {"drive": str(tiny_drive), "rules": {"files": [str(tiny_rules)]}, **models})
    status = _status_of(daemon)
    assert "hydra_mini" in status["second_model"]["refused"]
    assert "lower tick.rate_hz" in status["second_model"]["refused"]
    assert status["model"]["name"] == "tiny"
    assert "second" not in status["stages_ms"]
