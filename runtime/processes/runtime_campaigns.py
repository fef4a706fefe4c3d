"""Campaigns in the runtime: which network and rules it starts with, and how it takes over others between two ticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.campaigns.running import Lineups
from runtime.campaigns.shelf import Shelf
from runtime.clock import Clock
from runtime.composition import RulesChange, TickParts, apply_change, prepare_change
from runtime.declared_signals import declared_types
from runtime.formats.documents import DocumentError
from runtime.formats.signal_names import RecordedKind
from runtime.inference.learned import LearnedTriggers
from runtime.inference.network import Network
from runtime.processes.campaign_watch import CampaignWatch
from runtime.processes.shell import StartError, log
from runtime.recording.history_sink import HistorySink
from runtime.recording.sessions import SessionChange
from triggers import RuleSet

#: Opens the vehicle's own model (None), or the bundle of a campaign in its place.
OpenNetwork = Callable[[Path | None], Network | None]


class RuntimeCampaigns:
    """Belongs to the thread that composes and ticks; the watch has its own."""

    def __init__(
        self,
        directory: Path,
        own: RuleSet,
        vehicle: str,
        clock: Clock,
        declared: Mapping[str, RecordedKind] | None = None,
    ) -> None:
        self._clock = clock
        self._shelf = Shelf(directory)
        self._lineups = Lineups(self._shelf, own, vehicle, declared=declared_types(declared))
        self._compose()
        self._watch: CampaignWatch[RulesChange] | None = None

    # Composition

    def choose_network(self, open_network: OpenNetwork) -> Network | None:
        """The network of the campaign that brings one, if it can be opened here, else the vehicle's own.

        Raises what `open_network` raises for the vehicle's own.
        """
        while (model := self._lineup.model) is not None:
            try:
                network = open_network(model.folder)
                if network is not None:
                    return self._settle(network)
                reason = "this vehicle runs no network"
            except (DocumentError, StartError) as error:
                reason = str(error)
            log.error("the model of a campaign is refused: %s", reason)
            self._lineups.refuse_model(model, reason)
            self._compose()
        return self._settle(open_network(None))

    @property
    def rules(self) -> RuleSet:
        """The rules to start with."""
        return self._lineup.rules

    def attach(self, parts: TickParts) -> None:
        """The tick is composed: from here on changes are prepared for it. `start` starts the watch."""
        self._watch = CampaignWatch(
            self._shelf, self._lineups, self._lineup, lambda rules: prepare_change(parts, rules), self._clock
        )

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
        apply_change(parts, takeover.change)
        lineup = takeover.lineup
        sink.change(SessionChange(from_ns=time_ns, rules_sha256=lineup.rules.fingerprint, campaigns=lineup.campaigns))
        self._watch.taken(takeover)

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the status."""
        return {} if self._watch is None else self._watch.facts

    def _compose(self) -> None:
        self._lineup = self._lineups.compose(self._clock.wall_ns(), self._clock.now_ns())

    def _settle(self, network: Network | None) -> Network | None:
        """The network is known: now classifiers can be opened, and a campaign whose do not fit is left out."""

        def opens(rules: RuleSet) -> None:
            LearnedTriggers.open(rules, None if network is None else network.embedding)

        self._lineups.started(self._lineup.model, opens)
        self._compose()
        return network
