"""`shadowrig demo`: the whole product on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, write_json


def add(commands: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "demo",
        "Make a synthetic eight-camera drive, play it live through the daemon, and show what came home.",
        "shadowrig demo --seconds 60 --json demo.json",
        run,
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds to play (20 to 600; default 60)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the synthetic drive (default 7)")
    parser.add_argument("--out", type=Path, default=None, help="working folder (default ~/.cache/shadowrig/demo)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the same facts as JSON")


def run(options: argparse.Namespace) -> int:
    """Play the demo; 0 only if every sealed clip came home and no planted takeover was missed."""
    from deploy.demo import DemoError, run_demo

    try:
        facts = run_demo(seconds=options.seconds, seed=options.seed, out_dir=options.out)
    except DemoError as error:
        raise CommandError(str(error)) from error
    if options.json is not None:
        write_json(options.json, facts.to_json())
    return 0 if facts.succeeded else 1
