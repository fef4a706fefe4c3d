"""`shadowrig hil`: hardware-in-the-loop, the bench's side."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, write_json


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands,
        "hil",
        "Feed a running daemon from a bench and measure it.",
        "shadowrig hil play DRIVE --to tcp://127.0.0.1:5570",
    )
    parser = add_command(
        group,
        "play",
        "Play a drive at a running daemon in real time; measure capture→result latency and losses from outside.",
        "shadowrig hil play DRIVE --to tcp://127.0.0.1:5570 --results tcp://127.0.0.1:5571",
        run_play,
    )
    parser.add_argument("drive", type=Path)
    parser.add_argument("--to", required=True, metavar="ADDRESS", help="address to publish at; the daemon connects")
    parser.add_argument("--results", default=None, metavar="ADDRESS", help="the daemon's health.telemetry address")
    parser.add_argument("--seconds", type=float, default=None, help="play only so many seconds")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds to wait for the daemon (default 30)")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the figures as JSON ('-': standard output)")


def run_play(options: argparse.Namespace) -> int:
    """Play and print what the daemon made of it."""
    from replay.hil import HilError, play_hil
    from runtime.shutdown import stop_on_signals

    try:
        result = play_hil(options.drive, options.to, options.results, options.seconds, stop_on_signals(), options.wait)
    except HilError as error:
        raise CommandError(str(error), exit_code=1) from error
    facts = result.to_json()
    if options.json is not None:
        write_json(options.json, facts)
    if options.json != "-":
        for camera, counts in facts["frames"].items():
            print(f"{camera:12}  " + "  ".join(f"{name} {count:6}" for name, count in counts.items()))
        latency = facts["latency_ms"]
        if latency["count"]:
            figures = (f"{key} {latency[key]:.1f} ms" for key in ("p50", "p99", "p99_9", "max"))
            print("capture→result  " + "  ".join(figures))
        for camera, fault in facts["camera_errors"].items():
            print(f"{camera}: {fault}")
    return 0
