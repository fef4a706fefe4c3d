"""The simulated drive: every planted event really happens, and signals tell it as a car's bus would."""

from __future__ import annotations

import itertools

import pytest

from replay.synthetic.recording import PlantedEvent, Recording
from replay.synthetic.simulation import simulate

PLANTED = {
    "engage",
    "driver_takeover",
    "driver_override",
    "cut_in",
    "parked_car",
    "shadow_accel_disagreement",
    "shadow_steering_disagreement",
    "detection_flicker",
    "camera_fault",
    "unforeseen_hard_braking",
}


@pytest.fixture(scope="module", params=[4, 7])
def drive(request: pytest.FixtureRequest) -> Recording:
    return simulate(request.param, 62.0, 20.0, "clear")


def events(drive: Recording, name: str) -> list[PlantedEvent]:
    return [event for event in drive.events if event.event == name]


def series(drive: Recording, namespace: str, column: str) -> list[tuple[float, object]]:
    return [(row.time_s, row.values[column]) for row in drive.signals if row.namespace == namespace]


def during(event: PlantedEvent, values: list[tuple[float, object]]) -> list[object]:
    end_s = event.time_s if event.until_s is None else event.until_s
    return [value for time_s, value in values if event.time_s <= time_s < end_s]


def test_every_kind_of_event_is_planted(drive):
    assert {event.event for event in drive.events} == PLANTED
    takeovers = events(drive, "driver_takeover")
    assert len(takeovers) == 2
    assert len({event.detail for event in takeovers}) == 2
    planted = [event for event in drive.events if event.event != "engage"]
    assert all(11.0 < event.time_s < 56.0 for event in planted)


def test_takeovers_are_exactly_the_moments_at_which_the_controller_stops_being_enabled(drive):
    enabled = series(drive, "controller", "enabled")
    falls = [later[0] for earlier, later in itertools.pairwise(enabled) if earlier[1] and not later[1]]
    planted = [event.time_s for event in events(drive, "driver_takeover")]
    assert falls == pytest.approx(planted, abs=0.03)


def test_overrides_leave_the_controller_engaged(drive):
    (override,) = events(drive, "driver_override")
    assert all(during(override, series(drive, "controller", "enabled")))
    assert all(during(override, series(drive, "vehicle", "gas_pressed")))
    gas = series(drive, "vehicle", "gas_pressed")
    assert sum(bool(value) for _, value in gas) == len(during(override, gas))


def test_the_phantom_brake_has_no_reason(drive):
    (phantom,) = events(drive, "shadow_accel_disagreement")
    assert set(during(phantom, series(drive, "controller", "accel_command_mps2"))) == {-3.0}
    frames = [frame for frame in drive.frames if phantom.time_s <= frame.time_s < (phantom.until_s or 0)]
    assert min(frame.accel_target_mps2 for frame in frames) > -0.5
    assert all(frame.lead_gap_m is None or frame.lead_gap_m > 40.0 for frame in frames)


def test_the_drift_differs_from_what_a_sound_controller_would_steer(drive):
    (drift,) = events(drive, "shadow_steering_disagreement")
    commands = during(drift, series(drive, "controller", "curvature_command_1pm"))
    targets = [f.curvature_target_1pm for f in drive.frames if drift.time_s <= f.time_s < (drift.until_s or 0)]
    assert abs(sum(map(float, commands)) / len(commands) - sum(targets) / len(targets)) > 0.006  # type: ignore[arg-type]


def test_the_driver_brakes_hard_on_an_empty_road_with_the_controller_off(drive):
    (braking,) = events(drive, "unforeseen_hard_braking")
    assert min(map(float, during(braking, series(drive, "vehicle", "accel_mps2")))) < -5.0  # type: ignore[arg-type]
    assert not any(during(braking, series(drive, "controller", "enabled")))
    frame = min(drive.frames, key=lambda f: abs(f.time_s - braking.time_s))
    assert frame.accel_target_mps2 > 0.3


def test_somebody_is_suddenly_close_after_the_cut_in(drive):
    (cut_in,) = events(drive, "cut_in")
    gap = {round(frame.time_s, 2): frame.lead_gap_m for frame in drive.frames}
    before, after = gap[round(cut_in.time_s * 20) / 20], gap[round(cut_in.time_s * 20) / 20 + 2.0]
    assert after is not None
    assert after < 25.0
    assert before is None or before > after + 5.0


def test_the_car_keeps_its_lane_and_hits_nobody(drive):
    assert max(abs(frame.ego_d_m) for frame in drive.frames) < 1.0
    assert min(frame.lead_gap_m for frame in drive.frames if frame.lead_gap_m is not None) > 2.0


def test_the_car_stops_at_the_red_light_and_goes_on(drive):
    stops = [frame for frame in drive.frames if frame.ego_speed_mps < 0.5 and frame.held_signals]
    assert stops
    assert {state for frame in drive.frames for _, state in frame.held_signals} == {"yellow", "red"}
    assert drive.frames[-1].ego_speed_mps > 3.0


def test_the_same_seed_gives_the_same_drive():
    first, again = simulate(9, 15.0, 20.0, "clear"), simulate(9, 15.0, 20.0, "clear")
    assert first == again
    assert simulate(10, 15.0, 20.0, "clear").frames != first.frames


@pytest.mark.parametrize("duration_s", [15.0, 16.0, 18.0, 20.0, 30.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_short_drives_have_a_takeover_too(duration_s, seed):
    drive = simulate(seed, duration_s, 20.0, "clear")
    assert len(events(drive, "driver_takeover")) >= 1
    assert all((event.until_s or event.time_s) <= duration_s for event in drive.events)


def test_long_drives_repeat_the_script_with_other_causes():
    drive = simulate(3, 170.0, 10.0, "clear")
    causes = [event.detail for event in events(drive, "driver_takeover")]
    assert len(causes) >= 5
    assert len(set(causes)) >= 4
    assert len({event.detail for event in events(drive, "camera_fault")}) == 6
