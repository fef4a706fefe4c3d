"""Clips that wait keep their seconds: behind a slow clip, through a crash, in a storm; within the bytes of history."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from recorded_rig import GOP, PERIOD_NS, SECOND_NS, START_NS, encode_camera, firing, session

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.pull_files import PullFolder, PullRequest
from runtime.messages import Firing, Packet, Priority
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink, SealedClip
from runtime.recording.history_needs import HoldSettings, leave_need, need_of
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.manifest import ClipManifest
from runtime.recording.recorder import Recorder
from runtime.recording.sealing_policy import ClipWindow, IsBeside, SealingPolicy, SignalHistory, Untreated
from runtime.recording.verify import verify_clip

CAMERA = "front_main"
SECONDS = 4.0  # of history; what waits needs more
HOLD = HoldSettings(max_s=60.0, before_s=0.0)


@pytest.fixture(scope="module")
def packets() -> list[Packet]:
    """Forty seconds of one camera, a key frame every half second."""
    return encode_camera(CAMERA, 800)


class Drive:
    """A runtime that goes on recording, and a recorder over its history."""

    def __init__(self, folder: Path, packets: list[Packet], max_bytes: int = 10**9, hold: HoldSettings = HOLD) -> None:
        self.folder, self.layout, self._hold, self._max_bytes = (
            folder,
            HistoryLayout(folder / "history"),
            hold,
            max_bytes,
        )
        self._packets = packets
        self._at = 0
        self.writer = self._start("first")
        self.most_bytes = 0

    def _start(self, name: str) -> HistoryWriter:
        run = session(name, SECONDS, started_wall_ns=self._at + 1)
        return HistoryWriter(self.layout.directory, SECONDS, self._max_bytes, run, hold=self._hold)

    def until(self, second: float, firings: Iterable[Firing] = ()) -> None:
        """Record up to there; firings are offered at their time."""
        due = sorted(firings, key=lambda one: one.time_ns)
        while self._at < len(self._packets) and self._packets[self._at].time_ns < START_NS + second * SECOND_NS:
            packet = self._packets[self._at]
            self.writer.packet(packet)
            self._at += 1
            while due and due[0].time_ns <= packet.time_ns:
                assert self.writer.firing(due.pop(0))
            self.most_bytes = max(self.most_bytes, self.bytes_used())

    def bytes_used(self) -> int:
        return sum(segment.path.stat().st_size for segment in self.layout.list_segments())

    def crash(self) -> None:
        """The runtime dies as SIGKILL kills, and another starts."""
        os.close(self.writer._lock._descriptor)  # what the kernel does
        self.writer = self._start("second")

    def recorder(self, policy: SealingPolicy | None = None, pulls: PullFolder | None = None) -> Recorder:
        return Recorder(self.layout.directory, FolderClipSink(self.folder / "clips"), policy=policy, pulls=pulls)

    def now_ns(self) -> int:
        return self._packets[self._at - 1].time_ns


class SlowPolicy:
    """Takes so long over each clip that the drive goes on meanwhile: `meanwhile` is called in its middle."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Any:
        return SlowTreatment(self._meanwhile)


class SlowTreatment(Untreated):
    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def transform(self, messages: Iterable[RawMessage], is_beside: IsBeside) -> Iterator[RawMessage]:
        for index, message in enumerate(super().transform(messages, is_beside)):
            if index == 10:
                self._meanwhile()
            yield message


def manifest_of(clip: SealedClip) -> ClipManifest:
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path, strict=True) as reader:
        return read_manifest(reader)


def test_a_clip_that_waits_behind_a_slow_one_keeps_all_its_seconds(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets)
    drive.until(11, [firing(4.3, "slow", 0, 2, 1), firing(8.3, "waits", 1, 2, 1)])
    ends_s = iter((30, 35))
    recorder = drive.recorder(SlowPolicy(lambda: drive.until(next(ends_s))))
    sealed = recorder.step(drive.now_ns())
    assert [clip.metadata["rules"] for clip in sealed] == [["slow"], ["waits"]]
    for clip in sealed:
        manifest = manifest_of(clip)
        assert (manifest.pre_roll_short_s, manifest.ended_early) == (0.0, None)
        camera = manifest.cameras[CAMERA]
        assert (camera.starts_late_s, camera.ends_early_s, camera.gap_count) == (0.0, 0.0, 0)
        assert camera.first_ns > manifest.requested_start_ns - GOP * PERIOD_NS
    assert drive.writer.counters.segments_held > 0
    drive.until(37)
    assert (drive.writer.counters.segments_held, drive.writer.counters.holds_given_up) == (0, 0)
    assert list(drive.layout.held.iterdir()) == []


def test_the_start_of_a_clip_stays_until_its_end_has_come(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets)
    drive.until(20, [firing(5.0, pre_s=3.0, post_s=9.0)])  # twelve seconds, of a history of four
    (clip,) = drive.recorder().step(drive.now_ns())
    manifest = manifest_of(clip)
    assert (manifest.pre_roll_short_s, manifest.ended_early) == (0.0, None)
    assert manifest.cameras[CAMERA].gap_count == 0


def test_only_what_a_clip_needs_is_kept_of_the_past(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets)
    drive.until(30, [firing(5.0, "one", 0, 1, 1), firing(20.0, "two", 1, 1, 1)])
    held_s = [
        int(path.name.partition(".")[0]) / SECOND_NS - START_NS / SECOND_NS for path in drive.layout.held.iterdir()
    ]
    assert len(held_s) <= 2 * 7
    assert not [at_s for at_s in held_s if 9 < at_s < 16]
    assert drive.writer.counters.segments_held == len(held_s)
    assert drive.writer.counters.held_s <= SECONDS + 1.1  # what a firing of now can reach back to


def test_held_seconds_never_take_more_than_the_bytes_of_history_nor_anything_of_the_newest(
    tmp_path: Path, packets: list[Packet]
) -> None:
    free = Drive(tmp_path / "free", packets)
    free.until(40)
    max_bytes = round(free.most_bytes * 1.6)  # of SECONDS and what is being written
    drive = Drive(tmp_path / "tight", packets, max_bytes)
    drive.until(38, [firing(4.0 + 2 * index, f"rule_{index}", index, 3, 1) for index in range(8)])
    assert drive.most_bytes <= max_bytes + len(max(packets, key=lambda packet: len(packet.data)).data) + 1000
    counters = drive.writer.counters
    assert counters.holds_given_up > 0
    assert (counters.segments_given_up, counters.refused_records) == (0, 0)
    assert counters.held_s >= SECONDS
    recorder = drive.recorder()
    (clip,) = recorder.step(drive.now_ns())
    assert manifest_of(clip).pre_roll_short_s > 0.0  # what was given up is missing, and the clip says so
    assert len(manifest_of(clip).firings) < 8 or manifest_of(clip).requested_start_ns < manifest_of(clip).start_ns


def test_the_seconds_of_urgent_clips_outlast_those_of_others(tmp_path: Path, packets: list[Packet]) -> None:
    free = Drive(tmp_path / "free", packets)
    free.until(40)
    drive = Drive(tmp_path / "tight", packets, round(free.most_bytes * 2.6))
    urgent = firing(4.0, "urgent", 0, 2, 1, priority=Priority.SAFETY)
    others = [firing(11.0 + 7 * n, f"other_{n}", n + 1, 2, 1, priority=Priority.BACKGROUND) for n in range(3)]
    drive.until(38, [urgent, *others])
    assert drive.writer.counters.holds_given_up > 0
    first = drive.recorder().step(drive.now_ns())[0]
    assert first.metadata["rules"] == ["urgent"]
    assert manifest_of(first).pre_roll_short_s == 0.0
    assert manifest_of(first).cameras[CAMERA].gap_count == 0


def test_a_storm_of_firings_keeps_history_within_its_bytes(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets, 200_000)
    drive.until(38, [firing(2.0 + index / 10, "storm", index, 2, 1) for index in range(350)])
    assert drive.most_bytes <= 200_000 + 5_000
    assert drive.writer.counters.refused_records == 0


def test_a_need_ends_after_a_while_whoever_forgot_it(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets, hold=HoldSettings(max_s=10.0, before_s=0.0))
    drive.until(14, [firing(4.0, pre_s=2, post_s=1)])
    assert drive.writer.counters.segments_held > 0
    drive.until(20)
    assert drive.writer.counters.segments_held == 0
    assert drive.writer.counters.holds_given_up > 0


def test_a_runtime_that_crashes_while_a_clip_takes_long_still_leaves_its_last_seconds(
    tmp_path: Path, packets: list[Packet]
) -> None:
    drive = Drive(tmp_path, packets)
    drive.until(11, [firing(4.3, "slow", 0, 2, 1)])

    def crash_and_go_on() -> None:
        drive.until(14)
        drive.crash()
        drive.until(15)
        recorder.watch()  # as the recorder's process does after a picture
        drive.until(32)

    recorder = drive.recorder(SlowPolicy(crash_and_go_on))
    (slow,) = recorder.step(drive.now_ns())  # the crash's firing came meanwhile
    recorder = drive.recorder()
    (crashed,) = recorder.step(drive.now_ns())
    manifest = manifest_of(crashed)
    assert (slow.metadata["kind"], manifest.kind) == ("event", "crash")
    assert manifest.end_ns == START_NS + 14 * SECOND_NS - PERIOD_NS
    assert manifest.cameras[CAMERA].first_ns <= START_NS + 10.5 * SECOND_NS


def test_a_pull_that_waits_behind_a_slow_clip_gets_its_range(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets)
    drive.until(11, [firing(9.3, "slow", 0, 1, 0.2)])
    pulls = PullFolder(tmp_path / "spool")
    asked = (START_NS + 8 * SECOND_NS, START_NS + 10 * SECOND_NS)
    assert pulls.ask(PullRequest("rest", (CAMERA,), *asked))
    recorder = drive.recorder(SlowPolicy(lambda: drive.until(30)), pulls)
    drive.until(12)
    sealed = recorder.step(drive.now_ns())
    assert [clip.metadata["kind"] for clip in sealed] == ["event", "pull"]
    manifest = manifest_of(sealed[1])
    assert (manifest.pre_roll_short_s, manifest.ended_early, manifest.cameras[CAMERA].gap_count) == (0.0, None, 0)
    assert drive.layout.list_needs() == []


def test_what_a_dead_recorder_asked_to_keep_is_let_go_when_the_next_one_starts(
    tmp_path: Path, packets: list[Packet]
) -> None:
    drive = Drive(tmp_path, packets)
    leave_need(drive.layout, "gone", need_of(START_NS, START_NS + 9 * SECOND_NS, Priority.HIGH))
    drive.until(20)
    assert drive.writer.counters.segments_held >= 9
    drive.recorder(pulls=PullFolder(tmp_path / "spool"))
    drive.until(22)
    assert drive.writer.counters.segments_held == 0


def test_held_seconds_outlive_their_writer(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets)
    drive.until(20, [firing(5.0, pre_s=2, post_s=1)])
    drive.crash()
    drive.until(35)
    clips = {clip.metadata["rules"][0]: clip for clip in drive.recorder().step(drive.now_ns())}
    assert manifest_of(clips["driver_takeover"]).pre_roll_short_s == 0.0


def test_behind_a_hole_pictures_begin_with_a_key_frame_and_none_is_taken_from_before_it(tmp_path: Path) -> None:
    drive = Drive(tmp_path, encode_camera(CAMERA, 800, gop=50))  # a key frame every 2.5 s
    drive.until(31, [firing(5.0, pre_s=1, post_s=1)])
    reader = HistoryReader(drive.layout.directory)
    starts_ns = [segment.start_ns for segment in drive.layout.list_segments()]
    after_ns = next(b for a, b in pairwise(starts_ns) if b - a > 2 * SECOND_NS)
    start_ns = after_ns + PERIOD_NS
    assert reader.key_frame_starts([CAMERA], start_ns, start_ns + 5 * SECOND_NS)[CAMERA] > start_ns
    found = [m.packet() for m in reader.messages(0, 2**62, {topics.video_topic(CAMERA)}) if m.time_ns >= after_ns]
    assert found[0].is_key
    assert found[0].time_ns > after_ns
    whole_ns = 31 * SECOND_NS
    held_ns = reader.held_ns(START_NS, START_NS + whole_ns)
    assert held_ns < whole_ns - 10 * SECOND_NS
    assert held_ns >= round(SECONDS * SECOND_NS)


def test_a_firing_that_cannot_be_read_holds_nothing_and_stops_nobody(tmp_path: Path, packets: list[Packet]) -> None:
    drive = Drive(tmp_path, packets)
    (drive.layout.firings / "00-0.json").write_text("[" * 100_000)
    (drive.layout.needs / "bad.json").write_text(json.dumps({"start_ns": None}))
    drive.until(12)
    assert drive.writer.counters.segments_held == 0
