"""Budgets hold for every hour and every day, with the clips' real sizes, whatever comes."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selection_rules import SECOND, make_rule

from triggers.rules.rule import Budget, CampaignTerms
from triggers.selection import DAY_NS, HOUR_NS, CampaignSelection, RuleSelection
from triggers.selection.budgets import MAX_QUOTA_VALUES, ClipSizes, DailyBytes, HourlyCount, HourlyQuota

gaps_s = st.one_of(st.integers(0, 60), st.integers(60, 7200), st.integers(7200, 40_000))


def times_of(gaps: list[int]) -> list[int]:
    times, now_s = [], 0
    for gap in gaps:
        now_s += gap
        times.append(now_s * SECOND)
    return times


def busiest(times: list[int], amounts: list[int], length_ns: int) -> int:
    """The largest sum of amounts in any window (end - length, end]."""
    sums = []
    for index, end_ns in enumerate(times):
        first = bisect_right(times, end_ns - length_ns)
        sums.append(sum(amounts[first : index + 1]))
    return max(sums, default=0)


@given(st.lists(gaps_s, max_size=120), st.integers(1, 12))
def test_no_hour_holds_more_firings_than_its_budget(gaps: list[int], limit: int) -> None:
    selection = RuleSelection(make_rule(budget=Budget(firings_per_hour=limit)), 0)
    kept = [time_ns for time_ns in times_of(gaps) if selection.keep(time_ns, 0, None, None, None, 0)]
    assert busiest(kept, [1] * len(kept), HOUR_NS) <= limit
    assert sum(selection.tally.to_dict().values()) == len(gaps)


@given(st.lists(st.tuples(gaps_s, st.sampled_from("abc")), max_size=120), st.integers(1, 4))
def test_each_value_of_a_quota_has_the_hour_for_itself(events: list[tuple[int, str]], limit: int) -> None:
    together = RuleSelection(make_rule(budget=Budget(firings_per_hour=limit, by="gear")), 0)
    alone = {value: RuleSelection(make_rule(budget=Budget(firings_per_hour=limit)), 0) for value in "abc"}
    for time_ns, (_, value) in zip(times_of([gap for gap, _ in events]), events, strict=True):
        kept = together.keep(time_ns, 0, None, value, None, 0)
        assert kept == alone[value].keep(time_ns, 0, None, None, None, 0)


def test_values_beyond_the_most_that_are_told_apart_share_one_quota() -> None:
    quota = HourlyQuota()
    for value in range(MAX_QUOTA_VALUES):
        quota.add(f"value {value}", 0)
    quota.add("one more", 0)
    assert not quota.has_room("yet another", 1, SECOND)
    assert quota.has_room("yet another", 1, HOUR_NS + SECOND)
    assert len(quota.to_list()) <= MAX_QUOTA_VALUES + 1


@given(
    st.lists(st.tuples(gaps_s, st.integers(0, 3000), st.integers(0, 5)), max_size=100),
    st.integers(1, 5000),
    st.sampled_from([None, "vehicle.speed_mps"]),
)
def test_bytes_exceed_a_budget_at_most_by_what_the_estimates_in_flight_were_too_small(
    events: list[tuple[int, int, int]], limit: int, score: str | None
) -> None:
    """Each event: seconds since the last one, the real size of its clip, and after how many events that is sealed."""
    selection = RuleSelection(make_rule(score=score, budget=Budget(bytes_per_day=limit)), 0)
    campaign = campaign_of(Budget(bytes_per_day=limit))
    times: list[int] = []
    charged: list[int] = []  # reserved, then real
    real: list[int] = []
    due: list[tuple[int, int]] = []  # event at which a clip is sealed, its place in the lists
    times_ns = times_of([gap for gap, _, _ in events])
    for number, (time_ns, (_, size, delay)) in enumerate(zip(times_ns, events, strict=True)):
        for _, place in [entry for entry in due if entry[0] <= number]:
            selection.settle(times[place], charged[place], real[place])
            campaign.daily.correct(times[place], real[place] - charged[place])
            charged[place] = real[place]
        due = [entry for entry in due if entry[0] > number]
        estimate = selection.estimate(bytes_per_s=100.0)
        if selection.keep(time_ns, estimate, 1.0, None, campaign, 0):
            due.append((number + 1 + delay, len(times)))
            times.append(time_ns)
            charged.append(estimate)
            real.append(size)
            day = [place for place, then in enumerate(times) if then > time_ns - DAY_NS]
            too_small = sum(max(0, real[place] - charged[place]) for _, place in due)
            assert sum(charged[place] for place in day) <= limit
            assert sum(real[place] for place in day) <= limit + too_small


def test_a_burst_cannot_overrun_a_budget_before_its_first_clip_is_sealed() -> None:
    selection = RuleSelection(make_rule(budget=Budget(bytes_per_day=10_000)), 0)
    kept = [selection.keep(tick, selection.estimate(200.0), None, None, None, 0) for tick in range(20)]
    assert sum(kept) == 3  # 15 s x 200 bytes each
    assert selection.tally.to_dict() == {"kept": 3, "budget": 17}


def test_a_lost_clip_gives_its_bytes_back_and_is_counted_under_its_reason() -> None:
    selection = RuleSelection(make_rule(budget=Budget(bytes_per_day=3000)), 0)
    assert selection.keep(0, 3000, None, None, None, 0)
    assert not selection.keep(1, 3000, None, None, None, 0)
    selection.lose(0, 3000, "disk")
    assert selection.keep(2, 3000, None, None, None, 0)
    assert selection.tally.to_dict() == {"kept": 1, "budget": 1, "disk": 1}
    with pytest.raises(ValueError, match="'rain' is no reason"):
        selection.lose(2, 3000, "rain")


def test_sizes_are_those_of_the_last_clips_once_there_are_any() -> None:
    sizes = ClipSizes()
    assert sizes.estimate(15.0, 0.0) == 0
    assert sizes.estimate(15.0, 2.0) == 30
    for size in range(1000, 1040):
        sizes.add(size)
    assert sizes.estimate(15.0, 2.0) == round(sum(range(1024, 1040)) / 16)


@given(st.lists(st.tuples(gaps_s, st.integers(1, 9)), max_size=200))
def test_windows_count_what_they_hold_or_a_little_more_and_stay_small(events: list[tuple[int, int]]) -> None:
    hourly, daily = HourlyCount(), DailyBytes()
    times_ns = times_of([gap for gap, _ in events])
    for index, (time_ns, (_, size)) in enumerate(zip(times_ns, events, strict=True)):
        hourly.add(time_ns)
        daily.add(time_ns, size)
        hour = sum(then > time_ns - HOUR_NS for then in times_ns[: index + 1])
        hour_and_a_step = sum(then > time_ns - HOUR_NS - HOUR_NS // 128 for then in times_ns[: index + 1])
        assert hour <= hourly.total(time_ns) <= hour_and_a_step
        sizes = [entry[1] for entry in events]
        day = sum(sizes[at] for at in range(index + 1) if times_ns[at] > time_ns - DAY_NS)
        day_and_an_hour = sum(sizes[at] for at in range(index + 1) if times_ns[at] > time_ns - DAY_NS - HOUR_NS)
        assert day <= daily.total(time_ns) <= day_and_an_hour
    assert len(hourly.to_list()) <= 258
    assert len(daily.to_list()) <= 26


def test_spending_that_nobody_limits_is_forgotten_as_well() -> None:
    campaign = CampaignSelection(CampaignTerms(Budget(), 0, 10**30))
    for hour in range(10 * 24):
        campaign.spend(hour * HOUR_NS, 1000)
    saved = campaign.to_dict()
    assert len(saved["hourly"]) <= 2
    assert len(saved["daily"]) <= 26


def test_a_campaign_shares_one_budget_among_its_rules() -> None:
    campaign = campaign_of(Budget(firings_per_hour=3))
    rules = [RuleSelection(make_rule(name), 0) for name in ("one", "two")]
    kept = [rule.keep(tick, 0, None, None, campaign, 0) for tick in range(4) for rule in rules]
    assert kept == [True, True, True, False, False, False, False, False]


@pytest.mark.parametrize(("wall_ns", "collects"), [(99, False), (100, True), (199, True), (200, False)])
def test_a_campaign_collects_from_its_start_until_its_expiry(wall_ns: int, collects: bool) -> None:
    selection = RuleSelection(make_rule(), 0)
    assert selection.keep(0, 0, None, None, campaign_of(Budget(), 100, 200), wall_ns) is collects
    assert selection.tally.to_dict() == ({"kept": 1} if collects else {"campaign": 1})


@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.25, 0.5]))
def test_kept_events_over_their_probability_estimate_all_events(seed: int, probability: float) -> None:
    """Within six standard deviations of chance: it would fail once in 10^9 runs if it is unbiased."""
    selection = RuleSelection(make_rule(sample=probability), seed)
    events = 400
    for tick in range(events):
        selection.keep(tick * SECOND, 0, None, None, None, 0)
    counts = selection.tally.to_dict()
    assert sum(counts.values()) == events
    deviation = (events * (1 - probability) / probability) ** 0.5
    assert abs(counts.get("kept", 0) / probability - events) < 6 * deviation


def test_the_share_of_kept_events_is_the_sampling_probability_over_many_seeds() -> None:
    kept = 0
    for seed in range(300):
        selection = RuleSelection(make_rule(sample=0.2), seed)
        kept += sum(selection.keep(tick * SECOND, 0, None, None, None, 0) for tick in range(100))
    assert abs(kept / 30_000 - 0.2) < 0.01


def campaign_of(budget: Budget, starts_ns: int = 0, expires_ns: int = 10**30) -> CampaignSelection:
    return CampaignSelection(CampaignTerms(budget, starts_ns, expires_ns))
