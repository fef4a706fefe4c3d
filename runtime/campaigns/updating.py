"""One look at the fleet's repository, on the vehicle: metadata, index, campaigns, checks, the switch.

    outcome = CampaignUpdate(shelf, vehicle, root, check, settings).run(puller, wall_ns, now_ns)

1. `tuf.ngclient.Updater` walks root -> timestamp -> snapshot -> targets: signatures by threshold, expiry, rollback,
   lengths and hashes. Dates are judged twice: by python-tuf against the vehicle's clock, and here against the
   reference clock, which cannot be set back.
2. The index says which campaigns are out. One that is for this vehicle and newer than what it has is downloaded,
   every file against its signed length and hash, into `incoming`; its document and rules are checked by the loaders
   that the runtime uses; then it moves onto the shelf.
3. The switch is replaced once, with everything that was taken in this round.

A refusal of step 1 changes nothing. A refusal of one campaign in step 2 leaves that campaign as it was (the old
version goes on) and the others are looked at. A campaign that is no longer in the signed index was withdrawn, and
ends; one that has expired ends too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timezone
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from runtime.campaigns.contents import MAX_CAMPAIGN_BYTES, MAX_FILE_BYTES
from runtime.campaigns.document import CAMPAIGN_FILE, Campaign, load_campaign
from runtime.campaigns.fetching import Puller, PullFetcher, UpdateAllowance
from runtime.campaigns.index import (
    INDEX_TARGET,
    MAX_INDEX_BYTES,
    IndexEntry,
    IndexFormatError,
    decode_index,
)
from runtime.campaigns.outcome import UpdateOutcome
from runtime.campaigns.reasons import CampaignRefusedError, refusal
from runtime.campaigns.reference_clock import ReferenceClock
from runtime.campaigns.shelf import ActiveCampaign, Shelf, StoredCampaign, content_digest
from runtime.formats.documents import DocumentError
from runtime.formats.durable_files import sync_file

#: Campaigns that one vehicle runs at a time.
MAX_ACTIVE = 32
#: Refusals that are remembered so that the same bytes are not fetched again in vain.
MAX_REMEMBERED = 256
CONFIG = UpdaterConfig(
    max_root_rotations=32,
    max_delegations=0,
    root_max_length=256_000,
    timestamp_max_length=16_384,
    snapshot_max_length=256_000,
    targets_max_length=5_000_000,
)
#: Stands for the shelf where a refusal names a campaign.
MEND = "shelf"
METADATA_ROLES = ("root", "timestamp", "snapshot", "targets")

#: Looks at a campaign's folder together with what would be active beside it. Raises DocumentError or a refusal.
CheckContents = Callable[[Path, Campaign, Sequence[StoredCampaign]], None]
#: Labels of the campaigns that the runtime says it runs; none while it says nothing.
Runs = Callable[[], Collection[str]]


class CampaignUpdate:
    """Made once; `run` is one look."""

    def __init__(
        self,
        shelf: Shelf,
        vehicle: str,
        root: bytes,
        check: CheckContents,
        allowance: UpdateAllowance | None = None,
        runs: Runs = frozenset,
    ) -> None:
        self._shelf = shelf
        self._vehicle = vehicle
        self._root = root
        self._check = check
        self._allowance = allowance or UpdateAllowance()
        self._runs = runs
        self._clock = ReferenceClock(shelf.clock_path)
        self._refused: dict[tuple[str, ...], CampaignRefusedError] = {}

    def run(self, puller: Puller, wall_ns: int, now_ns: int) -> UpdateOutcome:
        """Look once. Never raises for what the server, its files or the shelf hold; what was active stays then."""
        outcome = UpdateOutcome(wall_ns)
        try:
            outcome.wall_ns = self._clock.judge(wall_ns, now_ns)
            for damage in self._shelf.mend():
                outcome.refuse(MEND, damage)
            self._shelf.tidy()
            self._look(puller, outcome)
        except CampaignRefusedError as error:
            outcome.refuse("", error)
        except (RepositoryError, DownloadError, OSError) as error:
            outcome.refuse("", refusal(error))
        return outcome

    def _look(self, puller: Puller, outcome: UpdateOutcome) -> None:
        fetcher = PullFetcher(puller, self._allowance)
        try:
            updater = Updater(
                str(self._shelf.trusted), "metadata", str(self._shelf.incoming), "targets", fetcher, CONFIG,
                bootstrap=self._root,
            )  # fmt: skip
            updater.refresh()
            self._judge_dates(outcome)
            listed = self._index(updater)
            active = self._select(updater, listed, outcome)
        finally:
            outcome.received_bytes = fetcher.received_bytes
        if active != self._shelf.active():
            self._shelf.activate(active)
            self._shelf.tidy()

    def _judge_dates(self, outcome: UpdateOutcome) -> None:
        """The dates of what was verified, against time that cannot be set back."""
        now = datetime.fromtimestamp(outcome.wall_ns / 1e9, timezone.utc)
        for role in METADATA_ROLES:
            path = self._shelf.trusted / f"{role}.json"
            signed = Metadata.from_file(str(path)).signed
            outcome.versions[role] = signed.version
            if signed.is_expired(now):
                raise CampaignRefusedError("expired", f"{role}.json has been out of date since {signed.expires}")
            sync_file(path)

    def _index(self, updater: Updater) -> list[IndexEntry]:
        target = self._target(updater, INDEX_TARGET, MAX_INDEX_BYTES)
        path = self._shelf.incoming / "index.json"
        updater.download_target(target, str(path))
        try:
            return decode_index(path.read_bytes())
        except IndexFormatError as error:
            raise CampaignRefusedError("bad_campaign", str(error)) from error
        finally:
            path.unlink()

    def _target(self, updater: Updater, name: str, most_bytes: int) -> TargetFile:
        target = updater.get_targetinfo(name)
        if target is None:
            raise CampaignRefusedError("missing", f"{name} is not among the signed files")
        if target.length > most_bytes:
            raise CampaignRefusedError("too_large", f"{name} has {target.length} bytes, at most {most_bytes} are taken")
        if "sha256" not in target.hashes:
            raise CampaignRefusedError("malformed", f"{name} is signed without its SHA-256")
        return target

    # Which campaigns

    def _select(self, updater: Updater, listed: Sequence[IndexEntry], outcome: UpdateOutcome) -> list[ActiveCampaign]:
        """What is to be active: campaigns that go on, and new ones that were taken."""
        by_name = {entry.name: entry for entry in listed}
        before = {campaign.current.name: campaign for campaign in self._shelf.active()}
        kept = {name: campaign for name, campaign in before.items() if self._goes_on(campaign, by_name, outcome)}
        for entry in listed:
            if entry.name not in kept and not entry.is_for(self._vehicle):
                outcome.not_ours += 1
                continue
            try:
                taken = self._consider(updater, entry, kept, outcome)
            except CampaignRefusedError as error:
                outcome.refuse(entry.label, error)
            except (RepositoryError, DownloadError, OSError) as error:
                outcome.refuse(entry.label, refusal(error))
            else:
                kept |= {entry.name: taken} if taken is not None else {}
        return list(kept.values())

    def _goes_on(self, campaign: ActiveCampaign, listed: dict[str, IndexEntry], outcome: UpdateOutcome) -> bool:
        stored = campaign.current
        if stored.name not in listed:
            outcome.ended[stored.label] = "withdrawn"
            return False
        try:
            _, document = self._shelf.open_verified(stored)
        except CampaignRefusedError as error:
            outcome.refuse(stored.label, error)
            return False  # fetched again below: the index still lists it
        if outcome.wall_ns >= document.expires_wall_ns:
            outcome.ended[stored.label] = "expired"
            return False
        return True

    def _consider(
        self, updater: Updater, entry: IndexEntry, kept: dict[str, ActiveCampaign], outcome: UpdateOutcome
    ) -> ActiveCampaign | None:
        """The campaign if it is to be taken; None when there is nothing to do. Raises why it is refused."""
        running = kept.get(entry.name)
        if running is not None and running.current.version == entry.version:
            self._check_unchanged(updater, entry, running.current)
            return None
        known_version, known_digest = self._highest(entry.name, running)
        if outcome.wall_ns >= entry.expires_wall_ns:
            if running is None and entry.version == known_version:
                return None  # it was here and ended, which was told then
            raise CampaignRefusedError("campaign_expired", f"{entry.label} is over")
        if not entry.is_for(self._vehicle):
            raise CampaignRefusedError("wrong_vehicle", f"{entry.label} is for {', '.join(entry.vehicles)[:200]}")
        if entry.version < known_version:
            raise CampaignRefusedError(
                "campaign_rollback", f"{entry.label} is older than version {known_version}, which this vehicle has had"
            )
        if running is None and len(kept) >= MAX_ACTIVE:
            raise CampaignRefusedError("too_large", f"a vehicle runs at most {MAX_ACTIVE} campaigns")
        targets = self._targets(updater, entry)
        digest = signed_digest(targets)
        if entry.version == known_version and digest != known_digest:
            raise CampaignRefusedError("campaign_changed", f"{entry.label} has other content than it had")
        others = [campaign.current for name, campaign in kept.items() if name != entry.name]
        stored = self._fetch(updater, entry, targets, others, outcome)
        outcome.taken.append(entry.label)
        return ActiveCampaign(stored, self._fallback(running), outcome.wall_ns)

    def _fallback(self, running: ActiveCampaign | None) -> StoredCampaign | None:
        """What to go on with should the runtime not take the new version over.

        The one before the last, where that still runs because the runtime refuses the last or waits for its start: two
        bad versions in a row must not cost the good one before them.
        """
        if running is None:
            return None
        before, runs = running.previous, self._runs()
        if before is not None and before.label in runs and running.current.label not in runs:
            return before
        return running.current

    def _highest(self, name: str, running: ActiveCampaign | None) -> tuple[int, str]:
        """The highest version that this vehicle has had, and its digest."""
        known = self._shelf.versions().get(name, (0, ""))
        if running is None or running.current.version <= known[0]:
            return known
        return running.current.version, running.current.digest

    def _check_unchanged(self, updater: Updater, entry: IndexEntry, stored: StoredCampaign) -> None:
        if signed_digest(self._targets(updater, entry)) != stored.digest:
            raise CampaignRefusedError("campaign_changed", f"{entry.label} has other content than it had")

    def _targets(self, updater: Updater, entry: IndexEntry) -> dict[str, TargetFile]:
        targets = {file: self._target(updater, entry.target(file), MAX_FILE_BYTES) for file in entry.files}
        total_bytes = sum(target.length for target in targets.values())
        if total_bytes > MAX_CAMPAIGN_BYTES:
            raise CampaignRefusedError("too_large", f"{entry.label} has {total_bytes} bytes")
        return targets

    # One campaign

    def _fetch(
        self,
        updater: Updater,
        entry: IndexEntry,
        targets: dict[str, TargetFile],
        others: Sequence[StoredCampaign],
        outcome: UpdateOutcome,
    ) -> StoredCampaign:
        """Download, check and shelve. What was refused for its content is not downloaded again for the same answer."""
        question = (signed_digest(targets), *sorted(other.digest for other in others))
        if question in self._refused:
            raise self._refused[question]
        folder = self._shelf.place_for(entry.name, entry.version)
        for file, target in targets.items():
            updater.download_target(target, str(folder / file))
        try:
            self._check_document(folder, entry, others, outcome)
        except CampaignRefusedError as error:
            if len(self._refused) < MAX_REMEMBERED:
                self._refused[question] = error
            raise
        return self._shelf.keep(folder, entry.name, entry.version)

    def _check_document(
        self, folder: Path, entry: IndexEntry, others: Sequence[StoredCampaign], outcome: UpdateOutcome
    ) -> None:
        try:
            campaign = load_campaign(folder)
        except DocumentError as error:
            raise CampaignRefusedError("bad_campaign", str(error)) from error
        if (campaign.name, campaign.version) != (entry.name, entry.version):
            raise CampaignRefusedError("bad_campaign", f"{entry.label} says that it is {campaign.label}")
        if {CAMPAIGN_FILE, *campaign.files} != set(entry.files):
            raise CampaignRefusedError("bad_campaign", f"{entry.label} lists other files than the index")
        if not campaign.is_for(self._vehicle):
            raise CampaignRefusedError("wrong_vehicle", f"{entry.label} is for {', '.join(campaign.vehicles)[:200]}")
        if outcome.wall_ns >= campaign.expires_wall_ns:
            raise CampaignRefusedError("campaign_expired", f"{entry.label} ended before it came")
        try:
            self._check(folder, campaign, others)
        except DocumentError as error:
            raise CampaignRefusedError("bad_rules", str(error)) from error


def signed_digest(targets: dict[str, TargetFile]) -> str:
    """The digest that a campaign of these signed files will have on the shelf."""
    return content_digest({file: target.hashes["sha256"] for file, target in targets.items()})
