"""A power cut in the middle of a clip, under every policy: what was lawfully written is sealed, the rest explained."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.pull_files import PullRequest
from runtime.messages import Priority, SignalSample
from runtime.privacy.clip_keys import load_public_key, load_secret_key, new_clip_keys
from runtime.privacy.envelope import LockingStream, is_locked, unlocked
from runtime.privacy.location import LocationRule
from runtime.privacy.locked_files import openable_bytes
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.processes.clip_facts import facts_of_clip
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.clip_sink import ClipOutput, OpenClip, SealedClip
from runtime.recording.kept_clips import overlap_ns
from runtime.recording.recorder import Recorder
from runtime.recording.shrinking import ClipExtent
from runtime.spool import ClipState, RescueReport, RescueRules, Spool, rescue_partials
from tests.runtime.privacy.private_history import END_NS, north_of, write_history, zones_file
from tests.runtime.recording.recorded_rig import START_NS, firing

QUOTA_BYTES = 64 << 20
KEPT = 0.6  # of the file that the power cut leaves


class PowerCutError(BaseException):
    """Not to be handled by anybody."""


class OftenSynced:
    """What a clip is written through where the disk is slow: two seconds pass every 500 messages."""

    def __init__(self, output: ClipOutput) -> None:
        self._output = output
        self._messages = 0

    @property
    def sync_is_due(self) -> bool:
        self._messages += 1
        return self._messages % 500 == 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


@dataclass
class _CutShort:
    """A clip that is written, and never sealed."""

    clip: Any  # of SpoolClipSink

    @property
    def path(self) -> Path:
        return self.clip.path

    def open(self) -> ClipOutput:
        return OftenSynced(self.clip.open())

    def seal(self, metadata: Mapping[str, Any]) -> SealedClip:
        raise PowerCutError

    def discard(self) -> None:
        draft = self.clip.draft
        reserved, written = draft.path.stat().st_size, draft.stream.tell()
        draft.release()
        os.truncate(draft.path, round(KEPT * written))
        os.truncate(draft.path, reserved)  # the room that was reserved reads as zeros


class SinkWithoutPower(SpoolClipSink):
    """Its clips are cut short."""

    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        return _CutShort(super().begin(expected_bytes, priority, extent))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("half") / "history"
    fired = [firing(6.0, "hard_braking", priority=Priority.SAFETY)]
    noise = [SignalSample("vehicle.noise", START_NS + at * 2_000_000, os.urandom(100).hex()) for at in range(4000)]
    return write_history(directory, north_of(0, 20), fired, until_s=9.0, extra=noise)


@pytest.fixture
def rules(tmp_path: Path) -> PrivacyRules:
    """Zones that the drive does not touch, and a lock."""
    new_clip_keys(tmp_path, "fleet")
    return PrivacyRules((zones_file(tmp_path / "zones.yaml", 5000.0),), recipients=(tmp_path / "fleet.clips.public",))


def cut_power(history: Path, spool_folder: Path, rules: PrivacyRules) -> None:
    with Spool.open(spool_folder, QUOTA_BYTES, boot_id="first") as spool:
        recorder = Recorder(history, SinkWithoutPower(spool), policy=PrivacyPolicy(rules))
        with pytest.raises(PowerCutError):
            recorder.step(END_NS)


def start_again(spool: Spool, rules: PrivacyRules) -> RescueReport:
    return rescue_partials(spool, RescueRules(PrivacyPolicy(rules).half_clip_refusal, openable_bytes))


def reopened(spool_folder: Path) -> Spool:
    describe = partial(facts_of_clip, vehicle="car-7")
    return Spool.open(spool_folder, QUOTA_BYTES, boot_id="second", describe=describe)


def check_known(metadata: Mapping[str, Any]) -> None:
    known = {"kind": "event", "pull_id": None, "rules": ["hard_braking"], "firing_count": 1, "priority": "safety"}
    assert known.items() <= metadata.items()
    assert all(metadata[key] for key in ("session", "vehicle", "software_version", "start_wall_ns", "end_wall_ns"))


def test_half_a_locked_clip_outside_all_zones_is_sealed_as_it_is_and_the_fleet_can_open_it(history, tmp_path, rules):
    cut_power(history, tmp_path / "spool", rules)
    with reopened(tmp_path / "spool") as spool:
        assert start_again(spool, rules) == RescueReport(rescued=[1])
        clip = spool.clip(1)
        assert (clip.priority, clip.metadata["partial"], is_locked(clip.path)) == (Priority.SAFETY, True, True)
        check_known(clip.metadata)
        assert clip.metadata["encryption"]["cipher"] == "AES-256-GCM"
        with clip.path.open("rb") as stream:
            opened = b"".join(unlocked(stream, load_secret_key(tmp_path / "fleet.clips.secret"), is_partial=True))
    (tmp_path / "open.mcap").write_bytes(opened)
    with McapTopicReader(tmp_path / "open.mcap") as reader:
        assert len(list(reader.messages())) > 50


def test_a_locked_clip_of_which_the_power_left_nothing_is_entombed_with_the_reason(
    history, tmp_path, rules, monkeypatch
):
    monkeypatch.setattr(sys.modules[__name__], "KEPT", 0.0002)
    cut_power(history, tmp_path / "spool", rules)
    with reopened(tmp_path / "spool") as spool:
        assert start_again(spool, rules) == RescueReport(entombed=[1])
        clip = spool.clip(1)
        assert (clip.state, clip.priority) == (ClipState.TOMBSTONED, Priority.SAFETY)
        assert clip.reason.endswith("nothing of it can be read")
        check_known(clip.metadata)


def test_half_a_clip_that_was_judged_and_made_coarse_is_sealed_as_partial(history, tmp_path, rules):
    rules = replace(rules, recipients=(), location=LocationRule("remove"))
    cut_power(history, tmp_path / "spool", rules)
    with reopened(tmp_path / "spool") as spool:
        assert start_again(spool, rules) == RescueReport(rescued=[1])
        clip = spool.clip(1)
        check_known(clip.metadata)
        assert clip.metadata["verdict"]["treated"] == {"location": "remove", "blurred": False, "locked": False}
        with McapTopicReader(clip.path, strict=True) as reader:
            messages = list(reader.messages())
        assert messages
        pull = PullRequest("7", (), clip.metadata["start_ns"], clip.metadata["end_ns"])
        sealed, sessions = SealedClip(clip.path, 1, clip.metadata), {clip.metadata["session"]: None}
        assert overlap_ns(pull, sealed, sessions) == 0, "nobody can cut a pull out of it"
        assert not any(b"latitude" in message.data for message in messages)
        assert facts_of_clip(clip.path).items() <= clip.metadata.items(), "should the ledger be lost"


def test_half_a_clip_judged_under_other_rules_is_entombed_with_the_reason(history, tmp_path, rules):
    cut_power(history, tmp_path / "spool", rules)
    zones_file(tmp_path / "zones.yaml", 60.0)  # a clinic has opened on the way
    with reopened(tmp_path / "spool") as spool:
        assert start_again(spool, rules) == RescueReport(entombed=[1])
        clip = spool.clip(1)
        assert (clip.state, clip.reason) == (
            ClipState.TOMBSTONED,
            "cut short, and may not be sealed: other privacy rules held when it was judged",
        )
        check_known(clip.metadata)
        assert list(spool.folder.partial.iterdir()) == []


def test_half_a_clip_of_which_nothing_is_noted_is_sealed_only_where_nothing_is_asked_for(tmp_path, rules):
    nothing = PrivacyPolicy(PrivacyRules())
    assert nothing.half_clip_refusal({}) is None
    assert "nothing tells" in str(PrivacyPolicy(rules).half_clip_refusal({"clip_id": "old"}))
    assert "nothing tells" in str(PrivacyPolicy(PrivacyRules(location=LocationRule("round"))).half_clip_refusal({}))


def test_while_the_zones_cannot_be_read_half_a_clip_waits(history, tmp_path, rules):
    cut_power(history, tmp_path / "spool", rules)
    zones = (tmp_path / "zones.yaml").read_bytes()
    (tmp_path / "zones.yaml").unlink()
    with reopened(tmp_path / "spool") as spool:
        assert start_again(spool, rules) == RescueReport(held_back=1)
        (tmp_path / "zones.yaml").write_bytes(zones)
        assert start_again(spool, rules) == RescueReport(rescued=[1])


def test_a_locked_clip_whose_ledger_is_lost_keeps_its_priority_and_what_it_is_known_by(history, tmp_path, rules):
    with Spool.open(tmp_path / "spool", QUOTA_BYTES) as spool:
        Recorder(history, SpoolClipSink(spool), policy=PrivacyPolicy(rules)).step(END_NS)
        sealed = spool.clip(1)
    for part in (tmp_path / "spool").glob("ledger.sqlite*"):
        part.unlink()
    with reopened(tmp_path / "spool") as spool:
        adopted = spool.clip(1)
    assert (adopted.priority, adopted.metadata["adopted"]) == (Priority.SAFETY, True)
    assert adopted.metadata["vehicle"] == "car-7", "whose spool it is"
    same = ("clip_id", "kind", "pull_id", "session", "variant", "encryption", "priority")
    edges = ("start_ns", "end_ns", "start_wall_ns", "end_wall_ns")
    assert all(adopted.metadata[key] == sealed.metadata[key] for key in same + edges)


@pytest.mark.parametrize("hole", [False, True], ids=["cut", "with a hole"])
def test_of_a_locked_file_that_the_power_cut_as_much_is_taken_as_can_be_opened(tmp_path, hole):
    new_clip_keys(tmp_path, "fleet")
    data, path = os.urandom(300_000), tmp_path / "half.mcap"
    with path.open("wb") as file:
        lock = LockingStream(file, [load_public_key(tmp_path / "fleet.clips.public")], facts={"kind": "event"})
        lock.write(data)
        lock.finish()
    whole = path.stat().st_size
    assert openable_bytes(path) == whole
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(bytes(4096) if hole else b"")
        if not hole:
            file.truncate()
            file.truncate(1 << 20)
    length = openable_bytes(path)
    assert length is not None
    assert length <= 200_000
    os.truncate(path, length)
    with path.open("rb") as file:
        opened = b"".join(unlocked(file, load_secret_key(tmp_path / "fleet.clips.secret"), is_partial=True))
    assert opened == data[: 3 * 65536]
    path.write_bytes(bytes(5000))
    assert openable_bytes(path) is None
