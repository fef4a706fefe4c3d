"""The report's tables: what rules cost and found, how much they overlap, which could not be asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from replay.backtest.markup import Html, counted, element, join, number, share
from replay.backtest.statistics import grade_facts
from replay.backtest.summary import BacktestResult, RuleSummary
from replay.backtest.table import is_worth_a_row

#: Beyond so many rules a heat table is no longer legible; those with the most firings are shown.
MAX_HEAT_RULES = 40
COST_HEADS = (
    ("rule", "text"), ("firings", ""), ("per hour", ""), ("95 %", ""), ("MB / hour", ""), ("MB / day", ""),
    ("before selection", ""), ("not kept", "text"), ("precision", ""), ("recall", ""),
)  # fmt: skip


def cost_table(result: BacktestResult) -> Html:
    """One row a rule, the dearest first; silent rules are folded away."""
    shown = sorted(filter(is_worth_a_row, result.rules), key=lambda rule: (-rule.mb_per_day, -rule.firings))
    silent = [rule for rule in result.rules if not is_worth_a_row(rule) and rule.not_applicable is None]
    dearest = max((rule.mb_per_day for rule in shown), default=0.0)
    heads = [element("th", text, class_=f"sortable {kind}".strip()) for text, kind in COST_HEADS]
    rows = [_cost_row(rule, dearest) for rule in shown]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows))
    return join(element("div", table, class_="box"), _silent(silent))


def _cost_row(rule: RuleSummary, dearest: float) -> Html:
    low, high = rule.firings_per_hour_95
    held = ", ".join(f"{count} {reason}" for reason, count in rule.suppressed.items())
    return element(
        "tr",
        element("td", *_name(rule)),
        element("td", str(rule.firings), data_value=rule.firings),
        element(
            "td", number(rule.firings_per_hour) + star(rule), data_value=rule.firings_per_hour, data_tip=held_tip(rule)
        ),
        element("td", element("small", f"{number(low)} to {number(high)}"), data_value=high),
        element("td", number(rule.mb_per_hour), data_value=rule.mb_per_hour),
        _bar(rule, dearest),
        element("td", number(rule.mb_per_day_before), data_value=rule.mb_per_day_before),
        element("td", held, class_="text"),
        *_truth(rule),
        data_rule=rule.rule.name.lower(),
    )


def _name(rule: RuleSummary) -> list[Html]:
    said = rule.rule
    chip = element("span", said.priority.value, class_=f"chip {said.priority.value}")
    return [element("b", said.name), chip, element("small", said.description)]


def _bar(rule: RuleSummary, dearest: float) -> Html:
    width = rule.mb_per_day / dearest * 94 if dearest > 0 else 0.0
    bar = element("i", style=f"width: {width:.1f}%")
    text = element("b", number(rule.mb_per_day))
    return element("td", bar, text, class_="bar", data_value=rule.mb_per_day, data_tip=held_tip(rule))


def star(rule: RuleSummary) -> str:
    """Marks figures that were held to a budget."""
    return "*" if rule.is_held_to_budget else ""


def held_tip(rule: RuleSummary) -> str | None:
    """What the star means."""
    return "held to its budget, which these drives are too short to reach" if rule.is_held_to_budget else None


def _truth(rule: RuleSummary) -> tuple[Html, Html]:
    if rule.grade is None:
        return element("td", data_value=-1), element("td", data_value=-1)
    facts, grade = grade_facts(rule.grade), rule.grade
    counts = f"{grade.hit} events found, {grade.missed} missed; {grade.false} firings false"
    return _graded(facts["precision"], counts), _graded(facts["recall"], counts)


def _graded(value: float | None, counts: str) -> Html:
    kind = None if value is None else "good" if value >= 0.99 else "bad" if value < 0.9 else None
    return element("td", share(value), class_=kind, data_tip=counts, data_value=-1 if value is None else value)


def _silent(rules: Sequence[RuleSummary]) -> Html:
    if not rules:
        return Html("")
    rows = [element("tr", element("td", *_name(rule)), data_rule=rule.rule.name.lower()) for rule in rules]
    table = element("table", element("tbody", *rows))
    return element("details", element("summary", f"{counted(len(rules), 'rule')} did not fire"), table, class_="box")


def not_applicable_table(result: BacktestResult) -> Html:
    """Rules that some drive could not serve: the reason, and which drives."""
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for outcome in result.outcomes:
        for rule, reason in outcome.not_applicable.items():
            reasons[rule, reason].append(outcome.facts.name)
    if not reasons:
        return element("p", "Every rule could be evaluated on every drive.")
    everywhere, heads = len(result.outcomes), ("rule", "reason", "drives")
    rows = [
        element(
            "tr",
            element("td", rule),
            element("td", reason, class_="text"),
            element("td", "all" if len(drives) == everywhere else ", ".join(drives), class_="text"),
            data_rule=rule.lower(),
        )
        for (rule, reason), drives in sorted(reasons.items())
    ]
    head = element("thead", element("tr", *(element("th", text, class_="text") for text in heads)))
    table = element("table", head, element("tbody", *rows))
    count = len({rule for rule, _ in reasons})
    said = f"{counted(count, 'rule')} could not be evaluated on every drive"
    return element("details", element("summary", said), table, class_="box", open="" if len(rows) <= 12 else None)


def overlap_table(result: BacktestResult) -> Html:
    """Row A, column B: the share of A's firings whose clip B would have brought home as well."""
    names = [rule.rule.name for rule in sorted(result.fired, key=lambda rule: -rule.firings)][:MAX_HEAT_RULES]
    if len(names) < 2:
        return element("p", "Fewer than two rules fired: nothing overlaps.")
    names.sort()
    heads = [element("th", element("span", name), class_="column") for name in names]
    rows = [
        element("tr", element("th", name, class_="row"), *(_heat(result, name, other) for other in names))
        for name in names
    ]
    table = element("table", element("tr", element("th"), *heads), *rows, class_="heat")
    return element("div", table, class_="box")


def _heat(result: BacktestResult, name: str, other: str) -> Html:
    if name == other:
        return element("td", class_="self")
    value = result.overlap.get(name, {}).get(other, 0.0)
    if not value:
        return element("td")
    tip = f"{value:.0%} of the firings of {name} lie in clips of {other}"
    style = f"background: rgba(var(--accent), {0.08 + 0.8 * value:.2f})"
    return element("td", f"{value * 100:.0f}", style=style, class_="strong" if value > 0.6 else None, data_tip=tip)
