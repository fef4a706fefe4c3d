"""`shadowrig run`: the vehicle daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command


def add(commands: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "run",
        "Run the vehicle daemon: all three processes on a dev box, or one of them under systemd.",
        "shadowrig run --config rig.yaml",
        run,
    )
    parser.add_argument("--config", required=True, type=Path, help="rig configuration (see deploy/rig.example.yaml)")
    parser.add_argument(
        "--process",
        choices=("all", "runtime", "recorder", "uploader"),
        default="all",
        help="which process to be (default all: supervise the three)",
    )


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM."""
    from runtime.daemon import DaemonError, run_daemon

    try:
        return run_daemon(options.config, options.process)
    except DaemonError as error:
        raise CommandError(str(error), error.exit_code) from error
