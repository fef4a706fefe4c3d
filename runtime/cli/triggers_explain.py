"""`shadowrig triggers explain`: what a rule asks, reads and remembers, and whether the running model can serve it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.cli import vehicle
from runtime.cli.common import CommandError, Subcommands, add_command, add_json_option, write_json
from runtime.formats.documents import suggest
from runtime.formats.printable import size

if TYPE_CHECKING:
    from triggers import Rule
    from triggers.rules.explanation import Explanation, Window


def add(group: Subcommands) -> None:
    """Register the command below `triggers`."""
    parser = add_command(
        group, "explain", "Explain a rule: condition, signals, windows, memory, and whether this model can serve it.",
        "shadowrig triggers explain driver_takeover", run_explain,
    )  # fmt: skip
    parser.add_argument("rule", help="the rule's name")
    parser.add_argument("files", nargs="*", help=vehicle.RULE_FILES_HELP)
    vehicle.add_capability_options(parser)
    add_json_option(parser, "it")


def run_explain(options: argparse.Namespace) -> int:
    """Print the explanation."""
    from runtime.composition import open_rules
    from triggers.rules.explanation import explain

    config = vehicle.configuration(options)
    rules = open_rules(vehicle.rule_places(options.files, config), vehicle.declared_signals(config))
    names = [rule.name for rule in rules.rules]
    if options.rule not in names:
        raise CommandError(f"no rule is called {options.rule!r}: {suggest(options.rule, names)}")
    explanation = explain(rules, options.rule, vehicle.capabilities(options, config))
    if options.json is not None:
        write_json(options.json, facts(explanation))
    if options.json != "-":
        _print(explanation, vehicle.model_name(options, config))
    return 0


def facts(explanation: Explanation) -> dict[str, Any]:
    """The explanation in the shape that `--json` promises."""
    rule = explanation.rule
    return {
        "rule": rule.name,
        "version": rule.version,
        "category": rule.category,
        "description": rule.description,
        "why": rule.why,
        "priority": rule.priority.value,
        "condition": list(explanation.clauses),
        "operands": dict(explanation.operands),
        "score": explanation.score,
        "hold_s": rule.hold_s,
        "cooldown_s": rule.cooldown_s,
        "rearm": rule.rearm,
        "capture": {"pre_s": rule.capture.pre_s, "post_s": rule.capture.post_s},
        "sample": rule.sample,
        "budget": {
            "firings_per_hour": rule.budget.firings_per_hour,
            "bytes_per_day": rule.budget.bytes_per_day,
            "by": rule.budget.by,
        },
        "signals": dict(explanation.signals),
        "fields": list(explanation.fields),
        "windows": [
            {
                "text": window.text,
                "length_s": window.length_s,
                "memory_bytes": window.memory_bytes,
                "shared_with": list(window.shared_with),
            }
            for window in explanation.windows
        ],
        "reach_s": explanation.reach_s,
        "memory_bytes": explanation.memory_bytes,
        "applicable": explanation.lacking is None,
        "lacking": explanation.lacking,
    }


def _print(explanation: Explanation, model: str) -> None:
    rule = explanation.rule
    print(f"{rule.name}  ({rule.category}, {rule.priority.value}, version {rule.version})")
    print(f"  {rule.description}")
    if rule.why:
        print(f"  {rule.why}")
    _section("fires when all of these hold" if len(explanation.clauses) > 1 else "fires when", explanation.clauses)
    _section("for", [f"{rule.hold_s:g} s, then rests {rule.cooldown_s:g} s ({rule.rearm})"])
    _section("keeps", [f"{rule.capture.pre_s:g} s before and {rule.capture.post_s:g} s after, {_selection(rule)}"])
    _section("tells", [f"{name}: {text}" for name, text in explanation.operands.items()])
    _section("is ranked by", [] if explanation.score is None else [explanation.score])
    _section("reads", [f"{name} ({kind})" for name, kind in explanation.signals.items()] + list(explanation.fields))
    _section("remembers", [_window(window) for window in explanation.windows])
    _section("looks back", [f"{explanation.reach_s:g} s at most, in {size(explanation.memory_bytes)} of windows"])
    served = "nothing is lacking" if explanation.lacking is None else f"NOT APPLICABLE: {explanation.lacking}"
    _section("without a model" if model == vehicle.NO_MODEL else f"with {model}", [served])


def _selection(rule: Rule) -> str:
    budget = rule.budget
    parts = [] if rule.sample == 1.0 else [f"sampled with probability {rule.sample:g}"]
    if budget.firings_per_hour is not None:
        each = f" for each {budget.by}" if budget.by else ""
        parts.append(f"at most {budget.firings_per_hour} an hour{each}")
    if budget.bytes_per_day is not None:
        parts.append(f"at most {size(budget.bytes_per_day)} a day")
    return "; ".join(parts) or "every time"


def _window(window: Window) -> str:
    notes = [size(window.memory_bytes)] if window.memory_bytes else []
    if window.shared_with:
        count = len(window.shared_with)
        notes.append(f"shared with {', '.join(window.shared_with[:3])}{f' and {count - 3} more' if count > 3 else ''}")
    return window.text + (f"  [{'; '.join(notes)}]" if notes else "")


def _section(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"  {title}:")
        for line in lines:
            print(f"      {line}")
