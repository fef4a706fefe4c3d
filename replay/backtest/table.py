"""A backtest as tables for people. Rules that never fired, and those that could not, are named below the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replay.backtest.clip_costs import BYTES_PER_MB
from replay.backtest.statistics import grade_facts
from replay.backtest.summary import BacktestResult, RuleSummary

#: Rules with the most firings are shown, as many as the terminal has columns for.
OVERLAP_NAME_WIDTH, OVERLAP_COLUMN_WIDTH = 34, 5


def print_backtest(result: BacktestResult, console: Console | None = None) -> None:
    """Print everything."""
    console = console or Console()
    console.print(_drives(result))
    console.print(_rules(result))
    if (overlaps := _overlaps(result, console.width)) is not None:
        console.print(overlaps)
    console.print(_total(result), highlight=False)
    for line in _notes(result):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _drives(result: BacktestResult) -> Table:
    table = _table("Drives")
    table.add_column("drive", overflow="fold")
    for name in ("length", "cameras", "firings", "truth", "rules ran at"):
        table.add_column(name, justify="right")
    for outcome in result.outcomes:
        totals = None if outcome.grades is None else outcome.grades.totals()
        cameras = f"{len(outcome.facts.cameras)}, {sum(outcome.bytes_per_s.values()) / BYTES_PER_MB:.1f} MB/s"
        table.add_row(
            escape(outcome.facts.name),
            f"{outcome.facts.duration_s:.1f} s",
            cameras if outcome.facts.cameras else "none",
            str(len(outcome.kept)),
            "" if totals is None else f"{totals['hit']} hit, {totals['missed']} missed, {totals['false']} false",
            f"{outcome.facts.duration_s / max(outcome.evaluation_s, 1e-9):.0f}x",
        )
    return table


def _rules(result: BacktestResult) -> Table:
    table = _table(f"Rules, each alone; a day is {result.hours_per_day:g} h of driving; before: without selection")
    table.add_column("rule", overflow="fold")
    for name in ("fired", "/hour", "MB/hour", "MB/day", "before", "precision", "recall"):
        table.add_column(name, justify="right", no_wrap=True)
    for rule in sorted(filter(is_worth_a_row, result.rules), key=lambda rule: -rule.mb_per_day):
        table.add_row(
            rule.rule.name,
            str(rule.firings),
            f"{rule.firings_per_hour:.1f}{'*' if rule.is_held_to_budget else ''}",
            f"{rule.mb_per_hour:.0f}",
            f"{rule.mb_per_day:.0f}",
            f"{rule.mb_per_day_before:.0f}",
            *_truth(rule),
        )
    return table


def is_worth_a_row(rule: RuleSummary) -> bool:
    """It fired, was kept from firing, or should have fired."""
    return bool(rule.firings or rule.events or rule.suppressed or (rule.grade is not None and rule.grade.missed))


def _truth(rule: RuleSummary) -> tuple[str, str]:
    if rule.grade is None:
        return "", ""
    facts = grade_facts(rule.grade)
    return share_text(facts["precision"]), share_text(facts["recall"])


def share_text(share: float | None) -> str:
    """A share for people; a dash where there was nothing to take a share of."""
    return "-" if share is None else f"{share:.2f}"


def _total(result: BacktestResult) -> str:
    return (
        f"{result.firings} firings in {result.hours:.3f} h of driving, merged into {result.clips} clips: "
        f"{result.mb_per_hour:.1f} MB for an hour of driving, {result.mb_per_day:.1f} MB a day at "
        f"{result.hours_per_day:g} h of driving ({result.mb_per_day_before:.1f} MB before sampling and budgets)"
    )


def _overlaps(result: BacktestResult, width: int) -> Table | None:
    """Row A, column B: of A's firings, the percentage whose clip touches one of B's. Columns are numbered as rows."""
    by_firings = sorted(result.fired, key=lambda rule: -rule.firings)
    names = [rule.rule.name for rule in by_firings][: max((width - OVERLAP_NAME_WIDTH) // OVERLAP_COLUMN_WIDTH, 2)]
    if len(names) < 2:
        return None
    left_out = len(by_firings) - len(names)
    more = f" ({left_out} rules more are in --html and --json)" if left_out else ""
    table = _table(f"Overlap: % of the row's firings in clips of the column{more}")
    table.add_column("", overflow="fold")
    for position in range(1, len(names) + 1):
        table.add_column(str(position), justify="right", no_wrap=True)
    for position, name in enumerate(names, 1):
        shares = [result.overlap.get(name, {}).get(other, 0.0) for other in names]
        table.add_row(f"{position} {name}", *(f"{share * 100:.0f}" if share else "" for share in shares))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _notes(result: BacktestResult) -> Iterator[str]:
    if any(rule.is_held_to_budget for rule in result.rules):
        yield "*: held to the rule's budget, which these drives are too short to reach"
    for outcome in result.outcomes:
        yield from (f"{outcome.facts.name}: {note}" for note in outcome.notes)
    for rule in result.rules:
        if rule.suppressed:
            held = ", ".join(f"{count} by {reason}" for reason, count in rule.suppressed.items())
            yield f"{rule.rule.name}: events not kept: {held}"
    silent = [rule.rule.name for rule in result.rules if not is_worth_a_row(rule) and rule.not_applicable is None]
    if silent:
        yield f"did not fire: {', '.join(silent)}"
    reasons: dict[str, list[str]] = defaultdict(list)
    for rule in result.rules:
        if rule.not_applicable is not None:
            reasons[rule.not_applicable].append(rule.rule.name)
    yield from (f"not applicable, for {reason}: {', '.join(names)}" for reason, names in reasons.items())
