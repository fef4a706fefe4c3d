"""Clips, and the steps by which the storage's tests take them in and look at what is there."""

from __future__ import annotations

import hashlib
import json

from runtime.uplink.catalogue import ClipKey, PartialRow
from runtime.uplink.storage.accounts import charge_of
from runtime.uplink.storage.depot import IDENTITY_NAME
from runtime.uplink.storage.removal import empty_deletions

CONTENT = bytes(range(256)) * 40
#: What a clip of it, without metadata, is charged.
CHARGED = charge_of(len(CONTENT), "{}")
NOW_NS = 1_700_000_000 * 1_000_000_000  # 2023-11-14 UTC
HOUR_NS = 3600 * 1_000_000_000
SOMEBODY = "somebody@office"


def row(n: int = 1, content: bytes = CONTENT, vehicle: str = "car-1", **metadata: object) -> PartialRow:
    key = ClipKey(vehicle, n, hashlib.sha256(content).hexdigest())
    priority = str(metadata.get("priority", "normal"))
    return PartialRow(key, len(content), priority, json.dumps(metadata), (), None)


def hold(store, offered: PartialRow, content: bytes = CONTENT, wall_ns: int = NOW_NS) -> None:
    """Offer, write and flush: the store has these bytes, and said so."""
    store.offer(offered, wall_ns)
    store.write(offered.key, 0, content, wall_ns)
    store.flush(wall_ns)


def take_in(store, settled, offered: PartialRow, content: bytes = CONTENT, wall_ns: int = NOW_NS) -> object:
    """Offer, write, flush and commit."""
    hold(store, offered, content, wall_ns)
    return settled(store, store.commit(offered.key, wall_ns))


def stored(store) -> list[tuple[str, int, bytes]]:
    """Every stored clip with its bytes."""
    found = []
    for clip in store.catalogue.clips(store.directory):
        with store.depot.local_copy(clip.name) as path:
            found.append((clip.key.vehicle, clip.key.n, path.read_bytes()))
    return found


def everything_but(store, names: set[str]) -> list[str]:
    """What lies in the depot beside these names; a catalogue, the lock and the depot's own name are no clips."""
    if store.depot.is_exclusive:
        files = (path for part in ("partial", "clips") for path in (store.directory / part).rglob("*"))
        found = {str(path.relative_to(store.directory)) for path in files if path.is_file()}
    else:
        import obstore

        found = {entry["path"] for page in obstore.list(store.depot._store) for entry in page}
    return sorted(found - names - {IDENTITY_NAME})


def tidy(store, wall_ns: int) -> None:
    while empty_deletions(store.catalogue.database, store.depot, wall_ns):
        pass


def stamped(n: int, start_hour: int, **metadata: object) -> PartialRow:
    start_ns = NOW_NS + start_hour * HOUR_NS
    return row(n, start_wall_ns=start_ns, end_wall_ns=start_ns + 10_000_000_000, **metadata)
