"""Which rules run together, and what each of them takes over from before.

A rule that did not change (same name and version) goes on with its own state and selection. One that changed begins
anew, but what it spent is spent. One that ran earlier, in this run or before a restart, goes on from what was saved of
it. Campaigns keep their spending over their versions. Building a lineup changes nothing of what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triggers.evaluation.program import Program
from triggers.rules.rule import CampaignTerms, Rule, RuleSet
from triggers.running_rule import RunningRule, load
from triggers.selection import CampaignSelection, RuleSelection, lineage
from triggers.selection.campaign import campaign_from_dict
from triggers.selection.saved_state import WRONG, Dormant, SavedState
from triggers.states import RuleMachine


@dataclass(frozen=True, slots=True)
class PreparedRules:
    """Rules ready to run, or running."""

    rules: RuleSet
    program: Program
    by_name: Mapping[str, RunningRule]  # in the order in which they are looked at: by priority, then name
    campaigns: Mapping[str, CampaignSelection]  # by lineage


class Memory:
    """What is remembered of rules and campaigns that do not run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.rules, self.campaigns = Dormant(), Dormant()
        #: Rules and campaigns whose saved state could not be read: they began anew.
        self.damaged_parts = 0

    def line_up(self, rules: RuleSet, program: Program, now: PreparedRules | None) -> PreparedRules:
        """The lineup of `rules`; `now` is what runs."""
        campaigns = {lineage(name): self._campaign(name, terms, now) for name, terms in rules.terms.items()}
        by_name = {}
        for rule in sorted(rules.rules, key=lambda rule: (rule.priority.rank, rule.name)):
            machine, selection = self._state(rule, now)
            campaign = campaigns.get(lineage(rule.campaign)) if rule.campaign else None
            by_name[rule.name] = RunningRule(rule, program, machine, selection, campaign)
        return PreparedRules(rules, program, by_name, campaigns)

    def hand_over(self, before: PreparedRules | None, after: PreparedRules) -> None:
        """`after` runs from now on: remember what runs no more, and forget the saved parts of what does."""
        if before is not None:
            for name in before.by_name.keys() - after.by_name.keys():
                self.rules.keep(name, before.by_name[name].saved())
            for name in before.campaigns.keys() - after.campaigns.keys():
                self.campaigns.keep(name, before.campaigns[name].to_dict())
        self.rules.drop(after.by_name)
        self.campaigns.drop(after.campaigns)

    def load(self, state: SavedState) -> None:
        """Remember what an earlier run saved."""
        self.damaged_parts += state.damaged
        for name, part in state.rules.items():
            self.rules.keep(name, part)
        for name, part in state.campaigns.items():
            self.campaigns.keep(name, part)

    def _state(self, rule: Rule, now: PreparedRules | None) -> tuple[RuleMachine, RuleSelection]:
        former = now.by_name.get(rule.name) if now is not None else None
        if former is not None and former.rule.version == rule.version:
            return former.machine, former.selection
        machine = RuleMachine(rule)
        selection = RuleSelection(rule, self._seed, former.selection if former is not None else None)
        saved = self.rules.parts.get(rule.name) if former is None else None
        if saved is not None:
            try:
                load(machine, selection, rule, saved)
            except WRONG:
                self.damaged_parts += 1
                return RuleMachine(rule), RuleSelection(rule, self._seed)
        return machine, selection

    def _campaign(self, name: str, terms: CampaignTerms, now: PreparedRules | None) -> CampaignSelection:
        former = now.campaigns.get(lineage(name)) if now is not None else None
        if former is not None:
            return former.heir(terms)
        saved = self.campaigns.parts.get(lineage(name))
        if saved is not None:
            try:
                return campaign_from_dict(terms, saved)
            except WRONG:
                self.damaged_parts += 1
        return CampaignSelection(terms)
