"""`shadowrig triggers`: look at rules and run the tests that they ship with."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli import queries, triggers_backtest, triggers_ledger
from runtime.cli.common import Subcommands, add_command, add_group, write_json


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands, "triggers", "List, check and test trigger rules.", "shadowrig triggers check my_rules.yaml"
    )
    listing = add_command(
        group, "list", "List rules: name, priority, what they are for.", "shadowrig triggers list", run_list
    )
    check = add_command(
        group, "check", "Check rule files; every problem is printed with file, line and fix.",
        "shadowrig triggers check my_rules.yaml", run_check,
    )  # fmt: skip
    test = add_command(
        group, "test", "Run the tests that rule files ship with.", "shadowrig triggers test my_rules.yaml", run_test
    )
    triggers_backtest.add(group)
    queries.add(group)
    triggers_ledger.add(group)
    for parser in (listing, test):
        parser.add_argument("files", nargs="*", default=["library"], help="rule files or folders (default: library)")
    check.add_argument("files", nargs="+", help="rule files or folders")
    listing.add_argument("--json", default=None, metavar="FILE", help="write the list as JSON ('-': standard output)")


def run_list(options: argparse.Namespace) -> int:
    """Print the rules."""
    from runtime.composition import open_rules

    rules = open_rules(options.files).rules
    if options.json is not None:
        facts = [
            {"name": rule.name, "priority": rule.priority.value, "description": rule.description} for rule in rules
        ]
        write_json(options.json, facts)
    if options.json != "-":
        width = max((len(rule.name) for rule in rules), default=0)
        for rule in rules:
            print(f"{rule.name:{width}}  {rule.priority.value:10}  {rule.description}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Load the rules; bad files print every problem and end with 2."""
    from runtime.composition import open_rules

    print(f"{len(open_rules(options.files).rules)} rules are good")
    return 0


def run_test(options: argparse.Namespace) -> int:
    """Run the shipped tests; 1 when one fails."""
    from runtime.config.rig_config import RULE_LIBRARY
    from triggers import library_path, run_rule_tests

    report = run_rule_tests([library_path() if place == RULE_LIBRARY else Path(place) for place in options.files])
    for result in report.results:
        print(result)
    print(report)
    return 0 if report.passed else 1
