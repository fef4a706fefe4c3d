"""The uploader's second thread: looks for campaigns now and then, over the connection that delivers clips.

It only asks; the uploader's loop sends and receives (`runtime.uplink.exchange`). Whatever a look comes to, clips go
on: a refusal is written down and reported home, and the next look comes after the usual interval. Without a
connection it comes sooner.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.campaigns.contents import campaign_rules
from runtime.campaigns.document import Campaign
from runtime.campaigns.fetching import Part, UpdateAllowance
from runtime.campaigns.merging import merged
from runtime.campaigns.reasons import CampaignRefusedError, FetchError
from runtime.campaigns.shelf import Shelf, StoredCampaign
from runtime.campaigns.updating import CampaignUpdate
from runtime.campaigns.vehicle_status import VehicleStatus
from runtime.clock import Clock
from runtime.config.directories import Directories
from runtime.config.rig_config import RULE_LIBRARY, RigConfig
from runtime.declared_signals import declared_types
from runtime.formats.documents import DocumentError
from runtime.health.status import StatusError, read_status
from runtime.processes.shell import StartError, exit_code_of, log
from runtime.uplink.exchange import Exchange, ExchangeError
from runtime.uplink.wire import CampaignPart, CampaignQuestion, Result
from triggers.rules.loading import library_path, load_rules
from triggers.rules.rule import RuleSet

ANSWER_TIMEOUT_S = 15.0
#: After a look without an answer, the next comes so soon.
RETRY_S = 20.0
CAMPAIGNS_STATUS = "campaigns"


class ExchangePuller:
    """A `Puller` over the uplink."""

    def __init__(self, exchange: Exchange, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._exchange = exchange
        self._timeout_s = timeout_s

    def pull(self, path: str, offset: int, length: int) -> Part | None:
        """See `Puller`."""
        try:
            answer, data = self._exchange.ask(CampaignQuestion(path, offset, length), b"", self._timeout_s)
        except ExchangeError as error:
            raise FetchError("no_answer", str(error)) from error
        except ValueError as error:  # a path too long for a header
            raise FetchError("bad_path", f"{path!r:.100}: {error}") from error
        if not isinstance(answer, CampaignPart) or answer.state == "off":
            raise FetchError("unsupported", "the receiver serves no campaigns")
        return None if answer.state == "missing" else Part(answer.size_bytes, data)


def own_rules(config: RigConfig) -> RuleSet:
    """The vehicle's own rules, as the runtime loads them. Raises DocumentError."""
    places = [library_path() if place == RULE_LIBRARY else Path(place) for place in config.rules.files]
    return load_rules(places, declared_types(config.signals.declared))


class RulesCheck:
    """Whether a campaign's rules load, and fit beside the vehicle's own and those of the other campaigns."""

    def __init__(self, shelf: Shelf, config: RigConfig) -> None:
        self._shelf = shelf
        self._config = config

    def __call__(self, folder: Path, campaign: Campaign, others: Sequence[StoredCampaign]) -> None:
        rules, declared = own_rules(self._config), declared_types(self._config.signals.declared)
        for other in others:
            place, document = self._shelf.open_verified(other)
            rules = merged(rules, campaign_rules(place, document, declared), other.label)
        merged(rules, campaign_rules(folder, campaign, declared), campaign.label)


class CampaignPull:
    """`start`, then `stop` before the process leaves; `failure` says why the thread is gone."""

    def __init__(
        self, config: RigConfig, directories: Directories, exchange: Exchange, clock: Clock, root: bytes
    ) -> None:
        """Raises OSError when the shelf cannot be made."""
        settings = config.campaigns
        self._shelf = Shelf(directories.campaigns)
        self._exchange = exchange
        self._clock = clock
        self._interval_s = settings.check_interval_s
        self._runtime_status = directories.status / "runtime.json"
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="campaigns", daemon=True)
        self._shelf.create()
        self._status = VehicleStatus(self._shelf, config.vehicle.id)
        check = RulesCheck(self._shelf, config)
        allowance = UpdateAllowance(settings.max_bytes, settings.max_duration_s)
        self._update = CampaignUpdate(self._shelf, config.vehicle.id, root, check, allowance, self._labels_that_run)

    def start(self) -> None:
        """Begin; the first look comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a look under way is given up, which costs nothing but its downloads."""
        self._stop.set()
        self._exchange.close()
        if self._thread.ident is not None:
            self._thread.join()

    def raise_if_dead(self) -> None:
        """Whoever runs the uploader's loop asks: a dead thread is an error of the process."""
        if self.failure is not None:
            raise RuntimeError(f"the thread that looks for campaigns has died: {self.failure!r}") from self.failure

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the uploader's status."""
        return dict(self._status.facts)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._stop.wait(self._look())
        except BaseException as error:  # kept for the uploader's loop, which ends: nobody else can handle it
            self.failure = error

    def _look(self) -> float:
        """Look once, and report; seconds until the next time."""
        outcome = self._update.run(ExchangePuller(self._exchange), self._clock.wall_ns(), self._clock.now_ns())
        if self._stop.is_set():
            return 0.0
        for refused in outcome.refusals:
            log.warning("campaign %s refused: %s: %s", refused.campaign or "update", refused.reason, refused.detail)
        for label in outcome.taken:
            log.info("campaign %s is active", label)
        try:
            self._status.add(outcome, self._shelf.active())
        except (OSError, CampaignRefusedError) as error:
            # A full disk must not stop the clips whose delivery empties it.
            log.error("the status of campaigns cannot be written: %s", error)
        self._report()
        is_silent = any(refused.reason == "no_answer" for refused in outcome.refusals)
        return min(RETRY_S, self._interval_s) if is_silent else self._interval_s

    def _report(self) -> None:
        """Send the status home. No answer: the next look reports again."""
        report = self._status.report(self._what_runs())
        try:
            self._exchange.ask(Result(hashlib.sha256(report).digest()), report, ANSWER_TIMEOUT_S)
        except ExchangeError as error:
            log.info("campaign report not delivered: %s", error)

    def _what_runs(self) -> Mapping[str, Any] | None:
        try:
            status = read_status(self._runtime_status) or {}
        except (OSError, StatusError) as error:
            return {"problem": str(error)[:200]}
        found = status.get(CAMPAIGNS_STATUS)
        return found if isinstance(found, dict) else None

    def _labels_that_run(self) -> Collection[str]:
        listed = (self._what_runs() or {}).get("running")
        return [str(label) for label in listed] if isinstance(listed, list) else []


def open_campaign_pull(
    config: RigConfig, directories: Directories, exchange: Exchange, clock: Clock, root: Path
) -> CampaignPull:
    """What pulls campaigns that the holders of `root`'s keys signed. Raises StartError."""
    try:
        own_rules(config)
        return CampaignPull(config, directories, exchange, clock, root.read_bytes())
    except DocumentError as error:
        raise StartError(f"the vehicle's own rules do not load: {error}") from error
    except OSError as error:
        raise StartError(f"campaigns: {error.filename}: {error.strerror}", exit_code_of(error)) from error
