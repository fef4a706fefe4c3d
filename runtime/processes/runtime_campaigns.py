"""Campaigns in the runtime: which network and rules it starts with, and how it takes over others between two ticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.campaigns.contents import Declared
from runtime.campaigns.running import CampaignModel, Lineup, Lineups
from runtime.campaigns.shelf import Shelf
from runtime.clock import Clock
from runtime.composition import (
    CompositionError,
    TickParts,
    describe_model,
)
from runtime.formats.documents import DocumentError
from runtime.inference.learned import LearnedTriggers
from runtime.inference.network import Network
from runtime.processes.campaign_watch import CampaignWatch, ModelRefusedError
from runtime.processes.shell import StartError, log
from runtime.recording.history_sink import HistorySink
from runtime.recording.sessions import SessionChange
from runtime.rule_changes import RulesChange, apply_change, prepare_change
from triggers import RuleSet

#: Opens the vehicle's own model (None), or the bundle of a campaign in its place.
OpenNetwork = Callable[[Path | None], Network | None]
#: Rules that cannot fire, in the status and the report home; and characters of each reason.
LISTED_RULES, REASON_LENGTH = 50, 200


class RuntimeCampaigns:
    """Belongs to the thread that composes and ticks; the watch has its own."""

    def __init__(
        self, directory: Path, own: RuleSet, vehicle: str, clock: Clock, declared: Declared | None = None
    ) -> None:
        """`declared` are signals beyond the canonical ones that a campaign's rules may read here."""
        self._clock = clock
        self._shelf = Shelf(directory)
        self._lineups = Lineups(self._shelf, own, vehicle, declared=declared)
        self._open_network: OpenNetwork = _no_network
        self._compose()
        self._watch: CampaignWatch[RulesChange] | None = None
        self._parts: TickParts | None = None

    # Composition

    def choose_network(self, open_network: OpenNetwork) -> Network | None:
        """The network of the campaign that brings one, if it can be opened here, else the vehicle's own.

        Raises what `open_network` raises for the vehicle's own.
        """
        self._open_network = open_network
        while (model := self._lineup.model) is not None:
            try:
                network = self._open(model)
            except ModelRefusedError as error:
                self._lineups.refuse_model(model, str(error))
                self._compose()
                continue
            return self._settle(network)
        return self._settle(open_network(None))

    @property
    def rules(self) -> RuleSet:
        """The rules to start with."""
        return self._lineup.rules

    def attach(self, parts: TickParts) -> None:
        """The tick is composed: from here on changes are prepared for it. `start` starts the watch."""

        def prepare(lineup: Lineup, running: Lineup) -> RulesChange:
            return self._prepare(parts, lineup, running)

        self._parts = parts
        self._watch = CampaignWatch(self._shelf, self._lineups, self._lineup, prepare, self._clock)

    def _prepare(self, parts: TickParts, lineup: Lineup, running: Lineup) -> RulesChange:
        """On the watch's thread: everything that takes time."""
        if lineup.model_digest == running.model_digest:
            return prepare_change(parts, lineup.rules)
        network = self._own_again() if lineup.model is None else self._open(lineup.model)
        try:
            change = prepare_change(parts, lineup.rules, network)
        except BaseException as error:
            if network is not None:
                network.close()
            if lineup.model is not None and isinstance(error, CompositionError | DocumentError):
                raise ModelRefusedError(lineup.model, str(error)) from error
            raise
        self._note_network(lineup.model, network or parts.network)
        return change

    def _open(self, model: CampaignModel) -> Network:
        try:
            network = self._open_network(model.folder)
        except (DocumentError, StartError) as error:
            log.error("the model of a campaign is refused: %s", error)
            raise ModelRefusedError(model, str(error)) from error
        if network is None:
            raise ModelRefusedError(model, "this vehicle runs no network")
        return network

    def _own_again(self) -> Network | None:
        """The vehicle's own network, once no campaign brings one; None if that fails: the one that runs goes on."""
        try:
            return self._open_network(None)
        except (DocumentError, StartError) as error:
            log.error("the vehicle's own model cannot be opened again, that of the ended campaign goes on: %s", error)
            return None

    def start(self) -> None:
        """Begin to watch the switch."""
        if self._watch is not None:
            self._watch.start()

    def stop(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.stop()

    # The tick

    def between_ticks(self, parts: TickParts, sink: HistorySink, time_ns: int) -> None:
        """Put in what is ready. `time_ns` lies between the two ticks. A look at a queue when there is nothing."""
        takeover = None if self._watch is None else self._watch.take()
        if takeover is None or self._watch is None:
            return
        former = parts.network
        apply_change(parts, takeover.change)
        change = SessionChange(
            from_ns=time_ns,
            rules_sha256=takeover.lineup.rules.fingerprint,
            campaigns=takeover.lineup.campaigns,
            model=describe_model(parts.network),
        )
        sink.change(change)
        self._watch.taken(takeover, former.close if former is not None and former is not parts.network else None)

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the status, and by the uploader for the fleet: a campaign may run here and still be unable to fire."""
        if self._watch is None or self._parts is None:
            return {}
        return {**self._watch.facts, "cannot_fire": _cannot_fire(self._parts)}

    def _compose(self) -> None:
        self._lineup = self._lineups.compose(self._clock.wall_ns(), self._clock.now_ns())

    def _settle(self, network: Network | None) -> Network | None:
        """The network is known: now classifiers can be opened, and a campaign whose do not fit is left out."""
        self._note_network(self._lineup.model, network)
        self._compose()
        return network

    def _note_network(self, model: CampaignModel | None, network: Network | None) -> None:
        space = None if network is None else network.embedding

        def opens(rules: RuleSet) -> None:
            LearnedTriggers.open(rules, space)

        self._lineups.runs(model, opens)


def _cannot_fire(parts: TickParts) -> dict[str, str]:
    """Rules of campaigns for which this vehicle lacks something, and what; the first few, each cut short."""
    lacking = parts.not_applicable
    names = [rule.name for rule in parts.rules.rules if rule.campaign and rule.name in lacking]
    return {name: lacking.get(name, "")[:REASON_LENGTH] for name in names[:LISTED_RULES]}


def _no_network(bundle: Path | None) -> Network | None:
    """Until `choose_network` says how networks are opened."""
    raise StartError(f"no way to open {bundle} yet")
