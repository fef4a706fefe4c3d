"""One catalogue describes one place; receivers that name two that do not belong together do not start, nor erase."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_steps import CONTENT, NOW_NS, hold, row, stored, take_in

from runtime.cli import main
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.ranges import RangeSet
from runtime.uplink.storage.database import CatalogueError, CatalogueSetupError
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.object_depot import ObjectDepot
from runtime.uplink.store import ClipStore

CONFIG = """\
bind: tcp://127.0.0.1:*
directory: {directory}
catalogue: {database}
"""


def in_folder(directory: Path, database: str) -> ClipStore:
    return ClipStore(directory, StoreLimits(), FolderDepot(directory), Catalogue(database))


def test_a_receiver_with_another_folder_harms_nothing_of_a_shared_catalogue(postgres, tmp_path, settled, capsys):
    database = postgres.new_database()
    first, second = (in_folder(tmp_path / name, database) for name in ("a", "b"))
    first.recover(NOW_NS)
    take_in(first, settled, row(1))
    hold(first, row(2), CONTENT[:100])
    with pytest.raises(CatalogueSetupError, match="receivers that share a catalogue share a bucket"):
        second.recover(NOW_NS)
    config = tmp_path / "wrong.yaml"
    config.write_text(CONFIG.format(directory=tmp_path / "b", database=database))
    erase = ["catalogue", "erase", "--config", str(config), "--vehicle", "car-1", "--reason", "request"]
    span = ["--from", "2000-01-01", "--to", "2040-01-01"]
    assert main([*erase, *span]) == 1
    assert "belong together" in capsys.readouterr().err
    assert stored(first) == [("car-1", 1, CONTENT)]
    assert first.offer(row(2), NOW_NS) == RangeSet([(0, 100)])
    config.write_text(CONFIG.format(directory=tmp_path / "a", database=database))
    assert main([*erase, *span]) == 0
    assert list((tmp_path / "a/clips").rglob("*.mcap")) == []
    for store in (first, second):
        store.close()


def test_a_copy_of_a_folder_does_not_work_beside_the_folder(postgres, tmp_path):
    database = postgres.new_database()
    first, second = (in_folder(tmp_path / name, database) for name in ("a", "b"))
    first.recover(NOW_NS)
    second.depot.take_identity(first.depot.identity())
    with pytest.raises(CatalogueError, match="in use by another receiver"):
        second.recover(NOW_NS)
    first.close()
    second.recover(NOW_NS)
    second.close()


def test_a_bucket_is_no_second_catalogues(object_server, tmp_path):
    place = (object_server.new_bucket(), object_server.options)
    for name, refusal in (("a", ""), ("a", ""), ("b", "has no depot yet")):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        store = ClipStore(directory, StoreLimits(), ObjectDepot(*place, directory))
        if refusal:
            with pytest.raises(CatalogueSetupError, match=refusal):
                store.recover(NOW_NS)
        else:
            store.recover(NOW_NS)
        store.close()


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_first_start_that_was_cut_short_goes_on(fleet, monkeypatch, cut):
    store = fleet.receiver()
    take = store.depot.take_identity

    def cut_short(identity: str) -> None:
        if cut == "after":
            take(identity)
        raise CatalogueError("the database has gone away")

    monkeypatch.setattr(store.depot, "take_identity", cut_short)
    with pytest.raises(CatalogueError, match="gone away"):
        store.recover(NOW_NS)
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS)
    named = store.depot.identity()
    fleet.kill(store)
    store = fleet.receiver()
    store.recover(NOW_NS)
    assert named is not None
    assert store.depot.identity() == named
