"""The wall clock jumps by a day while clips are cut, sealed and delivered: whatever waits, waits on capture time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fault_bench import read_json
from recorded_vehicle import HISTORY_BYTES, HISTORY_S, Vehicle
from step_faults import StepFault

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Firing, Packet
from runtime.recording.clip_file import read_manifest
from runtime.recording.history_writer import HistoryWriter
from tests.runtime.recording.recorded_rig import PERIOD_NS, SECOND_NS, encode_camera, firing, session

DAY_S = 86_400
HOUR_S = 3600
#: After the start of the drive.
JUMP_S = 7.0


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


class JumpingDrive:
    """The runtime's side: it writes on while its wall clock jumps `JUMP_S` after its start. One camera, 20 s."""

    def __init__(self, vehicle: Vehicle, jump_s: int) -> None:
        # Ahead of the machine's clock: on a slow machine, too, history does not seem to stand still.
        self.start_ns = time.monotonic_ns() + HOUR_S * SECOND_NS
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        self.jump_ns = jump_s * SECOND_NS
        self.writer = HistoryWriter(vehicle.history, HISTORY_S, HISTORY_BYTES, session(history_s=HISTORY_S))
        self._packets = [self._dated(packet) for packet in encode_camera("front_main", 400, self.start_ns)]

    def wall_ns(self, time_ns: int) -> int:
        """What the wall clock says then."""
        jumped = time_ns >= self.start_ns + round(JUMP_S * SECOND_NS)
        return time_ns + self.offset_ns + (self.jump_ns if jumped else 0)

    def _dated(self, packet: Packet) -> Packet:
        return replace(packet, wall_ns=self.wall_ns(packet.time_ns))

    def go_on(self, until_s: float) -> None:
        """Write what the camera gives until then."""
        until_ns = self.start_ns + round(until_s * SECOND_NS)
        while self._packets and self._packets[0].time_ns < until_ns:
            assert self.writer.packet(self._packets.pop(0))

    def fire(self, at_s: float, rule: str, sequence: int, pre_s: float, post_s: float) -> Firing:
        """A rule fires `at_s` seconds after the start."""
        time_ns = self.start_ns + round(at_s * SECOND_NS)
        fired = replace(firing(0, rule, sequence, pre_s, post_s), time_ns=time_ns, wall_ns=self.wall_ns(time_ns))
        assert self.writer.firing(fired)
        return fired


def wait_for_steps(vehicle: Vehicle) -> dict[str, object]:
    """The recorder has looked at history as it is now, and says so."""
    path = vehicle.config.parent / "status" / "recorder.json"
    for _ in range(2):
        before_ns = path.stat().st_mtime_ns
        vehicle.bench.wait(lambda before_ns=before_ns: path.stat().st_mtime_ns > before_ns, "another status")
    return read_json(path)


@pytest.mark.sweep
@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_recorder_whose_clock_jumps_by_a_day_cuts_whole_clips_on_time_and_keeps_them(
    vehicle: Vehicle, step_library: Path, tmp_path: Path, jump_s: int
) -> None:
    tree = yaml.safe_load(vehicle.config.read_text())
    vehicle.config.write_text(yaml.safe_dump({**tree, "privacy": {"keep_s": HOUR_S}}))
    clock = StepFault(step_library, tmp_path / "counter")
    recorder = vehicle.start_recorder(clock.environment)
    assert recorder.next_line() == "ready", recorder.errors
    drive = JumpingDrive(vehicle, jump_s)

    drive.go_on(2)
    fired = [drive.fire(2.0, "before", 1, 1.0, 1.0)]
    drive.go_on(6)
    vehicle.bench.wait(lambda: vehicle.waiting == 0, "the clip before the jump")
    fired.append(drive.fire(6.0, "across", 2, 3.0, 4.0))
    drive.go_on(8)
    clock.set_wall_clock_wrong_by(jump_s)
    assert wait_for_steps(vehicle)["waiting"] == 1, "its post-roll is to come, whatever the wall clock says"
    drive.go_on(12)
    fired.append(drive.fire(12.0, "after", 3, 1.0, 1.0))
    drive.go_on(20)
    vehicle.bench.wait(lambda: vehicle.waiting == 0, "the clips across and after the jump")
    with vehicle.bench.open_spool() as spool:
        assert abs(spool.clip(3).sealed_wall_ns - time.time_ns() - drive.jump_ns) < HOUR_S * SECOND_NS, "it did jump"
    assert recorder.stop() == 0
    drive.writer.close()

    again = clock.environment
    clock.set_wall_clock_wrong_by(jump_s)
    recorder = vehicle.start_recorder(again)  # looks for clips older than an hour at once
    assert recorder.next_line() == "ready", recorder.errors
    privacy = wait_for_steps(vehicle)["privacy"]
    assert (privacy["keep_s"], privacy["deleted_by_age"], privacy["deleting_error"]) == (HOUR_S, 0, "")
    assert recorder.stop() == 0
    check_clips(drive, fired, vehicle.deliver_and_check(tuple(fired)))


def check_clips(drive: JumpingDrive, fired: list[Firing], clips: list[Path]) -> None:
    """One clip for each firing, whole by capture time; its wall times are those of the clock when it was recorded."""
    assert len(clips) == len(fired)
    for clip, one in zip(sorted(clips), fired, strict=True):
        with McapTopicReader(clip) as reader:
            manifest = read_manifest(reader)
        assert (manifest.ended_early, manifest.firings[0].rule) == (None, one.rule)
        camera = manifest.cameras["front_main"]
        first_ns = one.time_ns - round(one.capture.pre_s * SECOND_NS)
        last_ns = one.time_ns + round(one.capture.post_s * SECOND_NS)
        assert camera.first_ns <= first_ns
        assert last_ns - PERIOD_NS <= camera.last_ns <= last_ns
        assert manifest.firings[0].wall_ns == one.wall_ns
        assert manifest.start_wall_ns == drive.wall_ns(manifest.start_ns)
        assert manifest.end_wall_ns == drive.wall_ns(manifest.end_ns)
