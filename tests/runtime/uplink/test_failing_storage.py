"""Disk and catalogue fail together, or a file goes: nothing is acknowledged that could be lost, and nobody ends."""

from __future__ import annotations

import os

import pytest
from clip_steps import CONTENT, DIGEST, NOW_NS, answer, chunk, fill, row

from runtime.uplink.ranges import RangeSet
from runtime.uplink.reception import Reception
from runtime.uplink.storage.database import CatalogueError
from runtime.uplink.store import RefusedError
from runtime.uplink.wire import Commit, Offer, encode


def failing_with(*arguments):
    """Something that raises, whatever it is called with."""

    def fail(*_: object) -> None:
        raise OSError(*arguments)

    return fail


def test_a_failed_fdatasync_beside_a_catalogue_that_fails_acknowledges_nothing_and_ends_nobody(store, monkeypatch):
    """The row could not be dropped: until it is, nobody may go on with that file, and no fsync of it counts."""
    fill(store, row(), CONTENT[:100])
    store.write(row().key, 100, CONTENT[100:], NOW_NS)
    reception = Reception(store, 8 << 20)
    monkeypatch.setattr(os, "fdatasync", failing_with(5, "Input/output error"))
    for name in ("drop_partial", "admit", "save_ranges"):
        monkeypatch.setattr(store.catalogue, name, failing_with("the database is away"))
    ((_, nack, _),) = reception.flush(NOW_NS)
    assert (nack.code, nack.n) == ("storage", 1)
    assert "Input/output error" in reception.troubles.last
    assert "the database is away" in reception.troubles.last
    monkeypatch.undo()
    monkeypatch.setattr(store.catalogue, "drop_partial", failing_with("the database is away"))
    for frames in (chunk(100, CONTENT[100:]), [encode(Commit(1, DIGEST)), b""]):
        assert answer(reception, frames).code == "unknown_clip", "the file is not touched again"
    assert answer(reception, [encode(Offer(1, DIGEST, len(CONTENT), "normal")), b"{}"]).code == "storage"
    monkeypatch.undo()
    assert store.offer(row(), NOW_NS) == RangeSet(), "all of it has to come again"
    fill(store, row())
    assert store.commit(row().key, NOW_NS)


def test_a_clip_whose_last_fsync_failed_while_the_catalogue_was_away_is_not_finished_from_that_file(store, monkeypatch):
    fill(store, row())
    monkeypatch.setattr("runtime.uplink.storage.folder_depot.sync_file", failing_with(5, "Input/output error"))
    monkeypatch.setattr(store.catalogue, "drop_partial", failing_with("the database is away"))
    with pytest.raises(OSError, match="the database is away"):
        store.commit(row().key, NOW_NS)
    monkeypatch.undo()
    with pytest.raises(RefusedError, match="unknown_clip"):
        store.commit(row().key, NOW_NS)
    assert store.offer(row(), NOW_NS) == RangeSet(), "another fsync of the same file might succeed, and mean nothing"


def test_a_catalogue_that_is_busy_as_a_clip_is_finished_costs_nothing_of_it(store, monkeypatch):
    """Only a failed fsync makes a file worth nothing; the catalogue's troubles are OSErrors too."""
    fill(store, row())

    def busy(*_: object) -> None:
        raise CatalogueError("database is locked")

    monkeypatch.setattr(store.catalogue, "segments", busy)
    with pytest.raises(CatalogueError, match="database is locked"):
        store.commit(row().key, NOW_NS)
    monkeypatch.undo()
    assert store.offer(row(), NOW_NS) == RangeSet([(0, len(CONTENT))]), "nothing has to come again"
    assert store.commit(row().key, NOW_NS)


@pytest.mark.parametrize("name", ["has", "drop_partial", "save_ranges"])
@pytest.mark.parametrize("with_disk", [False, True])
def test_a_flush_never_raises_whatever_fails(store, monkeypatch, name, with_disk):
    fill(store, row(), CONTENT[:100])
    store.write(row().key, 100, CONTENT[100:], NOW_NS)
    store.catalogue.drop_partial(store.catalogue.partial(row().key), NOW_NS)  # another receiver let it give way
    monkeypatch.setattr(store.catalogue, name, failing_with("the database is away"))
    if with_disk:
        monkeypatch.setattr(os, "fdatasync", failing_with(5, "Input/output error"))
    answers, failures = store.flush(NOW_NS)
    assert answers == []
    assert [key for key, _ in failures] == [row().key]


def test_a_partial_whose_file_vanished_has_to_come_again(store):
    fill(store, row(), CONTENT[:100])
    for path in (store.directory / "partial").iterdir():
        path.unlink()
    assert store.offer(row(), NOW_NS) == RangeSet(), "and is not asked for the rest for ever"
    fill(store, row())
    assert store.commit(row().key, NOW_NS)
