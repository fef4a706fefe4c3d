"""Who gives way to whom when the spool is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.messages import Priority
from runtime.spool import ClipState, QuotaExceededError, Spool
from runtime.spool.admission import Kind, Newcomer, Resident, choose_victims
from runtime.spool.clips import BLOCK_BYTES

RESERVE_BYTES = 2 << 20
CLIP_BYTES = 2 * BLOCK_BYTES


def open_spool(directory: Path, clips: int, **options) -> Spool:
    """A spool with room for exactly `clips` clips of CLIP_BYTES."""
    return Spool.open(directory, RESERVE_BYTES + clips * CLIP_BYTES, ledger_reserve_bytes=RESERVE_BYTES, **options)


def seal(spool: Spool, priority: Priority) -> int:
    draft = spool.begin(CLIP_BYTES, priority)
    draft.path.write_bytes(os.urandom(CLIP_BYTES))
    return spool.seal(draft, {}).n


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
    assert any("over the quota" in alarm for alarm in spool.alarms())


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
