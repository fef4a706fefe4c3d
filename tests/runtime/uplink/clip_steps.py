"""A clip, and the steps by which tests without sockets take it into a receiver's folder."""

from __future__ import annotations

import hashlib

from runtime.uplink.catalogue import ClipKey, PartialRow
from runtime.uplink.reception import Reception
from runtime.uplink.store import ClipStore
from runtime.uplink.wire import Chunk, encode

CONTENT = bytes(range(256)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOW_NS = 1_700_000_000 * 1_000_000_000  # 2023-11-14 UTC
DIGEST = bytes.fromhex(SHA256)


def row(n: int = 1, content: bytes = CONTENT, vehicle: str = "car-1") -> PartialRow:
    key = ClipKey(vehicle, n, hashlib.sha256(content).hexdigest())
    return PartialRow(key, len(content), "normal", "{}", (), None)


def fill(store: ClipStore, offered: PartialRow, content: bytes = CONTENT) -> None:
    store.offer(offered, NOW_NS)
    store.write(offered.key, 0, content, NOW_NS)
    store.flush(NOW_NS)


def chunk(offset: int, data: bytes, hashed: bytes | None = None) -> list[bytes]:
    return [encode(Chunk(1, DIGEST, offset, hashlib.sha256(data if hashed is None else hashed).digest())), data]


def answer(reception: Reception, frames: list[bytes], vehicle: str = "car-1"):
    ((to, message, _),) = reception.handle(vehicle, frames, NOW_NS)
    assert to == vehicle
    return message
