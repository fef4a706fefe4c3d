"""`shadowrig triggers explain`: what a rule asks, reads and remembers, and whether the running model can serve it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.cli.common import CommandError, Subcommands, add_command, write_json
from runtime.formats.documents import suggest

if TYPE_CHECKING:
    from triggers import Capabilities, Rule
    from triggers.rules.explanation import Explanation, Window

DEFAULT_MODEL = "hydra_mini"
NO_MODEL = "none"


def add(group: Subcommands) -> None:
    """Register the command below `triggers`."""
    parser = add_command(
        group, "explain", "Explain a rule: condition, signals, windows, memory, and whether this model can serve it.",
        "shadowrig triggers explain driver_takeover", run_explain,
    )  # fmt: skip
    parser.add_argument("rule", help="the rule's name")
    parser.add_argument("files", nargs="*", default=["library"], help="rule files or folders (default: library)")
    add_capability_options(parser, DEFAULT_MODEL)
    parser.add_argument("--json", default=None, metavar="FILE", help="write it as JSON ('-': standard output)")


def add_capability_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    """What rules are held against."""
    shown = "" if default is None else f" (default: {default})"
    parser.add_argument("--model", default=default, help=f"what can this model serve? A bundle, or 'none'{shown}")
    parser.add_argument(
        "--rig", type=Path, default=None, help="calibration (default: that of the demo's eight cameras)"
    )


def run_explain(options: argparse.Namespace) -> int:
    """Print the explanation."""
    from runtime.composition import open_rules
    from triggers.rules.explanation import explain

    rules = open_rules(options.files)
    names = [rule.name for rule in rules.rules]
    if options.rule not in names:
        raise CommandError(f"no rule is called {options.rule!r}: {suggest(options.rule, names)}")
    explanation = explain(rules, options.rule, capabilities(options))
    if options.json is not None:
        write_json(options.json, facts(explanation))
    if options.json != "-":
        _print(explanation, options.model)
    return 0


def capabilities(options: argparse.Namespace) -> Capabilities:
    """What the model and rig of the options can give. Raises DocumentError and CommandError."""
    from runtime.capabilities import SourceFacts, capabilities_of
    from runtime.composition import (
        CompositionError,
        ModelChoice,
        find_bundle,
        open_network,
        open_rig,
        published_scalars,
    )

    if options.model == NO_MODEL:
        return capabilities_of(None, (), (), None, SourceFacts())
    rig = open_rig(options.rig or _demo_rig())
    assert rig is not None
    try:
        network = open_network(ModelChoice(find_bundle(options.model)), rig.names)
    except CompositionError as error:
        raise CommandError(str(error)) from error
    try:
        return capabilities_of(network, published_scalars(network), rig.names, rig, SourceFacts())
    finally:
        network.close()


def _demo_rig() -> Path:
    import calibration

    return Path(calibration.__file__).parent / "rigs" / "demo_eight.yaml"


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
    _section("without a model" if model == NO_MODEL else f"with {model}", [served])


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


def size(count: int) -> str:
    """Bytes for people, in powers of ten."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"
