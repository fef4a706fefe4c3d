"""A clip without room for all of it: fewer cameras, then shorter, and the manifest says so."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from recorded_rig import CAMERAS, PERIOD_NS, SECOND_NS, START_NS, firing, session
from rich.console import Console

from runtime.config.rig_config import RecorderConfig
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Packet, Priority
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink, OpenClip
from runtime.recording.firing_files import WaitingFiring
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.inspection import inspect_clip, print_summary
from runtime.recording.recorder import Recorder
from runtime.recording.sealing import MAX_SHRINKS
from runtime.recording.shrinking import ClipExtent, ShrinkToError, extent_of, shrink
from runtime.recording.verify import verify_clip
from runtime.spool import ClipShape, Spool

END_NS = START_NS + 14 * SECOND_NS


class CrampedSink(FolderClipSink):
    """Has room for some cameras and seconds only."""

    cameras, seconds = 2, 2.5

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked: list[tuple[int, ClipExtent]] = []

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        assert extent is not None
        self.asked.append((expected_bytes, extent))
        limit = ClipExtent(extent.cameras[: self.cameras], min(extent.seconds, self.seconds))
        if limit != extent:
            raise ShrinkToError("only safety clips are left", limit)
        return super().begin(expected_bytes, priority, extent)


def test_a_clip_is_cut_down_to_what_has_room_and_still_keeps_every_promise(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0, priority=Priority.SAFETY))
    sink = CrampedSink(tmp_path / "clips")
    recorder = Recorder(history, sink)
    (clip,) = recorder.step(END_NS)
    with McapTopicReader(clip.path) as reader:
        manifest = read_manifest(reader)
    assert list(manifest.cameras) == list(CAMERAS[:2])
    assert manifest.shrunk is not None
    assert manifest.shrunk.left_out_cameras == list(CAMERAS[2:])
    # 3 s before and 2 s after became 1.5 s and 1 s.
    assert manifest.window_ns == (START_NS + 4_500_000_000, START_NS + 7 * SECOND_NS)
    assert (manifest.requested_start_ns, manifest.requested_end_ns) == (
        START_NS + 3 * SECOND_NS,
        START_NS + 8 * SECOND_NS,
    )
    assert all(camera.first_ns <= manifest.window_ns[0] for camera in manifest.cameras.values())
    assert clip.metadata["shrunk"] == "only safety clips are left"
    assert recorder.status.shrunk == 1
    assert verify_clip(clip.path).problems == []
    text = StringIO()
    print_summary(inspect_clip(clip.path), Console(file=text, width=200))
    assert "cut down to 2.5 s without cameras front_narrow, front_left" in text.getvalue()
    assert "event, full, safety priority" in text.getvalue()
    (whole, first), (less, second) = sink.asked
    assert (len(first.cameras), first.seconds) == (8, 5.0)
    assert (len(second.cameras), second.seconds) == (2, 2.5)
    assert less < whole / 4


class InsatiableSink(FolderClipSink):
    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        assert extent is not None
        raise ShrinkToError("no room", extent)


def test_a_sink_that_asks_for_no_less_than_it_was_offered_is_a_refusal_and_no_endless_loop(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    recorder = Recorder(record_history(firing(6.0)), InsatiableSink(tmp_path / "clips"))
    assert recorder.step(END_NS) == []
    assert recorder.status.refused == 1


def plan_of(*firings: WaitingFiring) -> ClipPlan:
    return ClipPlan(min(f.start_ns for f in firings), max(f.end_ns for f in firings), firings)


def waiting(*arguments: object, **options: object) -> WaitingFiring:
    return WaitingFiring(Path("a.json"), "first", firing(*arguments, **options))  # type: ignore[arg-type]


def test_the_seconds_that_stay_lie_around_the_firing_that_matters_most() -> None:
    plan = plan_of(waiting(4.0, priority=Priority.LOW), waiting(10.0, sequence=1, priority=Priority.SAFETY))
    have = extent_of(plan, CAMERAS)
    cut = shrink(plan, have, ShrinkToError("x", ClipExtent(have.cameras, 2.2)))
    assert cut.shrunk is not None
    assert cut.shrunk.start_ns < START_NS + 10 * SECOND_NS < cut.shrunk.end_ns
    assert cut.shrunk.end_ns - cut.shrunk.start_ns == 2_200_000_000
    assert plan.start_ns <= cut.shrunk.start_ns <= cut.shrunk.end_ns <= plan.end_ns


def test_cameras_that_a_rule_named_stay_longest_those_of_the_highest_priority_before_all() -> None:
    plan = plan_of(
        waiting(4.0, cameras=("rear",)), waiting(5.0, sequence=1, cameras=("front_wide",), priority=Priority.SAFETY)
    )
    assert extent_of(plan, CAMERAS).cameras[:3] == ("front_wide", "rear", "front_main")


def test_a_limit_that_is_none_is_given_back_as_the_error_that_it_is() -> None:
    plan = plan_of(waiting(4.0))
    have = extent_of(plan, CAMERAS)
    with pytest.raises(ShrinkToError, match="nothing left"):
        shrink(plan, have, ShrinkToError("nothing left", have))


def test_a_spool_full_of_safety_clips_gets_a_smaller_one_and_loses_none(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    reserve_bytes, left_bytes = 4 << 20, 400_000
    quota_bytes = reserve_bytes + 2_000_000
    history = record_history(firing(6.0, priority=Priority.SAFETY))
    with Spool.open(tmp_path / "spool", quota_bytes, ledger_reserve_bytes=reserve_bytes) as spool:
        draft = spool.begin(2_000_000 - left_bytes, Priority.SAFETY)
        spool.write_into(draft).write(bytes(2_000_000 - left_bytes))
        spool.seal(draft, {"clip_id": "older"})
        recorder = Recorder(history, SpoolClipSink(spool))
        (clip,) = recorder.step(END_NS)
        counts = spool.counts()
        assert (counts.pending, counts.tombstoned) == (2, 0)
        assert counts.bytes_used <= quota_bytes
        with McapTopicReader(clip.path) as reader:
            shrunk = read_manifest(reader).shrunk
        assert verify_clip(clip.path).problems == []
    assert shrunk is not None
    assert len(shrunk.left_out_cameras) > 0
    assert "only clips of its own priority are left" in shrunk.reason


def test_room_is_asked_for_from_the_first_frame_on_however_long_before_the_window_that_lies(tmp_path: Path) -> None:
    writer, noise = HistoryWriter(tmp_path / "history", 60, 256_000_000, session()), random.Random(3)
    for index in range(280):
        time_ns = START_NS + index * PERIOD_NS
        writer.packet(Packet("rear", index, time_ns, time_ns, "h264", index == 0, noise.randbytes(5_000)))
    writer.firing(firing(12.0, pre_s=0.2, post_s=0.2))
    writer.close()
    sink = CrampedSink(tmp_path / "clips")
    (clip,) = Recorder(tmp_path / "history", sink).step(END_NS)
    assert clip.size_bytes > 12 * 20 * 5_000
    assert clip.size_bytes <= sink.asked[0][0] <= 1.3 * clip.size_bytes


LONGEST_CLIP_S = next(limit.le for limit in RecorderConfig.model_fields["max_clip_s"].metadata if hasattr(limit, "le"))


@pytest.mark.parametrize(("cameras", "seconds"), [(8, 90.0), (16, 10.0), (16, 55.0), (16, LONGEST_CLIP_S)])
def test_a_clip_that_outgrows_its_room_each_time_reaches_the_smallest_shape(cameras: int, seconds: float) -> None:
    """What the spool asks of a clip that grew is half of it; only the smallest may replace one of its own class."""
    shape, attempts = ClipShape(tuple(f"camera_{number}" for number in range(cameras)), seconds), 1
    while not shape.is_smallest:
        shape = shape.shrunk(0.5)
        attempts += 1
    assert attempts <= MAX_SHRINKS


class HalvingSink(FolderClipSink):
    """As the spool asks of clips that grow while they are written."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked: list[ClipShape] = []

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        assert extent is not None
        lower_s = extent.seconds / 2
        self.asked.append(ClipShape(extent.cameras, extent.seconds))
        if len(extent.cameras) > 1:
            raise ShrinkToError("grew", ClipExtent(self.asked[-1].shrunk(0.5).cameras, extent.seconds))
        if lower_s >= 0.05:
            raise ShrinkToError("grew", ClipExtent(extent.cameras, lower_s))
        return super().begin(expected_bytes, priority, extent)


def test_the_sealer_goes_with_every_step_until_there_is_room(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    four = {camera: rig_packets[camera] for camera in CAMERAS[:4]}
    history = record_history(firing(6.0, priority=Priority.SAFETY), packets=four, until_s=9.0)
    sink = HalvingSink(tmp_path / "clips")
    (clip,) = Recorder(history, sink).step(END_NS)
    assert len(sink.asked) == 9
    assert verify_clip(clip.path).problems == []
