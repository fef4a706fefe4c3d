"""What the runtime makes of the shelf: its own rules and those of the campaigns that collect now.

    lineup = Lineups(shelf, own, vehicle, opens).compose(wall_ns, now_ns)

Looked at whenever the switch changes or a campaign begins or ends. Each campaign is opened from its verified files,
hashed again; one that is damaged, expired, for another vehicle or does not fit is left out with the reason, and the
version before it runs instead if that still does. The vehicle's own rules always run.

A campaign may bring a model bundle, one at a time over all campaigns. `model` of the lineup says whose runs; whoever
composes the tick opens it off the tick and says with `refuse_model` when it cannot be used here: then the lineup is
composed again without that campaign. Classifiers are opened for the network that runs; where a lineup changes the
network, that is left to whoever opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runtime.campaigns.contents import Declared, campaign_rules, model_folder
from runtime.campaigns.document import Campaign
from runtime.campaigns.merging import merged
from runtime.campaigns.reasons import CampaignRefusedError
from runtime.campaigns.reference_clock import ReferenceClock
from runtime.campaigns.shelf import ActiveCampaign, Shelf, StoredCampaign, content_digest
from runtime.formats.documents import DocumentError
from triggers.rules.rule import RuleSet

#: Opens what only the runtime can (classifiers with the running network); raises DocumentError.
Opens = Callable[[RuleSet], None]


@dataclass(frozen=True, slots=True)
class CampaignModel:
    """The model bundle that a campaign brings. The same bytes in another version are the same model."""

    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Lineup:
    """The rules that run together from now on, and why others do not."""

    rules: RuleSet
    campaigns: tuple[str, ...] = ()  # labels of those that run
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)  # reason and detail, by label
    waiting: dict[str, str] = field(default_factory=dict)  # not refused, not yet running
    model: CampaignModel | None = None  # of the one campaign that brings one
    changes_in_ns: int | None = None  # until one of them begins or ends

    @property
    def key(self) -> tuple[object, ...]:
        """Two lineups with the same key run the same rules in the name of the same campaigns."""
        return self.rules.fingerprint, self.campaigns, self.model_digest

    @property
    def model_digest(self) -> str:
        """Which bundle; empty for the vehicle's own network."""
        return _digest(self.model)


class Lineups:
    """Composes lineups for one runtime. `compose` belongs to one thread."""

    def __init__(
        self,
        shelf: Shelf,
        own: RuleSet,
        vehicle: str,
        opens: Opens | None = None,
        declared: Declared | None = None,
    ) -> None:
        self._shelf = shelf
        self._declared = declared
        self._own = own
        self._vehicle = vehicle
        self._opens = opens
        self._clock = ReferenceClock(shelf.clock_path, may_write=False)
        self._model: CampaignModel | None = None
        self._unfit: dict[str, str] = {}

    def refuse_model(self, model: CampaignModel, detail: str) -> None:
        """The bundle of a campaign could not be opened here: it is not looked at again in this run."""
        self._unfit[model.digest] = detail

    def runs(self, model: CampaignModel | None, opens: Opens) -> None:
        """From here on the network of this bundle is the one to open classifiers for; None: the vehicle's own."""
        self._model, self._opens = model, opens

    def compose(self, wall_ns: int, now_ns: int) -> Lineup:
        """The lineup at this moment. Never raises for what is on the disk."""
        judged_ns = self._clock.judge(wall_ns, now_ns)
        lineup = _Draft(self._own)
        try:
            active = self._shelf.active()
        except CampaignRefusedError as error:
            lineup.refused["active.json"] = (error.reason, error.detail)
            active = []
        for campaign in sorted(active, key=lambda campaign: campaign.current.name):
            self._add(lineup, campaign, judged_ns)
        return lineup.done(judged_ns)

    def _add(self, lineup: _Draft, active: ActiveCampaign, now_ns: int) -> None:
        """The current version, or the one before it; an end that came is the end of both."""
        for stored in (active.current, active.previous):
            if stored is None:
                continue
            try:
                if self._try(lineup, stored, now_ns):
                    return
            except CampaignRefusedError as error:
                lineup.refused[stored.label] = (error.reason, error.detail)
                if error.reason == "campaign_expired":
                    return

    def _try(self, lineup: _Draft, stored: StoredCampaign, now_ns: int) -> bool:
        """True when this version is settled: it runs, or waits for its beginning. Raises why it is refused."""
        folder, campaign = self._shelf.open_verified(stored)
        if not campaign.is_for(self._vehicle):
            raise CampaignRefusedError("wrong_vehicle", f"{stored.label} is not for {self._vehicle}")
        if now_ns >= campaign.expires_wall_ns:
            raise CampaignRefusedError("campaign_expired", f"{stored.label} is over")
        if now_ns < campaign.starts_wall_ns:
            lineup.waiting[stored.label] = "for its start"
            lineup.edges.append(campaign.starts_wall_ns)
            return False  # until then the version before it collects
        model = _model(folder, campaign, stored)
        if model is not None and model.digest in self._unfit:
            raise CampaignRefusedError("bad_model", self._unfit[model.digest])
        if model is not None and lineup.model is not None:
            raise CampaignRefusedError("bad_model", f"{stored.label} brings a model, and so does another campaign")
        lineup.rules = self._rules_with(lineup.rules, folder, campaign, model or lineup.model)
        lineup.model = model or lineup.model
        lineup.campaigns.append(stored.label)
        lineup.edges.append(campaign.expires_wall_ns)
        return True

    def _rules_with(self, base: RuleSet, folder: Path, campaign: Campaign, model: CampaignModel | None) -> RuleSet:
        try:
            rules = campaign_rules(folder, campaign, self._declared)
        except DocumentError as error:
            raise CampaignRefusedError("bad_rules", str(error)) from error
        together = merged(base, rules, campaign.label)
        if self._opens is not None and _digest(model) == _digest(self._model):
            try:
                self._opens(rules)
            except DocumentError as error:
                raise CampaignRefusedError("bad_learned", str(error)) from error
        return together


def _digest(model: CampaignModel | None) -> str:
    return "" if model is None else model.digest


def _model(folder: Path, campaign: Campaign, stored: StoredCampaign) -> CampaignModel | None:
    place = model_folder(folder, campaign)
    if place is None:
        return None
    return CampaignModel(place, content_digest({path: stored.files[path] for path in campaign.model}))


@dataclass(slots=True)
class _Draft:
    """A lineup in the making."""

    rules: RuleSet
    campaigns: list[str] = field(default_factory=list)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    model: CampaignModel | None = None
    edges: list[int] = field(default_factory=list)

    def done(self, now_ns: int) -> Lineup:
        """As a value."""
        following = min((edge - now_ns for edge in self.edges if edge > now_ns), default=None)
        return Lineup(self.rules, tuple(self.campaigns), self.refused, self.waiting, self.model, following)
