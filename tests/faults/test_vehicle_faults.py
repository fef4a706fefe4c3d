"""The vehicle's own troubles: a recorder that is down or killed, a runtime that dies, places that stay out of clips.

History is real (H.264, MCAP), written as a runtime writes it; the recorder, the uploader and the receiver are
processes. Every firing must end in exactly one clip, and every clip keep every promise where it arrives.
"""

from __future__ import annotations

import os
import signal

import pytest
import yaml
from fault_bench import FaultProcess
from live_processes import Daemon
from recorded_vehicle import HISTORY_BYTES, HISTORY_S, Vehicle
from step_faults import StepFault
from step_sweeps import Sweep

from runtime.messages import Firing, Packet, Priority, SignalSample
from runtime.recording.firing_files import write_firing
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.inspection import inspect_clip
from runtime.recording.layout import HistoryLayout
from runtime.recording.verify import verify_clip
from tests.runtime.recording.recorded_rig import CAMERAS, SECOND_NS, START_NS, Recording, encode_camera, firing, session


@pytest.fixture(scope="module")
def packets() -> dict[str, list[Packet]]:
    """Fourteen seconds of two cameras."""
    return {camera: encode_camera(camera, 280, seed=row) for row, camera in enumerate(CAMERAS[:2])}


def test_a_recorder_that_was_down_while_rules_fired_makes_every_clip_when_it_is_back(vehicle, packets):
    fired = (firing(4.0, "a", 1, 2.0, 1.0), firing(11.0, "b", 2, 1.0, 1.0))
    vehicle.drive(packets, *fired)
    assert vehicle.waiting == 2
    vehicle.record_everything()
    assert len(vehicle.deliver_and_check(fired)) == 2


@pytest.mark.sweep
def test_an_event_during_an_event_shares_one_clip_that_names_both_and_is_long_enough_for_both(vehicle, packets):
    fired = (firing(5.0, "first", 1, 3.0, 3.0), firing(7.0, "second", 2, 1.0, 4.0, priority=Priority.SAFETY))
    vehicle.drive(packets, *fired)
    vehicle.record_everything()
    (clip,) = vehicle.deliver_and_check(fired)
    summary = inspect_clip(clip).to_json()
    assert summary["requested_end_ns"] - summary["requested_start_ns"] == 9 * 1_000_000_000


def kill_recorder(vehicle: Vehicle, fault: StepFault, sweep: Sweep) -> int:
    """A new firing for every start of the recorder, which dies at chosen steps; deliver and check. How many deaths."""
    fired: list[Firing] = []

    def dies_at(at: int) -> bool:
        fault.at = at
        fired.append(firing(2.0 + len(fired) % 10, "again", len(fired), 1.0, 0.5))
        write_firing(HistoryLayout(vehicle.history), "first", fired[-1])
        died = is_killed(vehicle, vehicle.start_recorder(fault.environment))
        with vehicle.bench.open_spool() as spool:
            assert spool.counts().is_gapless, f"after step {at}, {fault.last}"
            assert spool.counts().tombstoned == 0, f"after step {at}, {fault.last}"
        return died

    for _ in range(2):  # the second finds a spool, as all victims do
        assert not dies_at(0), vehicle.bench.processes[-1].errors
    deaths = sweep(fault.count, dies_at)
    vehicle.record_everything()
    vehicle.deliver_and_check(tuple(fired))
    return deaths


def is_killed(vehicle: Vehicle, recorder: FaultProcess) -> bool:
    """It died of its fault; one that has made its clips is ended."""
    vehicle.bench.wait(lambda: not recorder.is_alive or vehicle.waiting == 0, "a death or the clips")
    died = not recorder.is_alive
    recorder.kill()
    assert recorder.process.returncode == -signal.SIGKILL, recorder.errors
    return died


def test_a_recorder_killed_at_sampled_steps_seals_each_firing_once(vehicle, packets, fault):
    vehicle.drive(packets)
    assert kill_recorder(vehicle, fault, lambda steps, dies_at: dies_at(steps // 2) + dies_at(steps - 8)) >= 1


@pytest.mark.sweep
def test_a_recorder_killed_at_every_step_seals_each_firing_once(vehicle, packets, fault, every_step):
    vehicle.drive(packets)
    kill_recorder(vehicle, fault, every_step("recorder"))


@pytest.mark.sweep
@pytest.mark.timeout(180)
def test_a_runtime_killed_while_it_drives_leaves_a_crash_clip_that_arrives_whole(bench, tiny_drive, tiny_rules):
    receiver = bench.start_receiver()
    keys = str(bench.vehicle_keys)
    daemon = Daemon(
        bench.directory / "vehicle",
        {
            "vehicle": {"id": "car-1"},
            "drive": str(tiny_drive),
            "rules": {"files": [str(tiny_rules)]},
            "uplink": {"server": bench.address, "keys": keys, "retry_min_s": 0.1, "retry_max_s": 1},
        },
    )
    bench.spool_directory = daemon.folder / "state" / "spool"
    command = daemon.start()
    try:
        status = daemon.wait_for("runtime", lambda one: one["cameras"]["front"]["packets"] > 25, "some video")
        os.kill(status["pid"], signal.SIGKILL)
        daemon.wait_for("recorder", lambda one: one["spool"]["delivered"] >= 1, "the crash clip's delivery")
        daemon.wait_for("runtime", lambda one: len(one.get("firings", [])) >= 2, "the new runtime's firings")
        daemon.wait_for("recorder", lambda one: one["sealed"] >= 2 and not one["waiting"], "their clips")
        daemon.wait_for("recorder", lambda one: not one["spool"]["pending"], "their delivery")
        assert command.stop() == 0
    finally:
        command.end()
    assert receiver.stop() == 0
    bench.check_both_ends(unclaimed=True)
    clips = [clip.path for clip in bench.stored_clips()[0]]
    assert [str(problem) for clip in clips for problem in verify_clip(clip).problems] == []
    rules = [one["rule"] for clip in clips for one in inspect_clip(clip).to_json()["firings"]]
    assert rules[0] == "runtime_crash"
    assert sorted(rules) == ["driver_takeover", "gas_pressed", "runtime_crash"]


@pytest.mark.sweep
def test_in_an_exclusion_zone_or_without_gps_nothing_is_sealed_and_no_number_is_spent(vehicle, packets):
    zones = vehicle.config.with_name("zones.yaml")
    circle = {"latitude_deg": 56.01, "longitude_deg": 18.5, "radius_m": 200}
    zones.write_text(yaml.safe_dump({"zones": {"clinic": {"circle": circle}}}))
    tree = yaml.safe_load(vehicle.config.read_text())
    vehicle.config.write_text(yaml.safe_dump({**tree, "privacy": {"zones": [str(zones)], "without_fix": "refuse"}}))
    fired = [firing(2.0, "outside", 1, 1, 1), firing(6.5, "inside", 2, 0.5, 0.5), firing(12.0, "no fix", 3, 0.5, 0.5)]
    writer = HistoryWriter(vehicle.history, HISTORY_S, HISTORY_BYTES, session(history_s=HISTORY_S))
    for time_ns, kind, value in Recording(packets, tuple(fired)).records():
        if kind == "signals" and (place := place_at((time_ns - START_NS) / SECOND_NS)) is not None:
            writer.signals([SignalSample(name, time_ns, degrees) for name, degrees in place.items()])
        getattr(writer, kind)(value)
    writer.close()
    vehicle.record_everything()
    (clip,) = vehicle.deliver_and_check((fired[0],))
    assert inspect_clip(clip).to_json()["firings"][0]["rule"] == "outside"
    with vehicle.bench.open_spool() as spool:
        assert spool.counts().sealed == 1


def place_at(elapsed_s: float) -> dict[str, float] | None:
    """Far from the clinic, then in front of it, then nowhere: the receiver of GPS has lost its satellites."""
    if elapsed_s >= 8:
        return None
    return {"vehicle.latitude_deg": 56.5 if elapsed_s < 5 else 56.01, "vehicle.longitude_deg": 18.5}
