"""What clips under way will still bring is known without reading the rows of the whole fleet for every message."""

from __future__ import annotations

import random

import pytest
from clip_steps import CONTENT, NOW_NS, row
from sqlalchemy import event

from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.disk_room import READ_PERIOD_NS
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.store import ClipStore, RefusedError


def test_no_message_reads_the_clips_under_way_of_other_vehicles(store):
    store.recover(NOW_NS)
    asked: list[str] = []
    event.listen(
        store.catalogue.database._engine, "before_cursor_execute",
        lambda connection, cursor, statement, *rest: asked.append(" ".join(statement.split())),
    )  # fmt: skip
    for number in range(5):
        offered = row(vehicle=f"car-{number}")
        store.offer(offered, NOW_NS + number * READ_PERIOD_NS)
        store.write(offered.key, 0, CONTENT, NOW_NS)
        store.flush(NOW_NS)
        store.missing(offered.key)
        assert store.commit(offered.key, NOW_NS)
    of_all = [
        text for text in asked if "FROM partials" in text and "vehicle =" not in text and "partials.id =" not in text
    ]
    assert len(asked) > 50
    assert of_all == []


def test_the_running_sum_equals_the_rows_whatever_happened(tmp_path):
    limits = StoreLimits(vehicle_partials=2, disk_reserve_bytes=0)
    store = ClipStore(tmp_path, limits, FolderDepot(tmp_path, lambda _: 1 << 40))
    store.recover(NOW_NS)
    rng, sums = random.Random(3), set()
    offered = [row(n, bytes([n]) * 1000, f"car-{n % 3}") for n in range(1, 13)]
    for step in range(300):
        clip = rng.choice(offered)
        content = bytes([clip.key.n]) * 1000
        what = rng.choice(["offer", "offer", "write", "write", "write", "commit", "wrong", "entomb", "drop", "restart"])
        try:
            if what == "offer":
                store.offer(clip, NOW_NS + step)
            elif what == "write":
                start = rng.randrange(0, 1000, 250)
                store.write(clip.key, start, content[start : start + 500], NOW_NS)
            elif what == "commit":
                store.missing(clip.key) or store.commit(clip.key, NOW_NS + step)
            elif what == "wrong":
                store.write(clip.key, 0, bytes(1000), NOW_NS)
                store.flush(NOW_NS + step)
                store.commit(clip.key, NOW_NS + step)
            elif what == "drop":
                store.drop(clip.key, NOW_NS + step)
            elif what == "entomb" and step % 3 == 0:
                store.entomb(clip.key.vehicle, clip.key.n, "evicted", NOW_NS + step)
            elif what == "restart" and step % 5 == 0:
                store.close()
                store = ClipStore(tmp_path, limits, FolderDepot(tmp_path, lambda _: 1 << 40))
                store.recover(NOW_NS + step)
        except RefusedError:
            pass
        store.flush(NOW_NS + step)
        in_rows = sum(store.catalogue.missing_bytes(NOW_NS + step).values())
        assert store._room.coming_bytes == in_rows, (step, what)
        sums.add(in_rows)
    assert len(sums) > 10
    store.close()


def test_what_somebody_else_removed_keeps_room_for_a_minute_at_most(tmp_path):
    disk = FolderDepot(tmp_path, lambda _: 3 * len(CONTENT) // 2)
    store = ClipStore(tmp_path, StoreLimits(disk_reserve_bytes=0), disk)
    store.recover(NOW_NS)
    store.offer(row(1), NOW_NS)
    beside = Catalogue(tmp_path / "catalogue.sqlite")  # a person's, or housekeeping
    beside.drop_partial(beside.partials()[0], NOW_NS)
    beside.close()
    store.figures(NOW_NS + READ_PERIOD_NS - 1)
    with pytest.raises(RefusedError, match="receiver_full"):
        store.offer(row(2), NOW_NS)
    store.figures(NOW_NS + READ_PERIOD_NS)
    assert store.offer(row(2), NOW_NS) is not None
    store.close()
