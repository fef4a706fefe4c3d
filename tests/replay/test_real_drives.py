"""The rule library on recordings of real cars: every takeover is found, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.report import ReplayResult
from replay.session import ReplayRequest, replay_drive
from runtime.drives import open_drive

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def model3_night(real_material: Path) -> ReplayResult:
    return replay_drive(ReplayRequest(real_material / "drives" / "model3_night", model=None))


@pytest.fixture(scope="module")
def rav4_highway(real_material: Path) -> ReplayResult:
    return replay_drive(ReplayRequest(real_material / "drives" / "rav4_highway", model=None))


def firings_of(result: ReplayResult, rule: str) -> list[tuple[float, object]]:
    return [
        (result.elapsed_s(firing), firing.operands.get("cause")) for firing in result.firings if firing.rule == rule
    ]


def test_both_takeovers_are_found_within_half_a_second_with_their_causes(
    model3_night: ReplayResult, real_material: Path
) -> None:
    drive = open_drive(real_material / "drives" / "model3_night")
    assert drive.truth is not None
    truth_s = [(event.time_ns - drive.start_ns) / 1e9 for event in drive.truth if event.event == "driver_takeover"]
    takeovers = firings_of(model3_night, "driver_takeover")
    assert [at_s for at_s, _ in takeovers] == pytest.approx(truth_s, abs=0.5)
    assert [cause for _, cause in takeovers] == ["brake", "cancel"]


def test_engaging_with_the_foot_on_the_gas_is_no_override(model3_night: ReplayResult) -> None:
    assert firings_of(model3_night, "driver_override") == []
    assert model3_night.to_json()["truth"]["false"] == 0


def test_healthy_cameras_are_not_called_faulty(model3_night: ReplayResult) -> None:
    assert firings_of(model3_night, "camera_fault") == []
    assert model3_night.camera_faults == {}


def test_lookalike_brake_signal_is_no_takeover(rav4_highway: ReplayResult) -> None:
    assert firings_of(rav4_highway, "driver_takeover") == []
    assert rav4_highway.to_json()["cameras"] == []
    assert rav4_highway.latency_ms["count"] == pytest.approx(rav4_highway.duration_s * 20, abs=2)


def test_replaying_a_real_drive_twice_finds_the_same(rav4_highway: ReplayResult, real_material: Path) -> None:
    again = replay_drive(ReplayRequest(real_material / "drives" / "rav4_highway", model=None))
    assert again.to_json()["firings"] == rav4_highway.to_json()["firings"]
