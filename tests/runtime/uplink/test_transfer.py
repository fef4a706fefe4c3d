"""One clip on its way: which answers mean it, and what an acknowledgement leaves to be sent."""

from __future__ import annotations

import hashlib
import random

import pytest
from simulated_uplink import World

from runtime.messages import Priority
from runtime.spool.clips import SpooledClip
from runtime.uplink.delivery import Delivery
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.reception import Reception
from runtime.uplink.transfer import Phase, Transfer
from runtime.uplink.wire import Chunk, Nack

CHUNK_BYTES = 500
#: All of it fits into the smallest window at once.
CHUNKS = 32
SIZE_BYTES = CHUNKS * CHUNK_BYTES
SENDING = {Phase.SENDING}


@pytest.fixture
def world(tmp_path):
    created = World(tmp_path, random.Random(1))
    created.reception = Reception(created.store, SIZE_BYTES, CHUNK_BYTES)
    created.car.delivery = Delivery(created.car.spool, DeliveryLimits(), "test")
    created.car.connect()
    created.car.seal(SIZE_BYTES)
    yield created
    created.close()


@pytest.fixture
def transfer(tmp_path) -> Transfer:
    content = bytes(SIZE_BYTES)
    (tmp_path / "clip").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Transfer(SpooledClip(1, tmp_path / "clip", sha256, SIZE_BYTES, Priority.NORMAL, {}, 0))


def send(transfer: Transfer, chunks: int, credit_bytes: int = SIZE_BYTES) -> list[int]:
    """The offsets of the chunks that it sends now."""
    sent = [transfer.next_message(0, CHUNK_BYTES, credit_bytes) for _ in range(chunks)]
    return [message[0].offset for message in sent if message is not None and isinstance(message[0], Chunk)]


def begin(transfer: Transfer, held=()) -> None:
    transfer.next_message(0, CHUNK_BYTES, SIZE_BYTES)
    transfer.on_state(held)


def test_a_partial_that_the_receiver_drops_costs_one_offer_however_many_chunks_were_on_their_way(world):
    car, key = world.car, None
    while len(car.up) < CHUNKS:  # OFFER, STATE, and a window full of chunks
        world.receiver_works()
        car.hears()
        car.sends()
    (partial,) = world.store.catalogue.partials()
    world.store.drop(key := partial.key, world.wall_ns())
    offers_before = world.reception.received["OFFER"]
    for frames in car.arrived_at_receiver():
        world.reply(world.reception.handle(car.name, frames, world.wall_ns()))
        car.hears()
        car.sends()  # at once: what is still on its way is refused after the new OFFER went out
    for _ in range(20):
        world.step()
    assert world.reception.nacks["unknown_clip"] == CHUNKS
    assert world.reception.received["OFFER"] == offers_before + 1
    assert world.stored() == {key.n}, "and it was not set aside for a minute"


def nack(transfer: Transfer, code: str, offset: int = 0) -> Nack:
    return Nack(code, "", transfer.clip.n, transfer.digest, offset)


@pytest.mark.parametrize("code", ["unknown_clip", "too_fragmented", "bad_chunk_hash", "too_fast", "storage"])
def test_a_nack_of_a_chunk_that_is_not_under_way_says_nothing(transfer, code):
    assert not transfer.is_meant(nack(transfer, code, 500)), "nothing is"
    begin(transfer)
    assert not transfer.is_meant(nack(transfer, code, 500))
    assert send(transfer, 2) == [0, 500]
    assert transfer.is_meant(nack(transfer, code, 500))
    assert transfer.is_meant(nack(transfer, code, 0))
    transfer.restart()
    assert not transfer.is_meant(nack(transfer, code, 500))
    assert not transfer.is_meant(nack(transfer, code, 0)), "it is offered again already"


@pytest.mark.parametrize(
    ("code", "answers_an_offer"),
    [("malformed", True), ("storage", True), ("too_fast", True), ("unknown_clip", False), ("too_fragmented", False)],
)
def test_an_offer_is_refused_by_what_receivers_refuse_offers_with(transfer, code, answers_an_offer):
    transfer.next_message(0, CHUNK_BYTES, SIZE_BYTES)
    assert transfer.phase is Phase.OFFERED
    assert transfer.is_meant(nack(transfer, code)) is answers_an_offer


@pytest.mark.parametrize("code", ["unknown_clip", "bad_file_hash", "storage", "too_fast"])
def test_a_commit_and_a_flush_are_refused_without_an_offset(transfer, code):
    begin(transfer)
    assert send(transfer, 1) == [0]
    transfer.on_ack([(0, 500)], 0)
    assert send(transfer, 1) == [500]
    assert transfer.is_meant(nack(transfer, code)), "what was written could not be made durable"
    transfer.on_state([(0, SIZE_BYTES)])
    transfer.next_message(0, CHUNK_BYTES, SIZE_BYTES)
    assert transfer.phase is Phase.COMMITTED
    assert transfer.is_meant(nack(transfer, code))


def test_what_an_ack_names_after_the_state_is_not_sent_again(transfer):
    begin(transfer, [(0, 1000)])  # two more chunks were written then, and not durable yet
    assert send(transfer, 1) == [1000]
    transfer.on_ack([(0, 2250), (3000, 3500)], 0)
    assert send(transfer, 5) == [2250, 2750, 3500, 4000, 4500]
    assert transfer.under_way_bytes == 500 + 250 + 3 * 500
    transfer.on_ack([(0, SIZE_BYTES)], 0)
    transfer.next_message(0, CHUNK_BYTES, SIZE_BYTES)
    assert transfer.phase is Phase.COMMITTED


def test_a_new_session_sends_none_of_what_was_written_and_not_yet_durable(world):
    car = world.car
    while len(car.up) < CHUNKS:
        world.receiver_works()
        car.hears()
        car.sends()
    for frames in car.arrived_at_receiver():
        world.reply(world.reception.handle(car.name, frames, world.wall_ns()))
    sent_before = car.delivery.statistics.bytes_sent
    car.connect()
    car.sends()
    for _ in range(2):  # HELLO, OFFER: answered before the chunks are flushed
        for frames in car.arrived_at_receiver():
            world.reply(world.reception.handle(car.name, frames, world.wall_ns()))
        car.hears()
        if not any(transfer.phase in SENDING for transfer in car.delivery._transfers.values()):
            car.sends()
    world.reply(world.reception.flush(world.wall_ns()))
    car.hears()
    for _ in range(20):
        world.step()
    assert world.stored() == {1}
    assert car.delivery.statistics.bytes_sent == sent_before == SIZE_BYTES
