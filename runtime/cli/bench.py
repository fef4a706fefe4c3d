"""`shadowrig bench`: what the parts cost on this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, add_json_option, write_json

MOST_RULES = 10_000
MOST_TRACKS = 512


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(commands, "bench", "Measure what parts cost on this machine.", "shadowrig bench triggers")
    parser = add_command(
        group,
        "triggers",
        "Time of evaluating many rules over many tracks, on one core.",
        "shadowrig bench triggers --rules 221 --json triggers.json",
        run_triggers,
    )
    parser.add_argument("--rules", type=int, default=221, help="how many (default 221)")
    parser.add_argument("--tracks", type=int, default=100, help="how many at each tick (default 100)")
    parser.add_argument("--ticks", type=int, default=2000, help="how many to measure (default 2000)")
    add_json_option(parser, "the figures")


def run_triggers(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    from replay.rule_bench import bench_rules

    _require(options.rules, 1, MOST_RULES, "--rules")
    _require(options.tracks, 1, MOST_TRACKS, "--tracks")
    _require(options.ticks, 1, 10_000_000, "--ticks")
    facts = asdict(bench_rules(options.rules, options.tracks, options.ticks))
    if options.json is not None:
        write_json(options.json, facts)
    if options.json != "-":
        for name, value in facts.items():
            print(f"{name:12}  {value:.3f}" if name.endswith("_ms") else f"{name:12}  {value}")
    return 0


def _require(value: int, least: int, most: int, option: str) -> None:
    if not least <= value <= most:
        raise CommandError(f"{option} is {value}; choose {least} to {most}")
