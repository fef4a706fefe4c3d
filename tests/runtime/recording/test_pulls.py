"""Range pulls, the vehicle's half: a clip of what is still held, or a reason; one answer for each request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from recorded_rig import (
    CAMERAS,
    GOP,
    PERIOD_NS,
    SECOND_NS,
    START_NS,
    WALL_OFFSET_NS,
    encode_camera,
    firing,
    session,
)

from runtime.formats import pull_files
from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.pull_files import PullAnswer, PullFolder, PullRequest
from runtime.messages import ClipVariant, Packet, Priority, SignalSample
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import OpenClip, SealedClip
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.manifest import ClipManifest
from runtime.recording.readiness import RETRY_NS
from runtime.recording.recorder import Recorder
from runtime.recording.recorder_status import RecorderSettings
from runtime.recording.shrinking import ClipExtent
from runtime.recording.verify import verify_clip
from runtime.spool import Spool

END_NS = START_NS + 14 * SECOND_NS


def at(second: float) -> int:
    return START_NS + round(second * SECOND_NS)


@dataclass
class Vehicle:
    """A spool, the folder of wishes in it, and a recorder over a history."""

    spool: Spool
    pulls: PullFolder
    directory: Path

    def recorder(self, history: Path, **settings: float) -> Recorder:
        return Recorder(history, SpoolClipSink(self.spool), RecorderSettings(**settings), pulls=self.pulls)

    def ask(self, name: str, start_s: float, end_s: float, *cameras: str, clock: str = "capture") -> None:
        shift_ns = WALL_OFFSET_NS if clock == "wall" else 0
        assert self.pulls.ask(PullRequest(name, cameras, at(start_s) + shift_ns, at(end_s) + shift_ns, clock))

    def answer(self) -> PullAnswer:
        (answer,) = self.pulls.answers()
        assert self.pulls.requests() == []
        return answer

    def manifest(self, number: int) -> ClipManifest:
        path = self.spool.clip(number).path
        assert verify_clip(path).problems == []
        with McapTopicReader(path, strict=True) as reader:
            return read_manifest(reader)


@pytest.fixture
def vehicle(tmp_path: Path) -> Vehicle:
    directory = tmp_path / "spool"
    return Vehicle(Spool.open(directory, 200_000_000), PullFolder(directory), directory)


@pytest.mark.parametrize("clock", ["capture", "wall"])
def test_a_range_of_history_comes_home_as_a_clip_that_keeps_every_promise(
    vehicle: Vehicle, record_history: Callable[..., Path], clock: str
) -> None:
    vehicle.ask("a1", 4.2, 7.7, "front_main", "rear", clock=clock)
    (clip,) = vehicle.recorder(record_history()).step(END_NS)
    answer = vehicle.answer()
    assert (answer.id, answer.state, answer.n) == ("a1", "sealed", clip.number)
    assert {key: clip.metadata[key] for key in ("kind", "pull_id", "priority", "rules")} == {
        "kind": "pull", "pull_id": "a1", "priority": "high", "rules": ["range_pull"],
    }  # fmt: skip
    manifest = vehicle.manifest(answer.n)
    assert (manifest.kind, manifest.pull_id) == ("pull", "a1")
    assert (manifest.requested_start_ns, manifest.requested_end_ns) == (at(4.2), at(7.7))
    assert list(manifest.cameras) == ["front_main", "rear"]
    for camera in manifest.cameras.values():
        assert at(4.2) - GOP * PERIOD_NS < camera.first_ns <= at(4.2)
        assert at(7.7) - PERIOD_NS < camera.last_ns <= at(7.7)
    assert manifest.ended_early is None
    assert "/vehicle" in manifest.topics


def test_no_camera_named_means_all(vehicle: Vehicle, record_history: Callable[..., Path]) -> None:
    vehicle.ask("a1", 4, 6)
    vehicle.recorder(record_history()).step(END_NS)
    assert list(vehicle.manifest(vehicle.answer().n).cameras) == list(CAMERAS)


def test_a_camera_that_is_not_there_is_missing_in_the_clip(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    vehicle.ask("a1", 4, 6, "rear", "roof")
    vehicle.recorder(record_history()).step(END_NS)
    assert vehicle.manifest(vehicle.answer().n).missing_cameras == ["roof"]


def test_a_range_that_only_a_sealed_clip_still_has_is_cut_out_of_that_clip(
    vehicle: Vehicle, record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]]
) -> None:
    history = record_history(firing(6.0))
    vehicle.recorder(history).step(END_NS)
    for segment in HistoryLayout(history).list_segments()[:-2]:
        segment.path.unlink()
    vehicle.ask("b2", 4.0, 6.5, "rear", clock="wall")
    (clip,) = vehicle.recorder(history).step(END_NS)
    assert (clip.number, vehicle.answer().n) == (2, 2)
    manifest = vehicle.manifest(2)
    assert list(manifest.cameras) == ["rear"]
    assert at(4.0) - GOP * PERIOD_NS < manifest.cameras["rear"].first_ns <= at(4.0)
    with McapTopicReader(clip.path) as reader:
        found = list(reader.packets("rear"))
    first = rig_packets["rear"].index(found[0])
    assert found == rig_packets["rear"][first : first + len(found)]
    assert manifest.firings[0].session == "first"


def test_the_calibration_comes_along_out_of_a_sealed_clip(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    history = record_history(firing(6.0))
    vehicle.recorder(history).step(END_NS)
    shutil.rmtree(history / "segments")
    vehicle.ask("b2", 5.0, 6.5, "front_main")
    vehicle.recorder(history).step(END_NS)
    assert vehicle.manifest(vehicle.answer().n).topics["/camera/front_main/calibration"] == 1


def test_a_clip_of_thumbnails_is_asked_for_in_full_while_history_still_has_it(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    history = record_history(firing(6.0, variant=ClipVariant.THUMBNAILS))
    recorder = vehicle.recorder(history)
    (thumbnails,) = recorder.step(END_NS)
    said = thumbnails.metadata
    wanted = PullRequest("c3", ("front_wide",), said["start_wall_ns"], said["end_wall_ns"], "wall", Priority.NORMAL)
    assert vehicle.pulls.ask(wanted)
    (full,) = recorder.step(END_NS)
    manifest = vehicle.manifest(full.number)
    assert (manifest.variant, manifest.cameras["front_wide"].codec) == (ClipVariant.FULL, "h264")
    assert full.metadata["priority"] == "normal"


def test_what_is_held_in_part_comes_in_part_and_says_what_is_missing(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    history = record_history(seconds=6.0)
    vehicle.ask("a1", 4.0, 11.0, "rear")
    vehicle.recorder(history).step(END_NS)
    manifest = vehicle.manifest(vehicle.answer().n)
    assert manifest.pre_roll_short_s > 1.0
    assert manifest.requested_start_ns == at(4.0)


def test_a_range_whose_end_is_to_come_is_waited_for(
    vehicle: Vehicle, tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    recorder = vehicle.recorder(tmp_path / "history")
    vehicle.ask("a1", 3.0, 8.0, "front_main")
    sealed_at_ns = 0
    for packet in rig_packets["front_main"]:
        writer.packet(packet)
        if packet.is_key and recorder.step(packet.time_ns):
            sealed_at_ns = packet.time_ns
            break
        assert recorder.pulls.waiting == 1 or not packet.is_key
    assert at(8.0) < sealed_at_ns <= at(10.0)
    manifest = vehicle.manifest(vehicle.answer().n)
    assert manifest.cameras["front_main"].last_ns == at(8.0)
    writer.close()


@pytest.mark.parametrize(
    ("start_s", "end_s", "reason"),
    [
        (-30.0, -20.0, "nothing is held of it: history has"),
        (200.0, 210.0, "after the last second that was recorded"),
        (2.0, 80.0, "78 s are more than a clip may hold (55 s): ask in parts"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_figures_to_ask_again(
    vehicle: Vehicle, record_history: Callable[..., Path], start_s: float, end_s: float, reason: str
) -> None:
    vehicle.ask("a1", start_s, end_s)
    recorder = vehicle.recorder(record_history())
    assert recorder.step(END_NS) == []
    answer = vehicle.answer()
    assert answer.state == "refused"
    assert reason in answer.reason
    assert recorder.pulls.refused == 1


def test_a_range_further_ahead_than_history_is_long_is_refused_while_the_runtime_lives(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    vehicle.ask("a1", 100.0, 110.0)
    vehicle.recorder(record_history(close=False)).step(END_NS)
    assert "further than history reaches" in vehicle.answer().reason


def test_an_empty_history_is_a_reason(vehicle: Vehicle, tmp_path: Path) -> None:
    vehicle.ask("a1", 1.0, 2.0)
    vehicle.recorder(tmp_path / "history").step(END_NS)
    assert vehicle.answer().reason == "nothing is held of it: history is empty, and no clip in the spool has it"


def test_capture_times_of_another_start_of_the_machine_are_not_mistaken_for_these(
    vehicle: Vehicle, record_history: Callable[..., Path], tmp_path: Path
) -> None:
    vehicle.recorder(record_history(firing(6.0))).step(END_NS)
    rebooted = tmp_path / "after_the_reboot"  # history lay on tmpfs, and capture times begin anew
    HistoryWriter(rebooted, 60, 10**9, session("second")).close()
    vehicle.ask("a1", 4.0, 6.0)
    vehicle.recorder(rebooted).step(END_NS)
    assert vehicle.answer().state == "refused"


def test_wall_time_finds_clips_of_another_start_of_the_machine(
    vehicle: Vehicle, record_history: Callable[..., Path], tmp_path: Path
) -> None:
    vehicle.recorder(record_history(firing(6.0))).step(END_NS)
    vehicle.ask("a1", 4.0, 6.0, clock="wall")
    vehicle.recorder(tmp_path / "after_the_reboot").step(END_NS)
    assert vehicle.manifest(vehicle.answer().n).requested_start_ns == at(4.0)


@pytest.mark.parametrize("day_ns", [86_400 * SECOND_NS, -86_400 * SECOND_NS])
def test_after_the_clock_was_set_wall_time_means_what_it_said_when_it_was_recorded(
    vehicle: Vehicle, tmp_path: Path, day_ns: int
) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    for packet in encode_camera("front_main", 280):
        jump_ns = day_ns if packet.time_ns >= at(7.0) else 0
        wall_ns = packet.wall_ns + jump_ns
        writer.packet(
            Packet("front_main", packet.sequence, packet.time_ns, wall_ns, "h264", packet.is_key, packet.data)
        )
    writer.close()
    before = PullRequest("before", (), at(4.0) + WALL_OFFSET_NS, at(5.0) + WALL_OFFSET_NS, "wall")
    after = PullRequest("after", (), at(9.0) + WALL_OFFSET_NS + day_ns, at(10.0) + WALL_OFFSET_NS + day_ns, "wall")
    assert vehicle.pulls.ask(before)
    assert vehicle.pulls.ask(after)
    vehicle.recorder(tmp_path / "history").step(END_NS)
    starts = {answer.id: vehicle.manifest(answer.n).requested_start_ns for answer in vehicle.pulls.answers()}
    assert starts == {"before": at(4.0), "after": at(9.0)}


def test_a_clip_in_which_the_clock_was_set_from_1970_takes_no_range_from_one_that_has_it_and_serves_its_own(
    vehicle: Vehicle, tmp_path: Path
) -> None:
    """The clock is right until second 7, then says 1970, and is set in the middle of the second clip."""
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    for packet in encode_camera("front_main", 280):
        offset_ns = 0 if at(7.0) <= packet.time_ns < at(10.0) else WALL_OFFSET_NS
        writer.packet(replace(packet, wall_ns=packet.time_ns + offset_ns))
    for event in (firing(4.0), firing(11.0, sequence=1)):
        writer.firing(event)
    writer.close()
    recorder = vehicle.recorder(tmp_path / "history")
    assert [clip.number for clip in recorder.step(END_NS)] == [1, 2]
    shutil.rmtree(tmp_path / "history" / "segments")
    vehicle.ask("first", 0.5, 5.0, "front_main", clock="wall")
    vehicle.ask("second", 10.5, 12.0, "front_main", clock="wall")
    recorder.step(END_NS)
    answers = {answer.id: answer for answer in vehicle.pulls.answers()}
    assert {name: answer.reason for name, answer in answers.items()} == {"first": "", "second": ""}
    starts = {name: vehicle.manifest(answer.n).requested_start_ns for name, answer in answers.items()}
    assert starts == {"first": at(0.5), "second": at(10.5)}


class KilledAfterSealing(SpoolClipSink):
    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        clip = super().begin(expected_bytes, priority, extent)

        class Killed:
            path = clip.path
            open = staticmethod(clip.open)
            discard = staticmethod(lambda: None)

            @staticmethod
            def seal(metadata: dict[str, object]) -> None:
                clip.seal(metadata)
                raise KeyboardInterrupt

        return Killed()  # type: ignore[return-value]


def test_a_recorder_killed_between_sealing_and_answering_answers_with_the_same_clip(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    history = record_history()
    vehicle.ask("a1", 4.0, 6.0)
    with pytest.raises(KeyboardInterrupt):
        Recorder(history, KilledAfterSealing(vehicle.spool), pulls=vehicle.pulls).step(END_NS)
    assert vehicle.pulls.answers() == []
    assert vehicle.recorder(history).step(END_NS) == []
    assert (vehicle.answer().n, vehicle.spool.counts().sealed) == (1, 1)


class FullSink(SpoolClipSink):
    room = False

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        if not self.room:
            raise OSError(28, "quota is used up")
        return super().begin(expected_bytes, priority, extent)


def test_a_full_spool_is_tried_again_and_in_the_end_told(vehicle: Vehicle, record_history: Callable[..., Path]) -> None:
    sink = FullSink(vehicle.spool)
    recorder = Recorder(record_history(), sink, pulls=vehicle.pulls)
    vehicle.ask("a1", 4.0, 6.0)
    assert recorder.step(END_NS) == []
    assert (recorder.pulls.waiting, len(vehicle.pulls.requests())) == (1, 1)
    for attempt in range(1, 12):
        recorder.step(END_NS + attempt * RETRY_NS)
    assert "quota is used up" in vehicle.answer().reason


def test_room_that_comes_back_answers_the_request(vehicle: Vehicle, record_history: Callable[..., Path]) -> None:
    sink = FullSink(vehicle.spool)
    recorder = Recorder(record_history(), sink, pulls=vehicle.pulls)
    vehicle.ask("a1", 4.0, 6.0)
    recorder.step(END_NS)
    sink.room = True
    assert recorder.step(END_NS + RETRY_NS // 2) == []
    assert len(recorder.step(END_NS + RETRY_NS)) == 1
    assert vehicle.answer().state == "sealed"


def test_signals_alone_can_be_pulled_from_a_car_without_cameras(vehicle: Vehicle, tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session(), WALL_OFFSET_NS)
    for second in range(14):
        writer.signals([SignalSample("vehicle.speed_mps", at(second), float(second))])
    writer.close()
    vehicle.ask("a1", 4.0, 6.0)
    vehicle.recorder(tmp_path / "history").step(END_NS)
    assert vehicle.manifest(vehicle.answer().n).topics == {"/vehicle": 3}


def test_firings_go_on_beside_pulls(vehicle: Vehicle, record_history: Callable[..., Path]) -> None:
    vehicle.ask("a1", 4.0, 6.0, "rear")
    clips = vehicle.recorder(record_history(firing(6.0))).step(END_NS)
    assert [clip.metadata["kind"] for clip in clips] == ["event", "pull"]


def oldest_gone(history: Path, until_s: float) -> None:
    for segment in HistoryLayout(history).list_segments():
        if segment.start_ns < at(until_s):
            segment.path.unlink()


def test_all_cameras_are_not_had_from_a_clip_of_one(vehicle: Vehicle, record_history: Callable[..., Path]) -> None:
    history = record_history(firing(6.0, cameras=("front_main",)))
    vehicle.recorder(history).step(END_NS)
    oldest_gone(history, 6.5)
    vehicle.ask("a1", 1.0, 8.5)  # the clip has five seconds of one camera, history one and a half of all
    vehicle.recorder(history).step(END_NS)
    manifest = vehicle.manifest(vehicle.answer().n)
    assert list(manifest.cameras) == list(CAMERAS)
    assert manifest.start_ns > at(6.0)


def test_a_clip_of_chosen_topics_is_no_source_for_all_of_them(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    history = record_history(firing(6.0, topics=("/tick",)))
    (clip,) = vehicle.recorder(history).step(END_NS)
    assert clip.metadata["chosen_topics"] == ["/tick"]
    oldest_gone(history, 6.5)
    vehicle.ask("a1", 3.5, 8.0)
    vehicle.recorder(history).step(END_NS)
    assert "/vehicle" in vehicle.manifest(vehicle.answer().n).topics


def test_a_camera_that_the_vehicle_does_not_have_is_told_with_those_it_has(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    vehicle.ask("a1", 4.0, 6.0, "nosuch")
    vehicle.recorder(record_history()).step(END_NS)
    assert vehicle.answer().reason == f"this vehicle has no camera nosuch ({', '.join(CAMERAS)})"


def test_what_history_reaches_is_told_as_times_that_can_be_asked_with(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    vehicle.ask("a1", -30.0, -20.0, clock="wall")
    vehicle.recorder(record_history()).step(END_NS)
    assert "history has 2023-11-14T22:30:00.000Z to 2023-11-14T22:30:13.000Z, and" in vehicle.answer().reason


class CountingSink(SpoolClipSink):
    looks = 0

    def kept(self) -> list[SealedClip]:
        self.looks += 1
        return super().kept()


def test_requests_that_wait_cost_no_look_through_the_spool_and_those_that_are_answered_one(
    vehicle: Vehicle, record_history: Callable[..., Path]
) -> None:
    sink = CountingSink(vehicle.spool)
    recorder = Recorder(record_history(close=False), sink, pulls=vehicle.pulls)
    for number in range(8):
        vehicle.ask(f"ahead-{number}", 12.0, 20.0 + number)
    recorder.step(END_NS)
    assert (recorder.pulls.waiting, sink.looks) == (8, 0)
    for number in range(8):
        vehicle.ask(f"gone-{number}", -30.0, -20.0)
    recorder.step(END_NS)
    assert (recorder.pulls.refused, sink.looks) == (8, 1)


def test_a_disk_too_full_for_an_answer_costs_a_retry_and_never_the_recorder(
    vehicle: Vehicle, record_history: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = vehicle.recorder(record_history(firing(6.0)))
    vehicle.ask("a1", 4.0, 6.0)
    vehicle.ask("a2", -30.0, -20.0)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pull_files, "write_durably", full)
        assert [clip.metadata["kind"] for clip in recorder.step(END_NS)] == ["event", "pull"]
        recorder.step(END_NS + 1)
    assert (recorder.pulls.unanswered, recorder.pulls.waiting) == (2, 2)
    assert recorder.step(END_NS + RETRY_NS) == [], "the clip is there already"
    assert {answer.id: answer.state for answer in vehicle.pulls.answers()} == {"a1": "sealed", "a2": "refused"}


def test_a_range_across_a_restart_of_the_runtime_is_waited_for(
    vehicle: Vehicle, tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    for name, seconds in (("first", (0, 5)), ("second", (5, 8))):
        writer = HistoryWriter(tmp_path / "history", 60, 10**9, session(name, started_wall_ns=seconds[0]))
        for packet in rig_packets["rear"][seconds[0] * 20 : seconds[1] * 20]:
            writer.packet(packet)
        if name == "first":
            writer.close()
    recorder = vehicle.recorder(tmp_path / "history")
    vehicle.ask("a1", 3.0, 10.0)
    assert recorder.step(at(8.0)) == []
    for packet in rig_packets["rear"][160:260]:
        writer.packet(packet)
    recorder.step(at(13.0))
    assert vehicle.manifest(vehicle.answer().n).ended_early is None
    writer.close()
