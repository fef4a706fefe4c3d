"""Who gives way to whom when the spool is full."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import ManualClock
from runtime.messages import Priority
from runtime.spool import ClipShape, ClipState, QuotaExceededError, ShrinkRequiredError, Spool
from runtime.spool.admission import Kind, Newcomer, Resident, choose_victims
from runtime.spool.clips import BLOCK_BYTES, LedgerError
from runtime.spool.reservations import DISK_RESERVE_BYTES, DISK_TAKEN_FIRST_S
from runtime.spool.wall_time import HELD_NS

RESERVE_BYTES = 6 << 20
HOUR_NS = 3600 * 10**9
CLIP_BYTES = 2 * BLOCK_BYTES


def open_spool(directory: Path, clips: int, **options) -> Spool:
    """A spool with room for exactly `clips` clips of CLIP_BYTES."""
    return Spool.open(directory, RESERVE_BYTES + clips * CLIP_BYTES, ledger_reserve_bytes=RESERVE_BYTES, **options)


class SteppedClock(ManualClock):
    """A wall clock that somebody sets while the vehicle runs."""

    step_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.step_ns


def seal(spool: Spool, priority: Priority, **metadata) -> int:
    draft = spool.begin(CLIP_BYTES, priority)
    draft.path.write_bytes(os.urandom(CLIP_BYTES))
    return spool.seal(draft, metadata).n


def states(spool: Spool, last: int) -> str:
    letters = {ClipState.PENDING: "p", ClipState.DELIVERED: "d", ClipState.TOMBSTONED: "t"}
    return "".join(letters[spool.clip(n).state] for n in range(1, last + 1))


def test_the_lowest_priority_gives_way_first_and_its_oldest_clip(tmp_path):
    spool = open_spool(tmp_path, 4)
    for priority in (Priority.NORMAL, Priority.LOW, Priority.BACKGROUND, Priority.BACKGROUND):
        seal(spool, priority)
    seal(spool, Priority.HIGH)
    assert states(spool, 5) == "pptpp"
    seal(spool, Priority.HIGH)
    seal(spool, Priority.HIGH)
    assert states(spool, 7) == "pttt" + "ppp"
    assert spool.counts().evicted == 3
    assert spool.counts().is_gapless


def test_a_lower_priority_never_evicts_a_higher(tmp_path):
    spool = open_spool(tmp_path, 2)
    seal(spool, Priority.HIGH)
    seal(spool, Priority.NORMAL)
    with pytest.raises(QuotaExceededError) as refused:
        spool.begin(CLIP_BYTES, Priority.LOW)
    assert refused.value.available_bytes == 0
    assert states(spool, 2) == "pp"
    assert spool.counts().refused == 1


def test_safety_is_never_evicted_and_the_newcomer_learns_what_would_fit(tmp_path):
    spool = open_spool(tmp_path, 3)
    seal(spool, Priority.SAFETY)
    seal(spool, Priority.SAFETY)
    seal(spool, Priority.LOW)
    with pytest.raises(QuotaExceededError) as refused:
        spool.begin(2 * CLIP_BYTES, Priority.SAFETY)
    assert refused.value.available_bytes == CLIP_BYTES
    assert states(spool, 3) == "ppp", "nothing goes for a clip that does not fit anyway"
    spool.begin(refused.value.available_bytes, Priority.SAFETY)
    assert states(spool, 3) == "ppt"


def test_the_newest_of_an_ordinary_class_replaces_its_oldest(tmp_path):
    spool = open_spool(tmp_path, 2)
    for _ in range(3):
        seal(spool, Priority.NORMAL)
    assert states(spool, 3) == "tpp"


def test_drafts_count_with_what_they_reserved(tmp_path):
    spool = open_spool(tmp_path, 2)
    first = spool.begin(CLIP_BYTES, Priority.SAFETY)
    spool.begin(CLIP_BYTES, Priority.SAFETY)
    with pytest.raises(QuotaExceededError):
        spool.begin(1, Priority.SAFETY)
    spool.discard(first)
    spool.begin(CLIP_BYTES, Priority.SAFETY)


def test_a_draft_that_outgrew_the_spool_is_dropped_not_sealed(tmp_path):
    spool = open_spool(tmp_path, 1)
    draft = spool.begin(10, Priority.SAFETY)
    draft.path.write_bytes(bytes(2 * CLIP_BYTES))
    with pytest.raises(QuotaExceededError):
        spool.seal(draft, {})
    assert not draft.path.exists()
    assert spool.counts().bytes_used == 0
    assert spool.counts().sealed == 0


def test_partial_clips_of_a_dead_recorder_go_before_sealed_ones(tmp_path):
    spool = open_spool(tmp_path, 2)
    seal(spool, Priority.BACKGROUND)
    dead = spool.begin(CLIP_BYTES, Priority.BACKGROUND)
    dead.path.write_bytes(bytes(CLIP_BYTES))
    dead.release()
    spool.recover()
    seal(spool, Priority.BACKGROUND)
    assert states(spool, 2) == "pp"
    assert spool.partial() == []


def test_a_writer_that_overran_its_reservation_and_died_leaves_no_excess(tmp_path):
    spool = open_spool(tmp_path, 2)
    kept = seal(spool, Priority.BACKGROUND)
    dead = spool.begin(CLIP_BYTES, Priority.SAFETY)
    dead.path.write_bytes(bytes(CLIP_BYTES + 1))
    dead.release()
    spool.close()
    spool = open_spool(tmp_path, 2)
    assert spool.counts().bytes_used == CLIP_BYTES
    assert states(spool, kept) == "p"
    assert any("over the quota" in alarm.text for alarm in spool.alarms())


def test_a_lowered_quota_is_met_at_start_but_never_at_the_cost_of_safety_clips(tmp_path):
    spool = open_spool(tmp_path, 4)
    for priority in (Priority.SAFETY, Priority.LOW, Priority.SAFETY, Priority.HIGH):
        seal(spool, priority)
    spool.close()
    spool = open_spool(tmp_path, 3)
    assert states(spool, 4) == "ptpp"
    spool.close()
    spool = open_spool(tmp_path, 1)
    assert states(spool, 4) == "ptpt"
    assert spool.counts().is_gapless


def test_expired_clips_give_way_to_anybody_before_any_that_is_still_wanted(tmp_path):
    clock = ManualClock(wall_offset_ns=HOUR_NS)
    spool = open_spool(tmp_path, 3, clock=clock)
    seal(spool, Priority.BACKGROUND)
    seal(spool, Priority.SAFETY, expires_wall_ns=2 * HOUR_NS)
    seal(spool, Priority.NORMAL)
    clock.advance_to(HOUR_NS - 1)
    seal(spool, Priority.NORMAL)
    assert states(spool, 4) == "tppp", "not yet expired: the order of priority holds"
    clock.advance_to(HOUR_NS)
    seal(spool, Priority.LOW)
    assert states(spool, 5) == "ttppp"
    assert spool.clip(2).reason.startswith("expired, and evicted")


def test_retention_ends_clips_and_a_jump_of_the_clock_by_a_day_does_not(tmp_path):
    clock = SteppedClock(wall_offset_ns=HOUR_NS)
    spool = open_spool(tmp_path, 3, clock=clock, retention_s=3600)
    seal(spool, Priority.SAFETY)
    seal(spool, Priority.NORMAL, expires_wall_ns=HOUR_NS + 1)
    clock.step_ns = 24 * HOUR_NS
    assert spool.expire() == []
    clock.advance_to(1)
    assert spool.expire() == [2], "its metadata named an earlier time"
    clock.advance_to(HOUR_NS)
    assert spool.expire() == [1]
    assert spool.clip(1).reason == "expired before it could be delivered"
    assert list(spool.folder.clips.iterdir()) == []
    assert spool.counts().is_gapless


def test_a_machine_without_a_clock_of_its_own_ages_clips_of_earlier_runs_once_its_clock_has_held(tmp_path):
    days_ns = 24 * HOUR_NS
    first_run = SteppedClock(wall_offset_ns=20_500 * days_ns)
    with open_spool(tmp_path, 3, clock=first_run, boot_id="first", retention_s=24 * 3600) as spool:
        seal(spool, Priority.SAFETY)
    clock = SteppedClock(wall_offset_ns=0)  # 1970
    with open_spool(tmp_path, 3, clock=clock, boot_id="second", retention_s=24 * 3600) as spool:
        assert spool.expire() == []
        clock.step_ns = 20_510 * days_ns  # the network says what time it is
        assert spool.expire() == [], "it may have jumped"
        clock.advance_to(HELD_NS - 1)
        assert spool.expire() == []
        clock.advance_to(HELD_NS)
        assert spool.expire() == [1]


def test_a_clip_of_an_earlier_run_is_at_least_as_old_as_this_run(tmp_path):
    with open_spool(tmp_path, 3, clock=ManualClock(wall_offset_ns=HOUR_NS), boot_id="first") as spool:
        seal(spool, Priority.SAFETY)
    clock = ManualClock()  # its wall clock stands an hour before that
    with open_spool(tmp_path, 3, clock=clock, boot_id="second", retention_s=7200) as spool:
        clock.advance_to(2 * HOUR_NS - 1)
        assert spool.expire() == []
        clock.advance_to(2 * HOUR_NS)
        assert spool.expire() == [1]


def test_a_disk_that_others_fill_costs_one_clip_and_not_all(tmp_path):
    clock, free_bytes = ManualClock(), [10**12]
    with open_spool(tmp_path, 40, clock=clock, disk_free=lambda directory: free_bytes[0]) as spool:
        for _ in range(30):
            seal(spool, Priority.NORMAL)
        free_bytes[0] = DISK_RESERVE_BYTES + CLIP_BYTES // 2  # and stays so, whatever is deleted
        for _ in range(5):
            with pytest.raises(QuotaExceededError, match="others fill the disk"):
                seal(spool, Priority.NORMAL)
        assert spool.counts().pending == 29
        assert any("others fill the disk" in alarm.text for alarm in spool.alarms())
        first_ns = round(DISK_TAKEN_FIRST_S * 10**9)
        for pending, wait_ns in ((28, first_ns), (27, 2 * first_ns)):
            clock.advance_to(clock.now_ns() + wait_ns - 1)
            with pytest.raises(QuotaExceededError):
                seal(spool, Priority.NORMAL)
            assert spool.counts().pending == pending + 1
            clock.advance_to(clock.now_ns() + 1)
            with pytest.raises(QuotaExceededError):
                seal(spool, Priority.NORMAL)
            assert spool.counts().pending == pending, "it may have changed: one more is tried"
        free_bytes[0] = 10**12
        seal(spool, Priority.NORMAL)


def test_half_a_clip_that_may_still_be_rescued_gives_way_to_no_lower_class(tmp_path):
    with open_spool(tmp_path, 2) as spool:
        draft = spool.begin(CLIP_BYTES, Priority.SAFETY, metadata={"clip_id": "half"})
        draft.path.write_bytes(os.urandom(CLIP_BYTES))
        draft.release()
    with open_spool(tmp_path, 2) as spool:
        seal(spool, Priority.BACKGROUND)
        seal(spool, Priority.BACKGROUND)
        assert [partial.priority for partial in spool.partial()] == [Priority.SAFETY]
        assert states(spool, 2) == "tp"
        seal(spool, Priority.SAFETY)
        assert len(spool.partial()) == 1, "the lower class goes first"


def test_a_draft_whose_row_cannot_go_is_forgotten_when_the_next_begins(tmp_path, monkeypatch):
    with open_spool(tmp_path, 1) as spool:
        draft = spool.begin(CLIP_BYTES)

        @contextmanager
        def locked():
            raise LedgerError("database is locked")
            yield

        with monkeypatch.context() as patched:
            patched.setattr(spool._ledger, "transaction", locked)
            with pytest.raises(LedgerError):
                spool.discard(draft)
        assert not draft.path.exists()
        seal(spool, Priority.BACKGROUND)
        assert spool.counts().bytes_used == CLIP_BYTES


def test_what_was_sealed_before_the_clock_was_ever_set_is_not_decades_old_once_it_is(tmp_path):
    days_ns = 24 * HOUR_NS
    with open_spool(tmp_path, 3, clock=SteppedClock(wall_offset_ns=HOUR_NS), boot_id="first") as spool:
        seal(spool, Priority.SAFETY)
    clock = SteppedClock(wall_offset_ns=2 * HOUR_NS)  # 1970 still
    with open_spool(tmp_path, 3, clock=clock, boot_id="second", retention_s=24 * 3600) as spool:
        assert spool.expire() == []
        clock.step_ns = 20_500 * days_ns
        for _ in range(3):
            clock.advance_to(clock.now_ns() + HELD_NS)
            assert spool.expire() == []
        clock.advance_to(days_ns)
        assert spool.expire() == [1]


SHAPE = ClipShape(("front", "left", "right", "rear"), 40.0)


def test_when_only_the_highest_class_is_left_a_new_clip_shrinks_before_one_of_them_goes(tmp_path):
    spool = open_spool(tmp_path, 4)
    for _ in range(3):
        seal(spool, Priority.SAFETY)
    for wanted, fitting in ((2, ("front", "left")), (4, ("front",))):
        with pytest.raises(ShrinkRequiredError) as refused:
            spool.begin(wanted * CLIP_BYTES, Priority.SAFETY, SHAPE)
        assert refused.value.shape == ClipShape(fitting, 40.0)
    with pytest.raises(ShrinkRequiredError) as refused:
        spool.begin(8 * CLIP_BYTES, Priority.SAFETY, SHAPE)
    assert refused.value.shape == ClipShape(("front",), 20.0)
    assert states(spool, 3) == "ppp"
    assert spool.counts().shrunk == 3
    assert any("has to shrink to 1 cameras, 20 s" in alarm.text for alarm in spool.alarms())


def test_only_a_clip_that_cannot_shrink_any_more_replaces_the_oldest_of_the_highest_class(tmp_path):
    spool = open_spool(tmp_path, 2)
    for _ in range(2):
        seal(spool, Priority.SAFETY)
    shape = SHAPE
    for _ in range(8):
        try:
            spool.begin(CLIP_BYTES, Priority.SAFETY, shape)
            break
        except ShrinkRequiredError as refused:
            assert states(spool, 2) == "pp"
            shape = refused.shape
    assert shape == SHAPE.smallest
    assert states(spool, 2) == "tp"
    assert any("clip 1: evicted" in alarm.text for alarm in spool.alarms())


def test_a_clip_that_outgrows_its_room_while_it_is_written_is_stopped_and_told_to_shrink(tmp_path):
    spool = open_spool(tmp_path, 2)
    seal(spool, Priority.SAFETY)
    draft = spool.begin(CLIP_BYTES, Priority.SAFETY, SHAPE)
    with spool.write_into(draft) as stream, pytest.raises(ShrinkRequiredError) as refused:
        stream.write(bytes(CLIP_BYTES + 1))
    assert refused.value.shape == ClipShape(("front", "left"), 40.0)
    assert draft.path.stat().st_size == CLIP_BYTES, "not a byte more than was reserved"
    spool.discard(draft)
    assert spool.counts().bytes_used == CLIP_BYTES


@given(st.integers(0, 9), st.floats(0.1, 600), st.lists(st.floats(0, 1), max_size=40))
def test_shrinking_only_ever_takes_away_and_ends_at_the_smallest(cameras, seconds, shares):
    shape = ClipShape(tuple(map(str, range(cameras))), seconds)
    for share in [*shares, 0.0, 0.0]:
        smaller = shape.shrunk(share)
        assert set(smaller.cameras) <= set(shape.cameras)
        assert smaller.seconds <= shape.seconds
        shape = smaller
    assert shape.is_smallest


def grow_the_ledger(spool: Spool) -> None:
    """Many rows, few bytes of clips."""
    for _ in range(99):
        draft = spool.begin(10, Priority.SAFETY)  # which evicts nobody of its own class
        draft.path.write_bytes(b"x")
        spool.seal(draft, {"clip_id": "kept", "notes": "x" * 60_000})


def test_what_the_ledger_occupies_beyond_its_reserve_is_taken_from_the_clips_and_given_back(tmp_path):
    spool = open_spool(tmp_path, 100)
    quota_bytes = spool.counts().quota_bytes
    with pytest.raises(QuotaExceededError):
        grow_the_ledger(spool)
    counts = spool.counts()
    assert counts.ledger_bytes + counts.bytes_used <= quota_bytes, "few bytes of clips, and refused all the same"
    for clip in spool.pending():
        spool.mark_delivered(clip.n)
    spool.recover()
    assert spool.counts().ledger_bytes < RESERVE_BYTES // 2
    assert spool.clip(1).metadata == {"clip_id": "kept"}, "what is long settled is known by its id"
    spool.begin(90 * CLIP_BYTES)


def test_a_full_disk_refuses_although_the_quota_has_room(tmp_path):
    spool = open_spool(tmp_path, 10, disk_free=lambda directory: 16 << 20)
    with pytest.raises(QuotaExceededError):
        spool.begin(CLIP_BYTES)


def test_a_quota_without_room_for_clips_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="raise it above"):
        Spool.open(tmp_path, 8 << 20)


RESIDENTS = st.lists(
    st.builds(
        Resident,
        st.sampled_from(list(Kind)),
        st.integers(1, 1000),
        st.integers(0, 4),
        st.integers(1, 100),
    ),
    max_size=12,
)


@given(RESIDENTS, st.integers(1, 500), st.integers(0, 4))
def test_eviction_frees_enough_takes_no_more_than_needed_and_spares_the_urgent(residents, shortfall_bytes, rank):
    victims = choose_victims(residents, shortfall_bytes, Newcomer(rank))
    if victims is None:
        return
    sizes = [victim.size_bytes for victim in victims]
    assert sum(sizes) >= shortfall_bytes
    assert sum(sizes[:-1]) < shortfall_bytes
    for victim in victims:
        if victim.kind is Kind.PENDING:
            assert victim.rank >= rank
            assert victim.rank > 0
            spared = [r for r in residents if r.kind is Kind.PENDING and r not in victims]
            assert all(r.rank <= victim.rank for r in spared)


def test_a_draft_within_what_it_reserved_is_sealed_although_the_ledger_has_grown_since(tmp_path):
    spool = open_spool(tmp_path, 100)
    draft = spool.begin(50 * CLIP_BYTES, Priority.SAFETY, SHAPE)
    with spool.write_into(draft) as stream:
        stream.write(bytes(50 * CLIP_BYTES))
    with pytest.raises(QuotaExceededError):
        grow_the_ledger(spool)
    assert spool.seal(draft, {}).size_bytes == 50 * CLIP_BYTES
    counts = spool.counts()
    assert counts.ledger_bytes + counts.bytes_used <= counts.quota_bytes


def test_what_a_newcomer_is_told_would_fit_is_whole_blocks_and_fits(tmp_path):
    quota_bytes = RESERVE_BYTES + 2 * CLIP_BYTES + 100
    spool = Spool.open(tmp_path, quota_bytes, ledger_reserve_bytes=RESERVE_BYTES)
    seal(spool, Priority.SAFETY)
    with pytest.raises(ShrinkRequiredError) as refused:
        spool.begin(2 * CLIP_BYTES, Priority.SAFETY, ClipShape(("front",), 40.0))
    assert refused.value.available_bytes == CLIP_BYTES
    assert refused.value.shape == ClipShape(("front",), 20.0)
    spool.begin(refused.value.available_bytes, Priority.SAFETY, refused.value.shape)
