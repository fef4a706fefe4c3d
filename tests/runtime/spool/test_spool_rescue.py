"""Partial clips at the recorder's start: cut again where history lives on, sealed as partial where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter, RawMessage
from runtime.formats.topics import FIRING, own_channel
from runtime.messages import Priority
from runtime.spool import PartialRescue, QuotaExceededError, RescueReport, Spool, rescue_partials
from tests.runtime.recording.recorded_rig import encode_camera, firing

QUOTA_BYTES = 64 << 20


def open_spool(directory: Path, boot: str) -> Spool:
    return Spool.open(directory, QUOTA_BYTES, boot_id=boot)


def write_half(directory: Path, lines: int = 3, clip_id: str = "half") -> None:
    """A recorder that dies with the power: some chunks are written, the end is not."""
    with open_spool(directory, "first") as spool:
        draft = spool.begin(1 << 20, Priority.HIGH, metadata={"clip_id": clip_id})
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
        metadata = spool.clip(1).metadata
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
    }


def test_without_a_power_cut_a_partial_clip_stays_until_the_whole_was_cut_again(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        rescue = PartialRescue(spool)
        assert rescue.step(firings_wait=True) == RescueReport(awaited=1)
        assert rescue.step(firings_wait=True) is None, "nothing new while the firing waits"
        seal_whole(spool)
        assert rescue.step(firings_wait=False) == RescueReport(dropped=1)
        assert (spool.partial(), spool.counts().sealed) == ([], 1)
        assert rescue.step(firings_wait=False) is None


def test_a_partial_clip_that_history_cannot_replace_is_sealed_as_it_is(tmp_path):
    """The same run of the machine, but the firing was given up: what was written is all that is left."""
    write_half(tmp_path)
    with open_spool(tmp_path, "first") as spool:
        rescue = PartialRescue(spool)
        rescue.step(firings_wait=True)
        assert rescue.step(firings_wait=False) == RescueReport(rescued=[1])
        assert (spool.clip(1).metadata["clip_id"], spool.clip(1).metadata["partial"]) == ("half", True)
        assert spool.partial() == []


def test_half_a_clip_that_a_policy_could_not_decide_over_stays_partial_and_goes_with_its_whole(tmp_path):
    write_half(tmp_path)
    with open_spool(tmp_path, "second") as spool:
        assert PartialRescue(spool, may_seal=False).step(firings_wait=False) == RescueReport(held_back=1)
        assert spool.counts().sealed == 0
        seal_whole(spool)
        assert PartialRescue(spool, may_seal=False).step(firings_wait=True) == RescueReport(dropped=1)


def test_a_disk_that_fails_during_the_rescue_leaves_the_partial_clip_to_the_next_start(tmp_path, monkeypatch):
    write_half(tmp_path)
    with open_spool(tmp_path, "second") as spool:
        rescue = PartialRescue(spool)

        def failing(*arguments):
            raise QuotaExceededError("full", 0)

        monkeypatch.setattr(spool, "begin", failing)
        with pytest.raises(QuotaExceededError):
            rescue.step(firings_wait=True)
        monkeypatch.undo()
        assert len(spool.partial()) == 1
        assert rescue_partials(spool).rescued == [1]


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
