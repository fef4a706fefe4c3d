"""The engine's ledger, priorities, campaigns, swaps and restarts: what fires, and what every event was counted as."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_ticks import Signals
from selection_rules import SECOND, make_rule

from runtime.messages import Firing, Priority, SignalValue
from triggers import RuleEngine
from triggers.engine import StaleRulesError
from triggers.rules.rule import Budget, CampaignTerms, Rule, RuleSet
from triggers.selection import DAY_NS, HOUR_NS
from triggers.selection.saved_state import SavedStateError

FOREVER = 10**30
Drive = Sequence[tuple[int, float]]  # seconds since the last tick, speed

#: Rules of every kind of selection.
VARIED = (
    make_rule("cooling", cooldown_s=600.0, rearm="edge"),
    make_rule("sampled", sample=0.4),
    make_rule("hourly", budget=Budget(firings_per_hour=2)),
    make_rule("quota", budget=Budget(firings_per_hour=1, by="gear")),
    make_rule("daily", budget=Budget(bytes_per_day=50_000)),
    make_rule("ranked", score="vehicle.speed_mps", budget=Budget(bytes_per_day=50_000)),
    make_rule("sent_one", campaign="night@1", priority=Priority.HIGH),
    make_rule("sent_two", campaign="night@1"),
)
TERMS = {"night@1": CampaignTerms(Budget(firings_per_hour=3, bytes_per_day=90_000), 0, 3 * DAY_NS)}


def rule_set(*rules: Rule, terms: Mapping[str, CampaignTerms] | None = None) -> RuleSet:
    return RuleSet(rules, terms=terms or {})


def engine_of(*rules: Rule, terms: Mapping[str, CampaignTerms] | None = None) -> RuleEngine:
    return RuleEngine(rule_set(*rules, terms=terms), seed=1)


def tick(engine: RuleEngine, time_ns: int, speed_mps: float = 40.0, gear: str = "D") -> list[Firing]:
    values: dict[str, SignalValue] = {"vehicle.speed_mps": speed_mps, "vehicle.gear": gear}
    return engine.evaluate([], Signals(values), time_ns, time_ns)


def drive(engine: RuleEngine, steps: Drive, start_ns: int = 0) -> tuple[list[Firing], int]:
    """Firings, each answered at the next tick: two of three sealed, one lost; and the time of the last tick."""
    firings: list[Firing] = []
    time_ns = start_ns
    for gap_s, speed_mps in steps:
        time_ns += gap_s * SECOND
        new = tick(engine, time_ns, speed_mps, "R" if speed_mps > 60 else "D")
        for firing in new:
            if firing.sequence % 3:
                assert engine.settle(firing.sequence, 1000 + 37 * firing.sequence % 20_000)
            else:
                assert engine.lost(firing.sequence, "disk" if firing.sequence % 2 else "history")
        firings += new
    return firings, time_ns


steps = st.lists(st.tuples(st.integers(1, 5000), st.sampled_from([10.0, 35.0, 50.0, 70.0])), max_size=60)


def described(firings: Sequence[Firing]) -> list[tuple[object, ...]]:
    return [(each.rule, each.sequence, each.time_ns, each.score, dict(each.tally)) for each in firings]


@settings(deadline=None)
@given(steps)
def test_the_ledger_sums_to_all_events_whatever_became_of_them(journey: Drive) -> None:
    engine = engine_of(*VARIED, terms=TERMS)
    engine.bytes_per_s = 700.0
    drive(engine, journey)
    fast = sum(speed_mps > 30 for _, speed_mps in journey)
    totals = {rule: sum(counts.values()) for rule, counts in engine.ledger.items()}
    cooling = totals.pop("cooling", 0)
    assert totals == ({rule.name: fast for rule in VARIED[1:]} if fast else {})
    stretches = sum(speed > 30 and (at == 0 or journey[at - 1][1] <= 30) for at, (_, speed) in enumerate(journey))
    assert cooling == stretches


@settings(deadline=None)
@given(steps, steps)
def test_a_restart_goes_on_as_an_uninterrupted_run_would(before: Drive, after: Drive) -> None:
    """Whether a condition was true just before is not remembered: the car stands still while it restarts."""
    before = [*before, (1, 0.0)]
    whole = engine_of(*VARIED, terms=TERMS)
    whole.bytes_per_s = 700.0
    first, time_ns = drive(whole, before)
    second, _ = drive(whole, after, time_ns)
    early, late = engine_of(*VARIED, terms=TERMS), engine_of(*VARIED, terms=TERMS)
    early.bytes_per_s = 700.0
    again, time_ns = drive(early, before)
    late.restore(json.loads(json.dumps(early.save())), time_ns, time_ns)
    rest, _ = drive(late, after, time_ns)
    assert described([*again, *rest]) == described([*first, *second])
    assert late.ledger == whole.ledger
    assert late.damaged_parts == 0


def test_after_a_reboot_what_was_spent_is_as_old_as_the_wall_clock_says() -> None:
    rule = make_rule(budget=Budget(firings_per_hour=1))
    engine = engine_of(rule)
    assert len(tick(engine, 50_000 * SECOND)) == 1
    saved = {**engine.save(), "wall_ns": 10**18}
    for minutes, fires in ((30, 0), (61, 1)):
        rebooted = engine_of(rule)
        rebooted.restore(saved, 10**18 + minutes * 60 * SECOND, 5 * SECOND)
        assert len(tick(rebooted, 6 * SECOND)) == fires
    back_in_time = engine_of(rule)
    back_in_time.restore(saved, 10**18 - DAY_NS, 5 * SECOND)
    assert tick(back_in_time, 6 * SECOND) == []


def test_a_firing_in_flight_is_settled_after_a_restart_and_only_once() -> None:
    rule = make_rule(budget=Budget(bytes_per_day=20_000))
    engine = engine_of(rule)
    engine.bytes_per_s = 1000.0
    (firing,) = tick(engine, SECOND)
    late = engine_of(rule)
    late.restore(json.loads(json.dumps(engine.save())), 3 * SECOND, SECOND)  # the wall clock was corrected meanwhile
    assert tick(late, 2 * SECOND) == []  # 15,000 bytes are reserved
    assert not late.settle(firing.sequence, 100, firing.time_ns + 1)
    assert late.settle(firing.sequence, 100, firing.time_ns)
    assert not late.settle(firing.sequence, 100, firing.time_ns)
    assert late.unknown_answers == 2
    (second,) = tick(late, 3 * SECOND)
    assert second.sequence == firing.sequence + 1


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"format": "shadowrig-selection", "version": 99},
        {**engine_of(make_rule()).save(), "rules": 3},
        {**engine_of(make_rule()).save(), "in_flight": [[1, 2, 3]]},
        {**engine_of(make_rule()).save(), "wall_ns": None},
        {**engine_of(make_rule()).save(), "bytes_per_s": float("nan")},
    ],
)
def test_a_state_that_is_none_is_refused_with_a_reason(saved: dict[str, object]) -> None:
    with pytest.raises(SavedStateError):
        engine_of(make_rule()).restore(saved, 0, 0)


def test_a_damaged_part_of_a_state_costs_only_itself() -> None:
    engine = engine_of(make_rule("one"), make_rule("two"))
    tick(engine, 0)
    saved = json.loads(json.dumps(engine.save()))
    saved["rules"]["one"]["tally"] = "many"
    saved["rules"]["gone"] = {"version": "1", "tally": 3}
    late = engine_of(make_rule("one"), make_rule("two"))
    late.restore(saved, 0, 0)
    assert late.ledger == {"two": {"kept": 1}}
    assert late.damaged_parts == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cools_until_ns", 10**25),
        ("last_fired_ns", 10**25),
        ("daily", [[10**25, 50_000]]),
        ("quota", [[False, None, [[10**25, 99]]]]),
        ("ranking", {"anchor_ns": 10**25, "day": 0}),
    ],
)
def test_a_damaged_time_in_the_future_does_not_silence_a_rule_forever(key: str, value: object) -> None:
    engine = engine_of(make_rule())
    tick(engine, 0)
    saved = json.loads(json.dumps(engine.save()))
    saved["rules"]["probe"][key] = value
    late = engine_of(make_rule())
    late.restore(saved, SECOND, SECOND)
    assert late.damaged_parts == 1
    assert len(tick(late, SECOND)) == 1


def test_on_one_tick_a_campaigns_budget_goes_to_what_matters() -> None:
    names = {"a": Priority.LOW, "b": Priority.NORMAL, "c": Priority.SAFETY, "d": Priority.NORMAL}
    rules = [make_rule(name, priority=priority, campaign="night@1") for name, priority in names.items()]
    terms = {"night@1": CampaignTerms(Budget(firings_per_hour=3), 0, FOREVER)}
    engine = engine_of(*rules, terms=terms)
    assert [firing.rule for firing in tick(engine, 0)] == ["c", "b", "d"]
    assert engine.suppressed == {"a": {"budget": 1}}


def test_a_campaigns_rules_collect_nothing_before_its_start_and_after_its_expiry() -> None:
    terms = {"night@1": CampaignTerms(Budget(), 10 * SECOND, 20 * SECOND)}
    engine = engine_of(make_rule(campaign="night@1"), make_rule("own"), terms=terms)
    fired = [[firing.rule for firing in tick(engine, seconds * SECOND)] for seconds in (5, 15, 20)]
    assert fired == [["own"], ["own", "probe"], ["own"]]
    assert engine.ledger["probe"] == {"kept": 1, "campaign": 2}


def test_a_firing_says_its_score_its_campaign_and_what_became_of_the_events_before_it() -> None:
    terms = {"night@1": CampaignTerms(Budget(), 0, FOREVER)}
    rule = make_rule(
        campaign="night@1", score="vehicle.speed_mps * 2", budget=Budget(firings_per_hour=1, bytes_per_day=10**9)
    )
    engine = engine_of(rule, terms=terms)
    first, *_, last = [firing for hour in range(3) for firing in tick(engine, hour * HOUR_NS // 2)]
    assert (first.score, first.campaign, dict(first.tally)) == (80.0, "night@1", {"kept": 1})
    assert dict(last.tally) == {"kept": 2, "budget": 1}


def test_a_score_that_is_unknown_or_not_finite_is_told_as_unknown() -> None:
    rule = make_rule(score="1 / (vehicle.speed_mps - 40)", budget=Budget(bytes_per_day=10**9))
    assert [firing.score for firing in tick(engine_of(rule), 0)] == [None]


# Swaps

ONE = make_rule("one", when="any_within(vehicle.speed_mps > 30, 5)", hold_s=2.0, rearm="edge", cooldown_s=0.0)
TWO = make_rule("two", when="mean_within(vehicle.speed_mps, 3) > 30", rearm="edge", cooldown_s=4.0)


@settings(deadline=None)
@given(st.lists(st.sampled_from([10.0, 35.0, 70.0]), max_size=60), st.lists(st.booleans(), max_size=60))
def test_swapping_other_rules_in_and_out_changes_nothing_for_those_that_stay(
    speeds: list[float], swaps: list[bool]
) -> None:
    still, moved = engine_of(ONE, TWO), engine_of(ONE, TWO)
    expected, found = [], []
    other = make_rule("other", when="std_within(vehicle.speed_mps, 4) > 1")
    for second, speed_mps in enumerate(speeds):
        if second < len(swaps) and swaps[second]:
            others = (other,) if second % 2 else (replace(other, name="another", version=str(second)),)
            moved.swap(moved.prepare(rule_set(TWO, ONE, *others)))
        expected += tick(still, second * SECOND, speed_mps)
        found += [each for each in tick(moved, second * SECOND, speed_mps) if each.rule in ("one", "two")]
    assert [(each.rule, each.time_ns, each.tally) for each in found] == [
        (each.rule, each.time_ns, each.tally) for each in expected
    ]


def test_a_changed_rule_starts_anew_but_keeps_what_it_spent() -> None:
    rule = make_rule(budget=Budget(firings_per_hour=1))
    engine = engine_of(rule)
    tick(engine, 0)
    engine.swap(engine.prepare(rule_set(replace(rule, version="2"))))
    assert tick(engine, SECOND) == []
    assert engine.ledger == {"probe": {"budget": 1}}


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_rule_that_is_given_a_score_does_not_get_its_bytes_twice(is_restarted: bool) -> None:
    rule = make_rule(budget=Budget(bytes_per_day=20_000))
    engine = engine_of(rule)
    engine.bytes_per_s = 1000.0
    assert len(tick(engine, 0)) == 1
    scored = make_rule(score="vehicle.speed_mps", budget=rule.budget, version="2")
    if is_restarted:
        saved, engine = engine.save(), engine_of(scored)
        engine.restore(saved, SECOND, SECOND)
    else:
        engine.swap(engine.prepare(rule_set(scored)))
    assert tick(engine, SECOND) == []
    assert engine.ledger == {"probe": {"budget": 1}}
    assert len(tick(engine, DAY_NS + SECOND, speed_mps=60.0)) == 1


@pytest.mark.parametrize("outcome", ["sealed", "lost"])
def test_a_firing_of_a_rule_that_has_changed_since_corrects_bytes_and_no_counts(outcome: str) -> None:
    rule = make_rule(budget=Budget(bytes_per_day=20_000))
    engine = engine_of(rule)
    engine.bytes_per_s = 1000.0
    (firing,) = tick(engine, 0)
    engine.swap(engine.prepare(rule_set(replace(rule, version="2"))))
    assert tick(engine, SECOND) == []
    assert engine.settle(firing.sequence, 4000) if outcome == "sealed" else engine.lost(firing.sequence, "disk")
    assert len(tick(engine, 2 * SECOND)) == 1
    assert engine.ledger == {"probe": {"kept": 1, "budget": 1}}


def test_a_newer_version_of_a_campaign_does_not_get_the_budget_twice() -> None:
    budget = Budget(firings_per_hour=1)
    engine = engine_of(make_rule(campaign="night@1"), terms={"night@1": CampaignTerms(budget, 0, FOREVER)})
    assert len(tick(engine, 0)) == 1
    newer = rule_set(make_rule(campaign="night@2"), terms={"night@2": CampaignTerms(budget, 0, FOREVER)})
    engine.swap(engine.prepare(newer))
    assert tick(engine, SECOND) == []
    (firing,) = tick(engine, HOUR_NS + SECOND)
    assert firing.campaign == "night@2"
    assert dict(firing.tally) == {"kept": 2, "budget": 1}


def test_what_was_swapped_out_is_remembered_and_goes_on_where_it_was() -> None:
    terms = {"night@1": CampaignTerms(Budget(firings_per_hour=1), 0, FOREVER)}
    sent, own = make_rule("sent", campaign="night@1"), make_rule("own", budget=Budget(firings_per_hour=1))
    engine = engine_of(sent, own, terms=terms)
    tick(engine, 0)
    engine.swap(engine.prepare(rule_set(make_rule("else"))))
    assert engine.ledger == {"sent": {"kept": 1}, "own": {"kept": 1}}
    late = engine_of(make_rule("else"))  # a restart in between: campaigns come by a swap
    late.restore(json.loads(json.dumps(engine.save())), 0, 0)
    late.swap(late.prepare(rule_set(sent, own, terms=terms)))
    assert tick(late, SECOND) == []
    assert late.ledger == {"sent": {"kept": 1, "budget": 1}, "own": {"kept": 1, "budget": 1}}


def test_rules_that_were_prepared_for_another_moment_are_refused() -> None:
    engine = engine_of(ONE)
    old, new = engine.prepare(rule_set(TWO)), engine.prepare(rule_set(ONE, TWO))
    with pytest.raises(StaleRulesError):
        engine.swap(old)
    engine.swap(new)
    with pytest.raises(StaleRulesError):
        engine.swap(new)
    assert {rule.name for rule in engine.rules.rules} == {"one", "two"}


def test_preparing_rules_changes_nothing() -> None:
    still, asked = engine_of(*VARIED, terms=TERMS), engine_of(*VARIED, terms=TERMS)
    journey = [(60 * minute, 35.0 + minute) for minute in range(20)]
    expected, time_ns = drive(still, journey)
    found, _ = drive(asked, journey)
    asked.prepare(rule_set(ONE, replace(VARIED[4], version="2")))
    assert described(drive(asked, journey, time_ns)[0]) == described(drive(still, journey, time_ns)[0])
    assert described(found) == described(expected)


def test_lost_firings_move_from_kept_to_their_reason() -> None:
    engine = engine_of(make_rule())
    firings = [firing for second in range(6) for firing in tick(engine, second * SECOND)]
    for firing, reason in zip(firings, ["disk", "disk", "history"], strict=False):
        assert engine.lost(firing.sequence, reason)
    assert engine.ledger == {"probe": {"kept": 3, "disk": 2, "history": 1}}
    assert engine.status()["probe"].fired == 6
    assert Counter(engine.suppressed["probe"]) == {"disk": 2, "history": 1}
