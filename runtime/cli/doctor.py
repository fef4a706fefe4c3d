"""`shadowrig doctor`: what this machine can and cannot do for us."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import Subcommands, add_command, write_json


def add(commands: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "doctor",
        "Check versions, CPU features, real-time rights, disk, tmpfs and the bundled model.",
        "shadowrig doctor --json doctor.json",
        run,
    )
    parser.add_argument("--config", default=None, type=Path, metavar="RIG.yaml", help="also look at what it asks for")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the checks as JSON ('-': standard output)")


def run(options: argparse.Namespace) -> int:
    """Print the checks; 1 when one failed."""
    from runtime.daemon import examine_machine
    from runtime.health.doctor import report_lines, to_dict, worst

    checks = examine_machine(options.config)
    if options.json is not None:
        write_json(options.json, to_dict(checks))
    if options.json != "-":
        for line in report_lines(checks):
            print(line)
    return 1 if worst(checks) == "fail" else 0
