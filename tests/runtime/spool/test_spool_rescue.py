"""Partial clips at the recorder's start: cut again where history lives on, sealed as partial where it does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter, RawMessage
from runtime.formats.topics import FIRING, own_channel
from runtime.messages import Priority
from runtime.spool import (
    ClipState,
    PartialRescue,
    QuotaExceededError,
    RescueReport,
    RescueRules,
    Spool,
    rescue_partials,
)
from runtime.spool.half_copies import written_bytes
from runtime.spool.rescue import FAILED_FIRST_S, FAILED_LONGEST_S, all_awaited
from tests.runtime.recording.recorded_rig import encode_camera, firing

QUOTA_BYTES = 64 << 20


def open_spool(directory: Path, boot: str) -> Spool:
    return Spool.open(directory, QUOTA_BYTES, boot_id=boot)


def write_half(directory: Path, lines: int = 3, clip_id: str = "half", **known_by: object) -> None:
    """A recorder that dies with the power: some chunks are written, the end is not."""
    with open_spool(directory, "first") as spool:
        draft = spool.begin(1 << 20, Priority.HIGH, metadata={"clip_id": clip_id, **known_by})
        stream = spool.write_into(draft)
        writer = McapTopicWriter(stream)
        for second in range(lines):
            writer.log("info", "test", f"line {second}", second)
            writer.flush()
        stream.sync()
        draft.release()


def seal_whole(spool: Spool) -> None:
    draft = spool.begin(10)
    draft.path.write_bytes(b"whole")
    spool.seal(draft, {"clip_id": "half"})


def test_after_a_power_cut_what_was_written_of_a_clip_is_sealed_as_partial(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "second") as spool:
        report = rescue_partials(spool)
        assert (report.rescued, report.dropped, report.unreadable) == ([1], 0, 0)
        clip = spool.clip(1)
        assert clip.priority is Priority.HIGH
        assert {"clip_id": "half", "partial": True, "priority": "high", "start_ns": 0, "end_ns": 2}.items() <= (
            clip.metadata.items()
        )
        with McapTopicReader(clip.path, strict=True) as reader:
            assert [message.time_ns for message in reader.messages()] == [0, 1, 2]
        assert spool.partial() == []
        assert rescue_partials(spool).rescued == [], "once"


def test_what_a_half_clip_tells_of_itself_is_what_the_catalogue_finds_it_by(tmp_path):
    hard = firing(0.5, "hard_braking", priority=Priority.SAFETY)
    broken = RawMessage(own_channel(FIRING), hard.time_ns, hard.wall_ns, 1, b"{}")
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(1 << 20, Priority.SAFETY, metadata={"clip_id": "half"})
        stream = spool.write_into(draft)
        writer = McapTopicWriter(stream)
        packets = encode_camera("front_main", 20)
        for packet in packets:
            writer.packet(packet)
        writer.firing(hard)
        writer.write(broken.channel, broken.data, broken.time_ns, broken.wall_ns, broken.sequence)
        writer.flush()
        stream.sync()
        draft.release()
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool).rescued == [1]
        clip = spool.clip(1)
        metadata = clip.metadata
    times = [*(packet.time_ns for packet in packets), hard.time_ns]
    walls = [*(packet.wall_ns for packet in packets), hard.wall_ns]
    assert metadata == {
        "clip_id": "half",
        "partial": True,
        "priority": "safety",
        "cameras": ["front_main"],
        "rules": ["hard_braking"],
        "campaigns": [],
        "firing_times_ns": [hard.time_ns],
        "start_ns": min(times),
        "end_ns": max(times),
        "start_wall_ns": min(walls),
        "end_wall_ns": max(walls),
        "ended_early": "the machine stopped while the clip was written",
        "bytes": clip.size_bytes,
    }


def test_without_a_power_cut_a_partial_clip_stays_until_the_whole_was_cut_again(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        rescue = PartialRescue(spool)
        assert rescue.step(all_awaited) == RescueReport(awaited=[{"clip_id": "half"}])
        assert rescue.step(all_awaited) is None, "nothing new while the firing waits"
        seal_whole(spool)
        assert rescue.step(nobody_waits) == RescueReport(dropped=1)
        assert (spool.partial(), spool.counts().sealed) == ([], 1)
        assert rescue.step(nobody_waits) is None


def test_half_a_clip_is_rescued_as_soon_as_its_own_firings_wait_no_more(tmp_path):
    """On a busy vehicle some firing always waits."""
    for name in ("first half", "second half"):
        write_half(tmp_path, clip_id=name)
    waiting = {"first half", "second half"}
    with open_spool(tmp_path, "first") as spool:
        rescue = PartialRescue(spool)
        assert len(rescue.step(lambda known_by: known_by["clip_id"] in waiting).awaited) == 2
        waiting.remove("first half")
        report = rescue.step(lambda known_by: known_by["clip_id"] in waiting)
        assert (report.rescued, len(report.awaited)) == ([1], 1)
        assert spool.clip(1).metadata["clip_id"] == "first half"


def test_a_partial_clip_that_history_cannot_replace_is_sealed_as_it_is(tmp_path):
    """The same run of the machine, but the firing was given up: what was written is all that is left."""
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        rescue = PartialRescue(spool)
        rescue.step(all_awaited)
        assert rescue.step(nobody_waits) == RescueReport(rescued=[1])
        assert (spool.clip(1).metadata["clip_id"], spool.clip(1).metadata["partial"]) == ("half", True)
        assert spool.partial() == []


def nobody_waits(known_by):
    return False


KNOWN = {
    "kind": "pull",
    "variant": "full",
    "pull_id": "7",
    "rules": ["pull"],
    "firing_times_ns": [9],
    "campaigns": ["study@1"],
    "session": "run-1",
    "vehicle": "car-1",
    "cameras": ["front_main", "rear"],
    "start_wall_ns": 5,
    "verdict": {"policy": "of then"},
}


def test_a_rescued_clip_is_known_by_what_was_noted_when_it_was_begun(tmp_path):
    write_half(tmp_path, **KNOWN)
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool, is_awaited=nobody_waits).rescued == [1]
        clip = spool.clip(1)
        of_the_file = {"cameras": [], "missing_cameras": ["front_main", "rear"], "start_wall_ns": 0, "end_wall_ns": 2}
        assert {**KNOWN, **of_the_file, "partial": True, "bytes": clip.size_bytes}.items() <= clip.metadata.items()
        with McapTopicReader(clip.path) as reader:
            inside = json.loads(reader.metadata()["partial"]["facts"])
        assert inside == {key: value for key, value in clip.metadata.items() if key != "bytes"}


def test_what_a_policy_will_not_have_is_entombed_under_a_number_and_what_it_cannot_judge_now_waits(tmp_path):
    write_half(tmp_path, **KNOWN)
    asked = []

    def unreadable(known_by):
        raise OSError("zones.yaml cannot be read")

    def refused(known_by):
        asked.append(dict(known_by))
        return "cut short, and may not be sealed"

    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool, RescueRules(unreadable), nobody_waits) == RescueReport(held_back=1)
        assert rescue_partials(spool, RescueRules(refused), nobody_waits) == RescueReport(entombed=[1])
        assert asked == [{"clip_id": "half", **KNOWN}]
        clip = spool.clip(1)
        assert (clip.state, clip.reason) == (ClipState.TOMBSTONED, "cut short, and may not be sealed")
        assert clip.metadata["rules"] == ["pull"]
        assert (spool.partial(), list(spool.folder.partial.iterdir())) == ([], [])
        assert [tombstone.n for tombstone in spool.unreported_tombstones()] == [1], "the fleet is told, too"
        assert spool.counts().is_gapless


def test_a_locked_clip_is_rescued_as_far_as_it_can_be_opened(tmp_path):
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(1 << 20, Priority.SAFETY, metadata={"clip_id": "half", "kind": "event"})
        stream = spool.write_into(draft)
        stream.write(b"locked, and a tail")
        stream.sync()
        draft.release()
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool, RescueRules(locked_bytes=lambda path: 6)).rescued == [1]
        clip = spool.clip(1)
        assert (clip.path.read_bytes(), clip.priority) == (b"locked", Priority.SAFETY)
        assert {"kind": "event", "partial": True, "priority": "safety", "bytes": 6}.items() <= clip.metadata.items()


def test_half_of_what_the_fleet_asked_for_waits_for_the_whole_that_a_sealed_clip_may_still_give(tmp_path):
    write_half(tmp_path, **KNOWN)
    with open_spool(tmp_path, "second") as spool:
        rescue = PartialRescue(spool)
        assert len(rescue.step(all_awaited).awaited) == 1
        seal_whole(spool)
        assert rescue.step(nobody_waits) == RescueReport(dropped=1)


def test_a_rescue_that_is_cut_short_itself_leaves_one_clip_in_the_end(tmp_path, monkeypatch):
    write_half(tmp_path, **KNOWN)
    with open_spool(tmp_path, "second") as spool:
        copies = []

        def killed(draft, metadata):
            copies.append(draft)
            raise KeyboardInterrupt

        monkeypatch.setattr(spool, "seal", killed)
        with pytest.raises(KeyboardInterrupt):
            rescue_partials(spool, is_awaited=nobody_waits)
        copies[0].release()
    with open_spool(tmp_path, "third") as spool:
        assert len(spool.partial()) == 2
        assert rescue_partials(spool, is_awaited=nobody_waits) == RescueReport(rescued=[1], dropped=1)
        assert (spool.partial(), spool.counts().sealed) == ([], 1)


def test_a_disk_that_fails_during_the_rescue_leaves_the_partial_clip_to_a_later_attempt(tmp_path, monkeypatch):
    write_half(tmp_path)
    clock = ManualClock()
    with Spool.open(tmp_path, QUOTA_BYTES, boot_id="second", clock=clock) as spool:
        rescue = PartialRescue(spool)

        def failing(*arguments, **known_by):
            raise QuotaExceededError("full", 0)

        monkeypatch.setattr(spool, "begin", failing)
        assert rescue.step(all_awaited) == RescueReport(failed=1, last_error="full")
        monkeypatch.undo()
        assert len(spool.partial()) == 1
        assert rescue.step(all_awaited) is None, "not at once"
        clock.advance_to(round(FAILED_FIRST_S * 1e9))
        assert rescue.step(all_awaited) == RescueReport(rescued=[1])
        clock.advance_to(round(FAILED_LONGEST_S * 1e9))
        assert rescue.step(all_awaited) is None


def test_one_partial_clip_that_cannot_be_rescued_keeps_no_other_waiting_and_the_most_urgent_goes_first(
    tmp_path, monkeypatch
):
    write_half(tmp_path, clip_id="unreadable", lines=2)
    write_half(tmp_path, clip_id="urgent")
    with open_spool(tmp_path, "first") as spool, spool._ledger.transaction() as connection:
        connection.execute("UPDATE drafts SET priority = 'safety' WHERE metadata LIKE '%urgent%'")
    tried: list[str] = []

    def failing_disk(path: Path) -> int:
        tried.append(path.name)
        if path.name.endswith("1.mcap"):
            raise OSError(5, "Input/output error", str(path))
        return written_bytes(path)

    monkeypatch.setattr("runtime.spool.rescue.written_bytes", failing_disk)
    with open_spool(tmp_path, "second") as spool:
        report = PartialRescue(spool).step(all_awaited)
        assert report is not None
        assert (report.rescued, report.failed) == ([1], 1)
        assert "Input/output error" in report.last_error
        assert len(tried) == 2
        assert tried[1] == "draft-000000000001.mcap"
        assert spool.clip(1).metadata["clip_id"] == "urgent"
        assert [partial.metadata["clip_id"] for partial in spool.partial()] == ["unreadable"]


def test_a_partial_clip_whose_whole_was_sealed_later_is_dropped(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        seal_whole(spool)
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool).rescued == []
        assert spool.counts().sealed == 1


@pytest.mark.parametrize("content", [b"", os.urandom(5000), bytes(5000)], ids=["empty", "no MCAP", "zeros"])
def test_what_cannot_be_read_stays_partial_and_is_counted(tmp_path, content):
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(5000)
        draft.path.write_bytes(content)
        draft.release()
    with open_spool(tmp_path, "second") as spool:
        assert rescue_partials(spool).unreadable == 1
        assert [partial.path for partial in spool.partial()] == [draft.path]
        assert spool.counts().sealed == 0


@pytest.mark.parametrize("content", [b"", b"the head of a lock alone", bytes(5000)], ids=["empty", "a head", "zeros"])
def test_a_clip_of_which_the_power_left_nothing_to_read_gets_a_number_as_a_tombstone_that_says_so(tmp_path, content):
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(5000, Priority.SAFETY, metadata={"clip_id": "half", **KNOWN})
        draft.path.write_bytes(content)
        draft.release()
    with open_spool(tmp_path, "first") as spool:
        assert rescue_partials(spool, is_awaited=nobody_waits) == RescueReport(unreadable=1), "history is there still"
    with open_spool(tmp_path, "second") as spool:
        assert len(rescue_partials(spool).awaited) == 1, "the fleet asked for it, and another clip may give it"
        assert rescue_partials(spool, is_awaited=nobody_waits) == RescueReport(entombed=[1])
        clip = spool.clip(1)
        assert (clip.state, clip.priority, clip.metadata["clip_id"]) == (ClipState.TOMBSTONED, Priority.SAFETY, "half")
        assert clip.reason == "the machine stopped while the clip was written, and nothing of it can be read"
        assert (spool.partial(), list(spool.folder.partial.iterdir())) == ([], [])
        assert [tombstone.n for tombstone in spool.unreported_tombstones()] == [1]
        assert spool.counts().is_gapless


def failing_disk(*arguments: object) -> None:
    raise OSError(5, "it fails")


def test_of_two_halves_of_one_clip_the_one_that_can_be_read_is_sealed_and_the_other_is_dropped(tmp_path, monkeypatch):
    with open_spool(tmp_path, "first") as spool:
        draft = spool.begin(5000, Priority.HIGH, metadata={"clip_id": "half"})
        draft.release()
    write_half(tmp_path)
    with open_spool(tmp_path, "second") as spool:
        with monkeypatch.context() as patch:
            patch.setattr("runtime.spool.rescue.copy_messages", failing_disk)
            assert rescue_partials(spool) == RescueReport(unreadable=1, failed=1, last_error="[Errno 5] it fails")
        assert rescue_partials(spool) == RescueReport(rescued=[1], dropped=1)
        assert (spool.clip(1).state, spool.partial()) == (ClipState.PENDING, [])


def test_no_clip_gives_way_for_room_that_half_a_clip_had_only_reserved(tmp_path):
    reserve_bytes, block_bytes = 5 << 20, 4096

    def reopened(boot: str) -> Spool:
        quota_bytes = reserve_bytes + 40 * block_bytes
        return Spool.open(tmp_path, quota_bytes, ledger_reserve_bytes=reserve_bytes, boot_id=boot)

    with reopened("first") as spool:
        draft = spool.begin(20 * block_bytes, Priority.HIGH, metadata={"clip_id": "half"})
        stream = spool.write_into(draft)
        writer = McapTopicWriter(stream)
        writer.log("info", "test", "little", 1)
        writer.flush()
        draft.release()
        waiting = spool.begin(15 * block_bytes, Priority.LOW)
        waiting.path.write_bytes(bytes(15 * block_bytes))
        n = spool.seal(waiting, {}).n
    with reopened("second") as spool:
        assert rescue_partials(spool).rescued == [n + 1]
        assert spool.clip(n).state is ClipState.PENDING


def test_a_damaged_chunk_is_left_out_and_the_rest_is_kept(tmp_path):
    write_half(tmp_path, lines=5)
    (path,) = (tmp_path / "partial").iterdir()
    content = bytearray(path.read_bytes())
    end = len(content.rstrip(b"\0"))
    content[end - 40] ^= 1
    path.write_bytes(content)
    with open_spool(tmp_path, "second") as spool:
        (n,) = rescue_partials(spool).rescued
        with McapTopicReader(spool.clip(n).path, strict=True) as reader:
            assert 1 <= len(list(reader.messages())) < 5
