"""The vehicle's own troubles: storms of firings, a recorder down or killed, a runtime that dies, a clock that jumps.

History is real (H.264, MCAP), written as a runtime writes it; the recorder, the uploader and the receiver are
processes. Every firing must end in exactly one clip, and every clip keep every promise where it arrives.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml
from fault_bench import Bench, FaultProcess
from live_processes import Daemon
from step_faults import StepFault
from step_sweeps import Sweep

from runtime.messages import Firing, Packet, Priority, SignalSample
from runtime.recording.firing_files import write_firing
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.inspection import inspect_clip
from runtime.recording.layout import HistoryLayout
from runtime.recording.verify import verify_clip
from tests.runtime.recording.recorded_rig import CAMERAS, SECOND_NS, START_NS, Recording, encode_camera, firing, session

DAY_S = 86_400
MINUTE_S = 60
FRAMES_A_SECOND = 20
STORM = 1000
HISTORY_BYTES = 256_000_000


@pytest.fixture(scope="module")
def packets() -> dict[str, list[Packet]]:
    """Fourteen seconds of two cameras."""
    return {camera: encode_camera(camera, 280, seed=row) for row, camera in enumerate(CAMERAS[:2])}


class Vehicle:
    """The history and the configuration of a vehicle whose spool and receiver are the bench's."""

    def __init__(self, bench: Bench, drive: Path) -> None:
        self.bench = bench
        folder = bench.directory / "vehicle"
        folder.mkdir()
        self.history = folder / "history"
        bench.spool_directory = folder / "state" / "spool"
        self.config = folder / "rig.yaml"
        tree = {
            "vehicle": {"id": "car-1"},
            "drive": str(drive),  # a configuration has to watch something; no runtime plays it here
            "history": {"directory": "history", "seconds": MINUTE_S + 30},
            "state_directory": "state",
            "health": {"status_interval_s": 0.1},
            "realtime": {"lock_memory": False},
            "recorder": {"scan_interval_s": 0.05},
        }
        self.config.write_text(yaml.safe_dump(tree))

    def drive(self, packets: dict[str, list[Packet]], *firings: Firing, until_s: float = 14.0) -> HistoryWriter:
        """Write a history with firings in it, as a runtime that leaves cleanly."""
        writer = HistoryWriter(self.history, MINUTE_S + 30, HISTORY_BYTES, session(history_s=MINUTE_S + 30))
        Recording(packets, firings, until_s).write(writer)
        writer.close()
        return writer

    def start_recorder(self, environment: dict[str, str] | None = None) -> FaultProcess:
        return self.bench.start("record", {"config": str(self.config)}, environment)

    @property
    def waiting(self) -> int:
        """Firings without a clip."""
        return len(HistoryLayout(self.history).list_firings())

    def record_everything(self) -> None:
        """A recorder that nobody disturbs answers what waits."""
        recorder = self.start_recorder()
        assert recorder.next_line() == "ready", recorder.errors
        self.bench.wait(lambda: self.waiting == 0, "clips of all firings")
        assert recorder.stop() == 0

    def deliver_and_check(self, expected: tuple[Firing, ...]) -> list[Path]:
        """Deliver; every firing is in exactly one clip, every clip is whole, both ends agree; the clips."""
        receiver = self.bench.start_receiver()
        with self.bench.open_spool() as spool:
            uploader = self.bench.start_uploader()
            self.bench.wait_for_delivery(spool)
            assert uploader.stop() == 0
        assert receiver.stop() == 0
        self.bench.check_both_ends(unclaimed=True)
        clips = [clip.path for clip in self.bench.stored_clips()[0]]
        assert [str(problem) for clip in clips for problem in verify_clip(clip).problems] == []
        found = [(one["rule"], one["sequence"]) for clip in clips for one in inspect_clip(clip).to_json()["firings"]]
        assert sorted(found) == sorted((one.rule, one.sequence) for one in expected), "each firing once"
        return clips


@pytest.fixture
def vehicle(bench: Bench, tiny_drive: Path) -> Vehicle:
    return Vehicle(bench, tiny_drive)


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


@pytest.mark.sweep
def test_a_storm_of_a_thousand_firings_a_minute_loses_none_of_them(vehicle):
    packets = {"front_main": encode_camera("front_main", MINUTE_S * FRAMES_A_SECOND)}
    fired = tuple(
        firing(1 + index * (MINUTE_S - 4) / STORM, f"rule_{index % 7}", index, 2.0, 1.0, list(Priority)[index % 5])
        for index in range(STORM)
    )
    writer = vehicle.drive(packets, *fired, until_s=MINUTE_S + 1)
    assert writer.counters.refused_firings == 0
    vehicle.record_everything()
    assert 1 <= len(vehicle.deliver_and_check(fired)) <= 3, "they overlap: a clip is as long as clips may be"


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
@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_that_jumps_by_a_day_delays_no_clip_and_loses_none(bench, step_library, tmp_path, jump_s):
    roles = ("receiver", "uploader", "sealing")
    faults = {role: StepFault(step_library, tmp_path / f"counter-{role}") for role in roles}
    receiver = bench.start_receiver(faults["receiver"].environment)
    with bench.open_spool() as spool:
        bench.begin_uploader(None, faults["uploader"].environment, rate_bytes_per_s=1 << 20)
        bench.seal(spool, 3 << 20)
        bench.wait(lambda: bench.durable_bytes() > 0, "a clip under way")
        sealing = bench.start_sealing(faults["sealing"].environment, pause_s=0.02)
        bench.wait(lambda: len(sealing.lines) > 3, "clips before the jump")
        for each in faults.values():
            each.set_wall_clock_wrong_by(jump_s)
        told = len(sealing.lines)
        bench.wait(lambda: len(sealing.lines) > told + 3, "clips after the jump")
        assert sealing.stop() == 0
        bench.note_sealed(sealing)
        bench.wait_for_delivery(spool)
        times_ns = [spool.clip(n).sealed_wall_ns for n in sorted(bench.sealed)]
    assert max(times_ns) - min(times_ns) > DAY_S * 1_000_000_000 * 0.99, "the clock did jump"
    assert receiver.stop() == 0
    bench.check_both_ends()


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
    writer = HistoryWriter(vehicle.history, MINUTE_S + 30, HISTORY_BYTES, session(history_s=MINUTE_S + 30))
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
