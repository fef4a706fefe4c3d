"""From a receiver's configuration to its store: which depot, which catalogue, with whose credentials.

Every receiver of a fleet is given the same places. Secrets are in files of their own that only their owner may read,
never in the configuration; what is left out there, obstore finds as its SDKs do (instance roles, AWS_* variables)
and libpq does (~/.pgpass, PGPASSFILE).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runtime.formats.private_files import mode_complaint
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.database import make_postgresql_url
from runtime.uplink.storage.depot import Depot, DepotSetupError
from runtime.uplink.storage.folder_depot import FolderDepot
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.object_depot import ObjectDepot
from runtime.uplink.store import ClipStore

MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoragePlaces:
    """Where a receiver keeps things. Without `objects` and `catalogue_url`: a folder and SQLite, in `directory`."""

    directory: Path
    objects: str | None = None
    object_options: Mapping[str, Any] = field(default_factory=dict)
    object_credentials: Path | None = None
    catalogue_url: str | None = None
    catalogue_password: Path | None = None
    reads_back: bool = True


def open_store(places: StoragePlaces, limits: StoreLimits) -> ClipStore:
    """A receiver's store, tried. Raises SetupError for what only a person can mend, OSError for what may pass."""
    try:
        depot = open_depot(places, takes_lock=True)
    except (PermissionError, NotADirectoryError) as error:
        raise DepotSetupError(f"{error} (fix: make {places.directory} the receiver's own)") from error
    try:
        depot.check()
        return ClipStore(places.directory, limits, depot, open_catalogue(places, upgrades=True))
    except BaseException:
        depot.close()
        raise


def open_depot(places: StoragePlaces, takes_lock: bool = False) -> Depot:
    """The depot; without the lock it can be used beside a running receiver, for reading and deleting."""
    if places.objects is None:
        return FolderDepot(places.directory, takes_lock=takes_lock)
    options = dict(places.object_options)
    if places.object_credentials is not None:
        options |= read_credentials(places.object_credentials)
    places.directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    return ObjectDepot(places.objects, options, places.directory, reads_back=places.reads_back)


def open_catalogue(places: StoragePlaces, upgrades: bool = False) -> Catalogue:
    """The catalogue, made when it is not there. One of an older schema is a receiver's to upgrade (`open_store`).

    Raises CatalogueSetupError, also for an older schema without `upgrades`; CatalogueError for what may pass.
    """
    if places.catalogue_url is None:
        return Catalogue(places.directory / "catalogue.sqlite", upgrades)
    url = make_postgresql_url(places.catalogue_url)
    if places.catalogue_password is not None:
        url = url.set(password=read_secret(places.catalogue_password).strip())
    return Catalogue(url, upgrades)


def read_secret(path: Path) -> str:
    """A file that only its owner may read. Raises DepotSetupError."""
    try:
        if complaint := mode_complaint(path):
            raise DepotSetupError(complaint)
        with path.open("rb") as stream:
            return stream.read(MAX_SECRET_BYTES).decode()
    except UnicodeDecodeError as error:
        raise DepotSetupError(f"{path} is no text") from error


def read_credentials(path: Path) -> dict[str, Any]:
    """Secret options of the object store: `access_key_id: …`, `secret_access_key: …`. Raises DepotSetupError."""
    try:
        found = yaml.safe_load(read_secret(path))
    except yaml.YAMLError as error:
        raise DepotSetupError(f"{path} is no YAML (fix: lines such as access_key_id: …)") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DepotSetupError(f"{path} holds no names and values (fix: lines such as access_key_id: …)")
    return found
