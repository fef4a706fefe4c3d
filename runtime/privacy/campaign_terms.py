"""What signed campaigns say of privacy: zones to stay out of, and firings that may go home raw.

Read from the shelf, whose files are hashed against the switch each time that it changes. It fails closed: a campaign
that cannot be read may have brought a zone, so while there is one, there are no clips. A switch that is gone although
there once was one (it was damaged and set aside) counts the same, until the uploader's next look brings it again.
Zones hold for as long as their campaign is on the shelf: a clock that jumps ahead must not end them. The version before
the current one counts until the current one begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime.campaigns.document import Campaign
from runtime.campaigns.reasons import CampaignRefusedError
from runtime.campaigns.shelf import Shelf, StoredCampaign
from runtime.formats.documents import DocumentError
from runtime.privacy.zones import ExclusionZone, load_zones


class CampaignTermsError(Exception):
    """What campaigns ask for cannot be known; the text says why."""


@dataclass(frozen=True, slots=True)
class CampaignTerms:
    """One campaign's part."""

    campaign: Campaign
    zones: tuple[ExclusionZone, ...]
    replaced_wall_ns: int | None = None  # when the version after it begins; None: it is the current one

    def lifts(self, what: str, wall_ns: int) -> bool:
        """Whether firings of this campaign at this moment may go home with raw `video` or `location`."""
        return what in self.campaign.raw and self.campaign.is_current(wall_ns)


class CampaignsOnShelf:
    """Belongs to the recorder's thread."""

    def __init__(self, directory: Path, vehicle: str) -> None:
        self._shelf = Shelf(directory)
        self._vehicle = vehicle
        self._seen: tuple[int, int, int] | None = None
        self._terms: dict[str, CampaignTerms] = {}

    def terms(self) -> dict[str, CampaignTerms]:
        """By label, of the active campaigns and the versions before them. CampaignTermsError, OSError."""
        seen = self._state()
        if seen is None:
            self._must_be_new()
            self._terms = {}
        elif seen != self._seen:
            self._terms = self._read()
        self._seen = seen
        return self._terms

    def zones(self, wall_ns: int) -> list[ExclusionZone]:
        """Zones in force; those to come count already. As `terms`."""
        in_force = (
            each for each in self.terms().values() if each.replaced_wall_ns is None or wall_ns < each.replaced_wall_ns
        )
        return [zone for each in in_force for zone in each.zones]

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._shelf.active_path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _must_be_new(self) -> None:
        directory = self._shelf.directory
        past = [*directory.glob("versions.*"), *directory.glob("active.*")]
        if past:
            raise CampaignTermsError(f"{self._shelf.active_path} is gone, and {past[0].name} says that there was one")

    def _read(self) -> dict[str, CampaignTerms]:
        found = {}
        try:
            for active in self._shelf.active():
                current = self._open(active.current)
                found[active.current.label] = current
                if active.previous is not None:
                    found[active.previous.label] = self._open(active.previous, current.campaign.starts_wall_ns)
        except (CampaignRefusedError, DocumentError) as error:
            raise CampaignTermsError(f"a campaign cannot be read: {error}") from error
        return found

    def _open(self, stored: StoredCampaign, replaced_wall_ns: int | None = None) -> CampaignTerms:
        folder, campaign = self._shelf.open_verified(stored)
        is_ours = campaign.is_for(self._vehicle)
        paths = campaign.exclusion_zones if is_ours else ()
        zones = [zone for path in paths for zone in load_zones(folder / path, campaign.label)]
        return CampaignTerms(campaign, tuple(zones), replaced_wall_ns)
