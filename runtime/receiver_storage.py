"""What a receiver's configuration says of its storage, for the receiver itself and for questions to its catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.config.receiver_config import ReceiverConfig
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.opening import StoragePlaces, open_catalogue, open_depot
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy

SECONDS_PER_DAY = DAY_NS / 1e9


def places_of(config: ReceiverConfig) -> StoragePlaces:
    """Where the receiver keeps bytes and rows."""
    objects = config.objects
    return StoragePlaces(
        directory=config.directory,
        objects=None if objects is None else objects.url,
        object_options={} if objects is None else objects.options,
        object_credentials=None if objects is None else objects.credentials,
        catalogue_url=config.catalogue,
        catalogue_password=config.catalogue_password,
        reads_back=objects is None or objects.read_back,
    )


def retention_of(config: ReceiverConfig) -> RetentionPolicy:
    """When clips go."""
    retention = config.retention
    return RetentionPolicy(
        _days(retention.clips),
        {priority.value: _days(seconds) for priority, seconds in retention.by_priority.items()},
        _days(retention.unfinished),
    )


def _days(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / SECONDS_PER_DAY


@contextmanager
def opened(config: ReceiverConfig) -> Iterator[tuple[Catalogue, Depot]]:
    """Catalogue and bytes, beside receivers that run. Raises OSError."""
    places = places_of(config)
    if places.catalogue_url is None and not (places.directory / "catalogue.sqlite").exists():
        raise FileNotFoundError(f"{places.directory} holds no catalogue: no receiver has run there yet")
    catalogue = open_catalogue(places)
    try:
        depot = open_depot(places)
        try:
            yield catalogue, depot
        finally:
            depot.close()
    finally:
        catalogue.close()
