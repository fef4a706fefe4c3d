"""Who is verified when, and what becomes of clips that kill whoever looks at them."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from store_steps import HOUR_NS, NOW_NS, row, take_in

from runtime.clock import ManualClock
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.storage.backlog import MAX_PROBLEMS, MAX_VERDICT_LENGTH, verdict_text, verifying_lease_ns
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.store import ClipStore
from runtime.uplink.verification import VerifierDiedError, VerifierStoppedError, VerifierThread, VerifierTooSlowError

GOES_ON = threading.Event()
SCHEMA_2 = Path(__file__).parent / "catalogue_schema_2.sql"


class Scripted:
    """A verifier that does to each clip what the test says, and remembers in which order they came."""

    def __init__(self, what) -> None:
        self._what = what
        self.seen: list[bytes] = []

    def problems_of(self, path, stop):
        self.seen.append(path.read_bytes())
        return self._what(path.read_bytes())

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


def stored_of(store, settled, *contents: bytes) -> None:
    """A clip each; the vehicle is named by the text before the dash."""
    for n, content in enumerate(contents, start=1):
        vehicle = content.decode().partition("-")[0]
        assert take_in(store, settled, row(n, content, vehicle), content, NOW_NS + n)


def verdicts(store) -> dict[str, tuple[bool | None, str, int]]:
    clips = store.catalogue.clips(store.directory)
    return {f"{clip.key.vehicle} {clip.key.n}": (clip.verified, clip.problems, clip.verify_attempts) for clip in clips}


@pytest.fixture
def store(tmp_path):
    made = ClipStore(tmp_path, StoreLimits())
    yield made
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_offset_ns=NOW_NS + HOUR_NS)


def test_vehicles_take_turns_and_each_ones_oldest_clip_comes_first(fleet, settled, clock):
    store = fleet.receiver()
    stored_of(store, settled, b"b-1", b"b-2", b"b-3", b"c-4", b"a-5", b"a-6")
    verifier = Scripted(lambda content: [])
    thread = VerifierThread(store, clock, verifier)
    while thread.turn(verifier, GOES_ON):
        pass
    assert verifier.seen == [b"a-5", b"b-1", b"c-4", b"a-6", b"b-2", b"b-3"]
    assert {verdict[0] for verdict in verdicts(store).values()} == {True}


def test_a_clip_that_kills_its_verifier_is_looked_at_twice_and_the_others_go_on(store, settled, clock):
    stored_of(store, settled, b"a-bomb", b"b-good")

    def look(content):
        if content == b"a-bomb":
            raise VerifierDiedError("ended by SIGKILL")
        return []

    verifier = Scripted(look)
    thread = VerifierThread(store, clock, verifier)
    while thread.turn(verifier, GOES_ON):
        pass
    assert verifier.seen == [b"a-bomb", b"b-good", b"a-bomb"]
    assert (thread.deaths, thread.troubles) == (2, 0)
    bomb = (False, "[verifier] the verifier died of it 2 times: ended by SIGKILL", 2)
    assert verdicts(store) == {"a 1": bomb, "b 2": (True, "", 1)}


def test_a_clip_that_takes_too_long_is_recorded_as_unchecked_and_not_as_damaged(store, settled, clock):
    stored_of(store, settled, b"a-long")

    def look(content):
        raise VerifierTooSlowError("it took more than 1800 s of processor time")

    verifier = Scripted(look)
    thread = VerifierThread(store, clock, verifier)
    while thread.turn(verifier, GOES_ON):
        pass
    told = "too long to check, which is no sign of damage: it took more than 1800 s of processor time"
    assert verdicts(store) == {"a 1": (False, f"[unchecked] {told}", 2)}


def test_a_large_clip_is_its_verifiers_for_longer(store, settled):
    content = b"a-" + bytes(4 << 20)
    offered = row(1, content, "a")
    assert take_in(store, settled, offered, content, NOW_NS)
    backlog, directory = store.catalogue.backlog, store.directory
    assert backlog.next(directory, NOW_NS) is not None
    lease_ns = verifying_lease_ns(len(content))
    assert lease_ns >= 620 * NANOSECONDS_PER_SECOND
    assert backlog.next(directory, NOW_NS + lease_ns - 1) is None
    assert backlog.next(directory, NOW_NS + lease_ns) is not None


def test_a_clip_during_which_receivers_died_is_not_looked_at_for_ever(fleet, settled, clock):
    stored_of(fleet.receiver(), settled, b"a-bomb")
    for start in range(2):
        dying = fleet.receiver() if fleet.is_shared else fleet._stores[0]
        dying.recover(NOW_NS)
        assert (
            dying.catalogue.backlog.next(dying.directory, NOW_NS + (start + 1) * HOUR_NS).verify_attempts == start + 1
        )
    store = fleet._stores[-1]
    store.recover(NOW_NS)
    verifier = Scripted(lambda content: [])
    later = ManualClock(wall_offset_ns=NOW_NS + 9 * HOUR_NS)
    assert VerifierThread(store, later, verifier).turn(verifier, GOES_ON)
    assert verifier.seen == []
    assert verdicts(store) == {"a 1": (False, "[verifier] 2 verifiers began to look at it, and none came back", 3)}


@pytest.mark.parametrize("failure", [OSError("no space for a download"), VerifierStoppedError()], ids=["depot", "stop"])
def test_what_is_not_the_clips_fault_is_not_held_against_it(store, settled, failure):
    stored_of(store, settled, b"a-good")
    failures = [failure] * 5

    def look(content):
        if failures:
            raise failures.pop()
        return []

    clock = ManualClock(wall_offset_ns=NOW_NS + HOUR_NS)
    verifier = Scripted(look)
    thread = VerifierThread(store, clock, verifier)
    for _ in range(11):
        with contextlib.suppress(type(failure)):
            thread.turn(verifier, GOES_ON)
        clock.advance_to(clock.now_ns() + 61 * NANOSECONDS_PER_SECOND)
    assert len(verifier.seen) == 6
    assert verdicts(store) == {"a 1": (True, "", 1)}


def test_a_verdict_that_cannot_be_recorded_now_is_recorded_later_without_another_look(
    store, settled, clock, monkeypatch
):
    stored_of(store, settled, b"a-good")
    verifier = Scripted(lambda content: ["a gap"])
    thread = VerifierThread(store, clock, verifier)
    record = store.catalogue.backlog.record

    def fails_once(key, problems):
        if not failed.is_set():
            failed.set()
            raise CatalogueError("database is locked")
        record(key, problems)

    failed = threading.Event()
    monkeypatch.setattr(store.catalogue.backlog, "record", fails_once)
    with pytest.raises(CatalogueError):
        thread.turn(verifier, GOES_ON)
    assert not thread.turn(verifier, GOES_ON), "nothing waits any more"
    assert verifier.seen == [b"a-good"]
    assert verdicts(store) == {"a 1": (False, "a gap", 1)}


def test_a_verdict_is_bounded_and_one_line_for_each_problem():
    told = verdict_text([f"{n}: \u2028\n\0{'x' * 1000}" for n in range(10_000)])
    lines = told.splitlines()
    assert len(told) <= MAX_VERDICT_LENGTH + 50
    assert len(lines) <= MAX_PROBLEMS + 1
    assert lines[-1] == f"and {10_000 - (len(lines) - 1)} more"
    assert [line.partition(":")[0] for line in lines[:-1]] == [str(n) for n in range(len(lines) - 1)]
    assert verdict_text(["a gap"] * 3) == "a gap\na gap\na gap"


def test_a_catalogue_of_schema_2_learns_of_attempts_and_loses_nothing(tmp_path, settled):
    with contextlib.closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as connection:
        connection.executescript(SCHEMA_2.read_text())
    for attempt in (1, 2):  # the second start finds what the first one made of it
        store = ClipStore(tmp_path, StoreLimits())
        try:
            clip = store.catalogue.backlog.next(tmp_path, NOW_NS + attempt * HOUR_NS)
            assert (clip.key.vehicle, clip.key.n, clip.verify_attempts) == ("car-1", 1, attempt)
            assert [clip.key.n for clip in store.catalogue.clips(tmp_path)] == [1, 2]
            assert [partial.key.n for partial in store.catalogue.partials()] == [3]
            assert store.catalogue.tombstones("car-1") == {4: "given up"}
        finally:
            store.close()
