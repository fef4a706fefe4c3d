"""`shadowrig triggers`: look at rules and run the tests that they ship with."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.cli import queries, triggers_backtest, triggers_explain, triggers_ledger, vehicle
from runtime.cli.common import Subcommands, add_command, add_group, add_json_option, write_json

if TYPE_CHECKING:
    from triggers import Rule


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands, "triggers", "List, check, test, explain and backtest trigger rules.",
        "shadowrig triggers check my_rules.yaml",
    )  # fmt: skip
    listing = add_command(
        group, "list", "List rules by category: name, priority, what they are for.", "shadowrig triggers list", run_list
    )
    check = add_command(
        group, "check", "Check rule files; every problem is printed with file, line and fix.",
        "shadowrig triggers check my_rules.yaml", run_check,
    )  # fmt: skip
    test = add_command(
        group, "test", "Run the tests that rule files ship with.", "shadowrig triggers test my_rules.yaml", run_test
    )
    triggers_explain.add(group)
    triggers_backtest.add(group)
    queries.add(group)
    triggers_ledger.add(group)
    for parser in (listing, test):
        parser.add_argument("files", nargs="*", help=vehicle.RULE_FILES_HELP)
    check.add_argument("files", nargs="+", help="rule files or folders")
    for parser in (check, test):
        vehicle.add_config_option(parser)
    vehicle.add_capability_options(listing)
    add_json_option(listing, "the list")


def run_list(options: argparse.Namespace) -> int:
    """Print the rules; with `--model` or `--config` also which of them cannot be served."""
    from runtime.composition import open_rules

    config = vehicle.configuration(options)
    rules = open_rules(vehicle.rule_places(options.files, config), vehicle.declared_signals(config))
    is_asked = options.model is not None or config is not None
    lacking = rules.not_applicable(vehicle.capabilities(options, config)) if is_asked else {}
    if options.json is not None:
        write_json(options.json, [_facts(rule, lacking.get(rule.name), is_asked) for rule in rules.rules])
    if options.json != "-":
        _print_list(rules.rules, lacking)
    return 0


def _facts(rule: Rule, lacking: str | None, is_asked: bool) -> dict[str, Any]:
    served = {"applicable": lacking is None, "lacking": lacking} if is_asked else {}
    return {
        "name": rule.name,
        "category": rule.category,
        "priority": rule.priority.value,
        "description": rule.description,
        "why": rule.why,
        "version": rule.version,
        **served,
    }


def _print_list(rules: Sequence[Rule], lacking: Mapping[str, str]) -> None:
    width = max((len(rule.name) for rule in rules), default=0)
    for category in dict.fromkeys(rule.category for rule in rules):
        members = [rule for rule in rules if rule.category == category]
        print(f"{category} ({len(members)})")
        for rule in members:
            print(f"  {rule.name:{width}}  {rule.priority.value:10}  {rule.description}")
            if rule.name in lacking:
                print(f"  {'':{width}}  {'':10}  not applicable: {lacking[rule.name]}")
    total = f"{len(rules)} rules"
    print(f"{total}, {len(lacking)} of them not applicable" if lacking else total)


def run_check(options: argparse.Namespace) -> int:
    """Load the rules; bad files print every problem and end with 2."""
    from runtime.composition import open_rules

    declared = vehicle.declared_signals(vehicle.configuration(options))
    print(f"{len(open_rules(options.files, declared).rules)} rules are good")
    return 0


def run_test(options: argparse.Namespace) -> int:
    """Run the shipped tests; 1 when one fails."""
    from runtime.config.rig_config import RULE_LIBRARY
    from runtime.declared_signals import declared_types
    from triggers import library_path, run_rule_tests

    config = vehicle.configuration(options)
    places = vehicle.rule_places(options.files, config)
    found = [library_path() if place == RULE_LIBRARY else Path(place) for place in places]
    report = run_rule_tests(found, declared_types(vehicle.declared_signals(config)))
    for result in report.results:
        print(result)
    print(report)
    return 0 if report.passed else 1
