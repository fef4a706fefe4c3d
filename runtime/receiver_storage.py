"""What a receiver's configuration says of its storage, for the receiver itself and for questions to its catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runtime.campaigns.serving import CampaignFiles, read_reports
from runtime.config.receiver_config import ReceiverConfig
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage.belonging import check_belongs
from runtime.uplink.storage.depot import Depot
from runtime.uplink.storage.opening import StoragePlaces, open_catalogue, open_depot
from runtime.uplink.storage.removal import DAY_NS, RetentionPolicy
from runtime.uplink.storage.reports import record_report, reports

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
def opened(config: ReceiverConfig, removes: bool = False) -> Iterator[tuple[Catalogue, Depot]]:
    """Catalogue and bytes, beside receivers that run. Raises OSError.

    Whoever `removes` something has to name the place and the catalogue that belong together.
    """
    places = places_of(config)
    if places.catalogue_url is None and not (places.directory / "catalogue.sqlite").exists():
        raise FileNotFoundError(f"{places.directory} holds no catalogue: no receiver has run there yet")
    catalogue = open_catalogue(places)
    try:
        depot = open_depot(places)
        try:
            if removes:
                check_belongs(catalogue.database, depot)
            yield catalogue, depot
        finally:
            depot.close()
    finally:
        catalogue.close()


class SharedCampaignDesk:
    """Campaign files of one receiver, reports in the catalogue of all: a `CampaignDesk` of the uplink."""

    def __init__(self, files: CampaignFiles, places: StoragePlaces) -> None:
        self._files = files
        self._catalogue = open_catalogue(places)

    def part(self, path: str, offset: int, length: int) -> tuple[int, bytes] | None:
        """The file's length and a part of it; None when there is no such file."""
        return self._files.part(path, offset, length)

    def record(self, vehicle: str, report: bytes, wall_ns: int) -> None:
        """Keep a vehicle's report. Raises OSError."""
        record_report(self._catalogue.database, vehicle, report, wall_ns)


def campaign_desk(config: ReceiverConfig) -> CampaignFiles | SharedCampaignDesk | None:
    """What answers vehicles about campaigns; None when none are served. Raises OSError."""
    if config.campaigns is None:
        return None
    files = CampaignFiles(config.campaigns, config.reports_directory)
    return files if config.catalogue is None else SharedCampaignDesk(files, places_of(config))


def campaign_reports(config: ReceiverConfig) -> list[dict[str, Any]]:
    """What vehicles reported last, wherever this configuration keeps it. Raises OSError."""
    if config.catalogue is None:
        return read_reports(config.reports_directory)
    catalogue = open_catalogue(places_of(config))
    try:
        return reports(catalogue.database)
    finally:
        catalogue.close()
