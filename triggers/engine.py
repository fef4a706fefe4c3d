"""Evaluates every rule once a tick and says which went off, and why.

The conditions of all rules are one `Program`; each rule then moves through its states (`states`), and of the events
that come out some are kept (`selection`). Time is an argument and chance a seeded hash: the same rules, seed, signals
and tracks give the same firings, live and replayed. Every event is counted under what became of it (`ledger`), so
that the fleet's statistics stay unbiased whatever was kept.

Other rules while it runs: `prepare` (any thread) builds what they need beside the running program, `swap` (between two
ticks) puts it in place. Rules that did not change (same name and version) keep state, windows and selection; one that
changed keeps what it spent. What no longer runs stays remembered, in case its campaign comes back.

Across restarts: `save` gives what must not be forgotten, `restore` takes it over. All other methods belong to the
thread that ticks; `ledger`, `suppressed` and `status` may be read from another one, a tick early or late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.messages import CameraView, ControllerObject, Firing, SignalReader, Track
from triggers.evaluation.program import Program
from triggers.language.expressions import Expression
from triggers.lineup import Memory, PreparedRules
from triggers.rules.rule import RuleSet
from triggers.running_rule import RuleStatus, RunningRule
from triggers.selection import Reservation, Reservations, RuleSelection, lineage
from triggers.selection.saved_state import FORMAT, VERSION, read_state
from triggers.states import Event

__all__ = ["PreparedRules", "RuleEngine", "RuleStatus", "StaleRulesError"]


class StaleRulesError(RuntimeError):
    """Other rules were prepared or swapped in after these; prepare them again."""


class RuleEngine:
    """The rules of one runtime. `image_sizes` (width, height by camera) makes the track field `border_px` known."""

    def __init__(self, rules: RuleSet, seed: int, image_sizes: Mapping[str, tuple[int, int]] | None = None) -> None:
        self._memory = Memory(seed)
        self._in_flight = Reservations()
        self._newest: PreparedRules | None = None  # prepared, and not yet swapped in
        self._sequence = 0
        self._time_ns = 0
        self._wall_ns = 0
        #: What the recording takes, all cameras together: for the size of clips to come. 0: not known.
        self.bytes_per_s = 0.0
        #: Grows whenever `save` would give something else.
        self.changes = 0
        #: Settled or lost firings that were not known: of a run whose last seconds were not saved, or told twice.
        self.unknown_answers = 0
        # Sizes may be known only later: an empty mapping is kept, because whoever gave it fills it in.
        sizes = {} if image_sizes is None else image_sizes
        program = Program(_conditions(rules), seed, sizes, _on_demand(rules))
        self._now = self._memory.line_up(rules, program, None)
        self._running = tuple(self._now.by_name.values())

    # The tick

    def look_ahead(
        self,
        signals: SignalReader,
        time_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> None:
        """Before `evaluate` of the same tick, perhaps on another thread: what does not depend on the network."""
        self._now.program.look_ahead(signals, time_ns, objects, cameras)

    def evaluate(
        self,
        tracks: Sequence[Track] | None,
        signals: SignalReader,
        time_ns: int,
        wall_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> list[Firing]:
        """The rules that go off on this tick, by priority and name. Items are None when nothing looked for them."""
        program = self._now.program
        program.run(tracks, signals, time_ns, objects, cameras)
        self._time_ns, self._wall_ns = time_ns, wall_ns
        slots = program.slots
        firings = []
        for running in self._running:
            condition = slots[running.slot]
            if condition is not True and running.machine.true_since_ns is None:
                continue  # it rests, and nothing happens
            event = running.machine.step(condition, time_ns)
            if event is not Event.NONE:
                self.changes += 1
                firing = self._firing(running, event, time_ns, wall_ns)
                firings += [firing] if firing is not None else []
        return firings

    def _firing(self, running: RunningRule, event: Event, time_ns: int, wall_ns: int) -> Firing | None:
        """What an event leads to."""
        rule, selection, program = running.rule, running.selection, self._now.program
        if event is Event.LOST:
            selection.miss()
            return None
        running.compute(program)
        score, size_bytes = running.score(program), selection.estimate(self.bytes_per_s)
        quota_value = running.quota_value(program)
        if not selection.keep(time_ns, size_bytes, score, quota_value, running.campaign, wall_ns):
            return None
        sequence = self._sequence
        self._sequence += 1
        self._in_flight.add(Reservation(sequence, time_ns, rule.name, rule.version, rule.campaign, size_bytes))
        return Firing(
            rule=rule.name,
            rule_version=rule.version,
            sequence=sequence,
            time_ns=time_ns,
            wall_ns=wall_ns,
            operands=running.operands(program),
            priority=rule.priority,
            capture=rule.capture,
            sample_probability=rule.sample,
            score=score,
            campaign=rule.campaign,
            tally=selection.tally.to_dict(),
        )

    # What became of firings

    def settle(self, sequence: int, size_bytes: int, time_ns: int | None = None) -> bool:
        """The clip of a firing was sealed, and `size_bytes` is the firing's share of it. False: no such firing waits.

        `time_ns`, the firing's own, tells firings of an earlier run with the same number apart. Where the rule has
        changed since, bytes are corrected, but sizes and counts of the new definition are left alone.
        """
        found = self._answered(sequence, time_ns)
        if found is None:
            return False
        selection, is_same_rule = self._selection_of(found)
        if selection is not None and is_same_rule:
            selection.settle(found.time_ns, found.size_bytes, size_bytes)
        elif selection is not None:
            selection.correct(found.time_ns, size_bytes - found.size_bytes)
        self._correct_campaign(found, size_bytes - found.size_bytes)
        return True

    def lost(self, sequence: int, reason: str, time_ns: int | None = None) -> bool:
        """A firing got no clip, for `reason` ("disk" or "history"). False: no such firing waits."""
        found = self._answered(sequence, time_ns)
        if found is None:
            return False
        selection, is_same_rule = self._selection_of(found)
        if selection is not None and is_same_rule:
            selection.lose(found.time_ns, found.size_bytes, reason)
        elif selection is not None:
            selection.correct(found.time_ns, -found.size_bytes)
        self._correct_campaign(found, -found.size_bytes)
        return True

    def _answered(self, sequence: int, time_ns: int | None) -> Reservation | None:
        found = self._in_flight.take(sequence, time_ns)
        if found is None:
            self.unknown_answers += 1
        else:
            self.changes += 1
        return found

    def _selection_of(self, found: Reservation) -> tuple[RuleSelection | None, bool]:
        """The selection of the rule of that name, and whether the rule is still the one that fired."""
        running = self._now.by_name.get(found.rule)
        if running is None:
            return None, False
        return running.selection, running.rule.version == found.rule_version

    def _correct_campaign(self, found: Reservation, change_bytes: int) -> None:
        campaign = self._now.campaigns.get(lineage(found.campaign))
        if campaign is not None:
            campaign.daily.correct(found.time_ns, change_bytes)

    # Other rules

    def prepare(self, rules: RuleSet) -> PreparedRules:
        """Build what these rules need beside what runs; changes nothing. On any thread, one call at a time."""
        now = self._now
        program = now.program.evolve(_conditions(rules), _on_demand(rules))
        self._newest = prepared = self._memory.line_up(rules, program, now)
        return prepared

    def swap(self, prepared: PreparedRules) -> None:
        """Let these rules run from the next tick on. StaleRulesError unless they are the newest ones prepared."""
        if prepared is not self._newest:
            raise StaleRulesError("others were prepared or swapped in since (fix: prepare these rules again)")
        self._newest = None
        self._install(prepared)

    def _install(self, lineup: PreparedRules) -> None:
        self._memory.hand_over(self._now, lineup)
        self._now = lineup
        self._running = tuple(lineup.by_name.values())
        self.changes += 1

    # Across restarts

    def save(self) -> dict[str, Any]:
        """Budgets, tallies, cooldowns and firings in flight, JSON-ready (see `selection.saved_state`).

        Parts that did not change since the last call are the same objects: they may be written by another thread.
        """
        now, memory = self._now, self._memory
        rules = {name: running.saved() for name, running in now.by_name.items() if running.selection.has_history}
        campaigns = {name: campaign.to_dict() for name, campaign in now.campaigns.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "time_ns": self._time_ns,
            "wall_ns": self._wall_ns,
            "sequence": self._sequence,
            "bytes_per_s": self.bytes_per_s,
            "rules": {**memory.rules.parts, **rules},
            "campaigns": {**memory.campaigns.parts, **campaigns},
            "in_flight": self._in_flight.to_list(),
        }

    def restore(self, saved: Mapping[str, Any], wall_ns: int, time_ns: int) -> None:
        """Take over what an earlier run saved, before the first tick. `time_ns` and `wall_ns` are now.

        Rules and campaigns that do not run (yet) are remembered for a later `swap`. Parts that are damaged are left
        out and counted. Raises SavedStateError when the whole is.
        """
        state = read_state(saved, wall_ns, time_ns)
        self._sequence = max(self._sequence, state.sequence)
        self.bytes_per_s = state.bytes_per_s
        for reservation in state.in_flight:
            self._in_flight.add(reservation)
        self._memory.load(state)
        self._install(self._memory.line_up(self._now.rules, self._now.program, None))

    # To look at

    @property
    def rules(self) -> RuleSet:
        """The rules that run."""
        return self._now.rules

    @property
    def damaged_parts(self) -> int:
        """Rules and campaigns whose saved state could not be read: they began anew."""
        return self._memory.damaged_parts

    @property
    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        """Events by rule and what became of them (see `selection.tally`); rules without any are left out."""
        tallies = {name: dict(part["tally"]) for name, part in self._memory.rules.parts.copy().items()}
        tallies.update((name, running.selection.tally.to_dict()) for name, running in self._now.by_name.items())
        return {name: counts for name, counts in tallies.items() if counts}

    @property
    def suppressed(self) -> Mapping[str, Mapping[str, int]]:
        """The part of the ledger that is not kept."""
        counts = {name: running.selection.tally.suppressed() for name, running in self._now.by_name.items()}
        return {name: reasons for name, reasons in counts.items() if reasons}

    @property
    def not_understood(self) -> Mapping[str, int]:
        """Values that were not what a rule expects of a signal (text for a number, NaN, ...), by signal."""
        return dict(self._now.program.not_understood)

    @property
    def items_refused(self) -> Mapping[str, int]:
        """Tracks, objects and cameras ("track", …) that were left out because there were too many at once."""
        return {population.value: count for population, count in self._now.program.refused.items()}

    @property
    def retained_entries(self) -> int:
        """Entries that all windows hold now; bounded by their number, however long they are."""
        return self._now.program.retained_entries

    @property
    def firings_in_flight(self) -> int:
        """Firings whose clips are neither sealed nor lost yet."""
        return len(self._in_flight)

    def status(self) -> Mapping[str, RuleStatus]:
        """Every rule's state after the last tick."""
        return {name: self._status(running) for name, running in self._now.by_name.items()}

    def _status(self, running: RunningRule) -> RuleStatus:
        selection = running.selection
        is_unknown = self._now.program.value(running.slot) is None
        state = running.machine.state(self._time_ns)
        tally = selection.tally
        return RuleStatus(state, is_unknown, tally.fired, selection.last_fired_ns, tally.suppressed())


def _conditions(rules: RuleSet) -> list[Expression]:
    return [rule.when for rule in rules.rules]


def _on_demand(rules: RuleSet) -> list[Expression]:
    return [expression for rule in rules.rules for expression in rule.on_demand]
