"""The receiver's storage in every combination of bytes and rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from storage_servers import ObjectServer, PostgresServer

from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.object_depot import ObjectDepot
from runtime.uplink.store import ClipStore

COMBINATIONS = [("folder", "sqlite"), ("folder", "postgresql"), ("objects", "sqlite"), ("objects", "postgresql")]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL server."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'shadowrig[fleet]'")
    server = PostgresServer()
    yield server
    server.end()


@pytest.fixture
def own_postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A PostgreSQL server for one test, to stop and to set up as it likes; its parameter: settings."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'shadowrig[fleet]'")
    server = PostgresServer(*getattr(request, "param", ()))
    yield server
    server.end()


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """A running S3-compatible server."""
    if importlib.util.find_spec("obstore") is None:
        pytest.skip("obstore is not installed: pip install 'shadowrig[fleet]'")
    server = ObjectServer()
    yield server
    server.end()


class Fleet:
    """One place for bytes and one for rows, with any number of receivers' stores over them."""

    def __init__(self, directory: Path, objects: tuple[str, dict] | None, database: str | None) -> None:
        self.directory = directory
        self.is_shared = objects is not None
        self._objects, self._database = objects, database
        self._stores: list[ClipStore] = []

    def receiver(self, limits: StoreLimits | None = None) -> ClipStore:
        """A further receiver's store, as at its start."""
        depot = FolderDepot(self.directory) if self._objects is None else ObjectDepot(*self._objects, self.directory)
        place = self.directory / "catalogue.sqlite" if self._database is None else self._database
        catalogue = Catalogue(place, upgrades=True)
        self._stores.append(ClipStore(self.directory, limits or StoreLimits(), depot, catalogue))
        return self._stores[-1]

    def kill(self, store: ClipStore) -> None:
        """What a SIGKILL leaves: nothing that was only in the process."""
        self._stores.remove(store)
        store.close()

    def end(self) -> None:
        for store in list(self._stores):
            self.kill(store)


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Every combination."""
    yield from made(request, tmp_path, *request.param)


@pytest.fixture(params=[("objects", "sqlite"), ("objects", "postgresql")], ids="-".join)
def shared_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Every combination that several receivers may share."""
    yield from made(request, tmp_path, *request.param)


@pytest.fixture(params=[("folder", "sqlite"), ("folder", "postgresql")], ids="-".join)
def folder_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Every combination that one receiver has to itself."""
    yield from made(request, tmp_path, *request.param)


def made(request: pytest.FixtureRequest, directory: Path, depot: str, catalogue: str) -> Iterator[Fleet]:
    objects = None
    if depot == "objects":
        server: ObjectServer = request.getfixturevalue("object_server")
        objects = (server.new_bucket(), server.options)
    database = request.getfixturevalue("postgres").new_database() if catalogue == "postgresql" else None
    fleet = Fleet(directory, objects, database)
    yield fleet
    fleet.end()


@pytest.fixture
def settled() -> Callable[[ClipStore, object], object]:
    """What a commit comes to, however long it takes."""

    def wait(store: ClipStore, returned: object) -> object:
        while returned is None:
            for _, outcome in store.finished():
                returned = outcome
        return returned

    return wait
