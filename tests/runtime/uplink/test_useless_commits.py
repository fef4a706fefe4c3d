"""COMMITs that are of no use: they make nothing of other vehicles' durable before its time."""

from __future__ import annotations

import hashlib
import random

import pytest

from runtime.uplink.reception import Reception
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.store import ClipStore, StoreLimits
from runtime.uplink.wire import Ack, Chunk, Commit, Done, Nack, Offer, State, encode

PIECE_BYTES = 16 * 1024


class CountingDepot(FolderDepot):
    """The folder itself; how many partials each `sync` was asked for."""

    def __init__(self, directory):
        super().__init__(directory)
        self.synced: list[int] = []

    def sync(self, rows):
        self.synced.append(len(rows))
        return super().sync(rows)


@pytest.fixture
def store(tmp_path):
    store = ClipStore(tmp_path, StoreLimits(), CountingDepot(tmp_path))
    yield store
    store.close()


class Clip:
    """One vehicle's clip, message by message."""

    def __init__(self, reception: Reception, vehicle: str, pieces: int = 4) -> None:
        self._reception, self._vehicle = reception, vehicle
        self.content = random.Random(vehicle).randbytes(pieces * PIECE_BYTES)
        self.digest = hashlib.sha256(self.content).digest()

    def says(self, message, payload: bytes = b"") -> list[tuple[str, object]]:
        replies = self._reception.handle(self._vehicle, [encode(message), payload], 10**18)
        return [(vehicle, reply) for vehicle, reply, _ in replies]

    def offer(self):
        return self.says(Offer(1, self.digest, len(self.content), "high"), b"{}")

    def chunk(self, place: int):
        part = self.content[place * PIECE_BYTES : (place + 1) * PIECE_BYTES]
        return self.says(Chunk(1, self.digest, place * PIECE_BYTES, hashlib.sha256(part).digest()), part)

    def commit(self):
        return self.says(Commit(1, self.digest))


@pytest.fixture
def clips(store):
    reception = Reception(store, 8 << 20)
    honest, other = Clip(reception, "honest"), Clip(reception, "other")
    honest.offer()
    honest.chunk(0)
    return honest, other


def test_a_commit_of_a_clip_never_offered_is_refused_before_anything_is_made_durable(store, clips):
    _, other = clips
    for _ in range(3):
        ((vehicle, reply),) = other.commit()
        assert isinstance(reply, Nack)
        assert (vehicle, reply.code) == ("other", "unknown_clip")
    assert (store.depot.synced, store.dirty_bytes) == ([], PIECE_BYTES)


def test_repeated_commits_of_a_clip_under_way_make_nothing_durable(store, clips):
    _, other = clips
    other.offer()
    for _ in range(3):
        ((_, reply),) = other.commit()
        assert isinstance(reply, State)
    assert (store.depot.synced, store.dirty_bytes) == ([], PIECE_BYTES)


def test_a_commit_makes_its_own_clips_chunks_durable_and_leaves_the_others_to_their_turn(store, clips):
    _, other = clips
    other.offer()
    for place in range(3):
        other.chunk(place)
        other.chunk(place)  # held already: only to be answered
        assert [vehicle for vehicle, _ in other.commit()] == ["other", "other"], "an ACK and what is missing"
    assert store.depot.synced == [1, 1, 1]
    assert (store.dirty_bytes, store.has_unanswered) == (PIECE_BYTES, True), "the honest one's still waits"
    answers, _ = store.flush(10**18)
    assert [(key.vehicle, list(held)) for key, held in answers] == [("honest", [(0, PIECE_BYTES)])]
    assert store.dirty_bytes == 0


def test_a_commit_right_after_the_last_chunk_is_answered_with_everything(store, clips):
    honest, _ = clips
    for place in range(1, 4):
        honest.chunk(place)
    replies = [reply for _, reply in honest.commit()]
    assert [type(reply) for reply in replies] == [Ack, Done]
    assert replies[0].ranges == ((0, len(honest.content)),)
