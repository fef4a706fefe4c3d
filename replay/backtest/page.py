"""A backtest as one HTML file that needs nothing else: costs, timelines of drives, overlaps, what was not asked."""

from __future__ import annotations

from replay.backtest.markup import Html, counted, element, number
from replay.backtest.page_style import page_script, page_style
from replay.backtest.page_tables import cost_table, not_applicable_table, overlap_table
from replay.backtest.page_timeline import clock, drive_timeline
from replay.backtest.summary import SECONDS_PER_HOUR, BacktestResult

#: Drives with a timeline of their own; a report of hundreds would be too heavy to open.
MAX_TIMELINES = 60


def backtest_page(result: BacktestResult) -> str:
    """The whole page."""
    body = element("main", *_head(result), *_costs(result), *_timelines(result), *_overlap(result), *_lacking(result))
    floating = element("div", id="tip")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "Shadowrig backtest"),
        element("style", page_style()),
    )
    page = element("html", head, element("body", body, floating, element("script", page_script())), lang="en")
    return f"<!doctype html>\n{page}\n"


def _head(result: BacktestResult) -> list[Html]:
    driven = clock(result.hours * SECONDS_PER_HOUR)
    said = (
        f"{counted(len(result.rules), 'rule')} over {counted(len(result.outcomes), 'drive')}, {driven} of driving, "
        f"evaluated at {result.speed_x:,.0f} times real time. A day is {result.hours_per_day:g} h of driving."
    )
    failures = [
        element("div", f"{each.path}: not counted: {each.error}", class_="box failed") for each in result.failures
    ]
    return [element("h1", "Backtest"), element("p", said), *failures, _cards(result)]


def _cards(result: BacktestResult) -> Html:
    lacking = sum(rule.not_applicable is not None for rule in result.rules)
    hits = [rule.grade for rule in result.rules if rule.grade is not None]
    cards = [
        _card(number(result.mb_per_day), "MB a day", f"{number(result.mb_per_hour)} MB for an hour of driving"),
        _card(number(result.mb_per_day_before), "MB a day", "before sampling and budgets"),
        _card(number(result.firings_per_hour), "an hour", counted(result.firings, "firing")),
        _card(str(result.clips), "clips", "after overlapping firings merged"),
        _card(str(len(result.fired)), f"of {len(result.rules)}", f"rules fired; {lacking} not applicable"),
    ]
    if hits:
        found, missed, false = (sum(getattr(grade, name) for grade in hits) for name in ("hit", "missed", "false"))
        cards.append(_card(f"{found}", f"of {found + missed}", f"true events found; {false} firings false"))
    return element("div", *cards, class_="cards")


def _card(figure: str, unit: str, said: str) -> Html:
    return element("div", element("b", figure, " ", element("small", unit)), element("span", said), class_="card")


def _costs(result: BacktestResult) -> list[Html]:
    said = (
        "Each rule alone: what its own clips would weigh, by the bytes that the cameras recorded. Together they cost "
        "less, for overlapping firings share a clip. Precision and recall judge events before sampling and budgets. "
        "The 95 % interval is of the rate of firings, from their number alone: short drives say little of rare events."
    )
    find = element("input", class_="find", type="search", placeholder="find a rule", aria_label="find a rule")
    return [element("h2", "What each rule costs"), element("p", said), find, cost_table(result)]


def _timelines(result: BacktestResult) -> list[Html]:
    rules = [summary.rule for summary in result.rules]
    blocks = [drive_timeline(outcome, rules) for outcome in result.outcomes[:MAX_TIMELINES]]
    left_out = len(result.outcomes) - len(blocks)
    said = "Point at a mark to see the time and the values that made the rule true."
    said += f" {left_out} more drives are counted but not drawn." if left_out else ""
    return [element("h2", "Timelines"), element("p", said), *blocks]


def _overlap(result: BacktestResult) -> list[Html]:
    said = "Of the firings of a row's rule, the share in percent whose clip touches a clip of the column's rule."
    return [element("h2", "Overlap"), element("p", said), overlap_table(result)]


def _lacking(result: BacktestResult) -> list[Html]:
    return [element("h2", "Not applicable"), not_applicable_table(result)]
