"""Chunks that are of no use: they cost their vehicle requests, and the catalogue next to nothing."""

from __future__ import annotations

import hashlib

import pytest

from runtime.uplink import limits
from runtime.uplink.limits import UNKNOWN_FOR_NS, VehicleLimits
from runtime.uplink.reception import Reception
from runtime.uplink.storage.database import Database
from runtime.uplink.store import ClipStore, StoreLimits
from runtime.uplink.wire import Chunk, Offer, State, encode

DATA = bytes(16 * 1024)
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture
def reception(tmp_path):
    store = ClipStore(tmp_path, StoreLimits())
    yield Reception(store, 8 << 20, limits=VehicleLimits(requests_at_once=10, requests_per_s=0.001))
    store.close()


@pytest.fixture
def questions(monkeypatch):
    """How often the catalogue was read."""
    asked: list[str] = []
    reading = Database.reading
    monkeypatch.setattr(Database, "reading", lambda database: asked.append("") or reading(database))
    return asked


def chunk(reception, n=1, data=DATA, wall_ns=0, offset=0):
    frames = [encode(Chunk(n, DIGEST, offset, hashlib.sha256(data).digest())), data]
    return [reply.code for _, reply, _ in reception.handle("car-1", frames, wall_ns)]


def offer(reception, size_bytes, wall_ns=0):
    return reception.handle("car-1", [encode(Offer(1, DIGEST, size_bytes, "normal")), b"{}"], wall_ns)[0][1]


def test_proper_chunks_of_a_clip_under_way_cost_no_requests_and_tiny_ones_do(reception):
    assert offer(reception, 1000 * len(DATA)).state == "new"
    assert all(chunk(reception, offset=at * len(DATA)) == [] for at in range(500))
    assert [chunk(reception, data=b"x", offset=at) for at in range(20)].count([]) <= 10
    assert chunk(reception) == ["too_fast"]


@pytest.mark.parametrize("step_bytes", [0, 1])
def test_chunks_that_bring_next_to_nothing_new_cost_requests_whatever_their_length(reception, step_bytes):
    assert offer(reception, 1000 * len(DATA)).state == "new"
    assert [chunk(reception, offset=at * step_bytes) for at in range(30)].count([]) <= 12
    assert chunk(reception) == ["too_fast"]


def test_chunks_of_a_clip_never_offered_cost_requests(reception):
    answers = [chunk(reception, n) for n in range(1, 21)]
    assert answers.count(["unknown_clip"]) == 10
    assert answers[-1] == ["too_fast"]


def test_the_catalogue_is_asked_once_a_second_for_a_clip_that_it_does_not_know(reception, questions):
    assert chunk(reception) == ["unknown_clip"]
    once = len(questions)
    assert once > 0
    assert [chunk(reception) for _ in range(3)] == [["unknown_clip"]] * 3
    assert len(questions) == once
    assert chunk(reception, wall_ns=UNKNOWN_FOR_NS) == ["unknown_clip"]
    assert len(questions) == 2 * once


def test_an_offer_makes_a_clip_known_at_once(reception):
    assert chunk(reception) == ["unknown_clip"]
    assert isinstance(offer(reception, len(DATA)), State)
    assert chunk(reception) == []


def test_what_is_remembered_is_bounded(reception, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNKNOWN", 3)
    for n in range(1, 8):
        chunk(reception, n)
    assert len(reception._unknown._since_wall_ns) == 3
