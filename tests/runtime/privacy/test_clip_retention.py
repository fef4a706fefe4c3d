from __future__ import annotations

import os
from pathlib import Path

from runtime.clock import ManualClock
from runtime.messages import Priority
from runtime.privacy.policy import PrivacyRules
from runtime.privacy.retention import INTERVAL_NS, REASON, Retention
from runtime.spool import Spool
from tests.runtime.privacy.private_history import north_of, seal, write_history
from tests.runtime.recording.recorded_rig import SECOND_NS, WALL_OFFSET_NS, firing

DAY_NS = 86_400 * SECOND_NS


def put(spool: Spool, name: str) -> int:
    draft = spool.begin(1000, Priority.SAFETY)
    draft.path.write_bytes(b"clip of " + name.encode())
    return spool.seal(draft, {"clip_id": name}).n


def test_clips_older_than_allowed_are_deleted_and_stay_in_the_ledger(tmp_path: Path) -> None:
    clock = ManualClock(0, 100 * DAY_NS)
    with Spool.open(tmp_path / "spool", 64_000_000, clock=clock) as spool:
        old, delivered = put(spool, "old"), put(spool, "delivered")
        spool.mark_delivered(delivered)
        clock.advance_to(3 * DAY_NS)
        young = put(spool, "young")
        retention = Retention(spool, keep_s=2 * 86_400)
        assert retention.step(0, clock.wall_ns()) == 1
        assert [clip.n for clip in spool.pending()] == [young]
        assert not spool.clip(old).path.exists()
        assert spool.clip(old).reason == REASON
        assert [tombstone.n for tombstone in spool.unreported_tombstones()] == [old]
        assert spool.counts().is_gapless
        assert retention.deleted == 1


def test_what_a_dead_writer_left_is_deleted_too(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "spool", 64_000_000) as spool:
        draft = spool.begin(1000, Priority.NORMAL)
        draft.path.write_bytes(b"half a clip" * 200)
        draft.release()  # as a killed process does
    with Spool.open(tmp_path / "spool", 64_000_000) as spool:
        (partial,) = spool.partial()
        wall_ns = partial.path.stat().st_mtime_ns
        os.utime(partial.path, ns=(wall_ns - 3 * DAY_NS, wall_ns - 3 * DAY_NS))
        assert Retention(spool, keep_s=4 * 86_400).step(0, wall_ns) == 0
        assert Retention(spool, keep_s=2 * 86_400).step(0, wall_ns) == 1
        assert spool.partial() == []
        assert not partial.path.exists()


def test_it_looks_once_a_minute_and_not_at_all_without_a_limit(tmp_path: Path) -> None:
    clock = ManualClock(0, 100 * DAY_NS)
    with Spool.open(tmp_path / "spool", 64_000_000, clock=clock) as spool:
        put(spool, "one")
        late_ns = clock.wall_ns() + 9 * DAY_NS
        assert Retention(spool, None).step(0, late_ns) == 0
        retention = Retention(spool, 86_400)
        assert retention.step(5, clock.wall_ns()) == 0
        assert retention.step(5 + INTERVAL_NS - 1, late_ns) == 0
        assert retention.step(5 + INTERVAL_NS, late_ns) == 1


def test_a_clip_says_when_it_expires(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules(keep_s=3600.0))
    assert clip.metadata["expires_wall_ns"] == firing(6.0).time_ns + WALL_OFFSET_NS + 3600 * SECOND_NS
