"""`shadowrig receive`: the fleet's end."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command


def add(commands: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "receive",
        "Receive clips from enrolled vehicles, store them durably and verify each one.",
        "shadowrig receive --config receiver.yaml",
        run,
    )
    parser.add_argument("--config", required=True, type=Path, help="see deploy/receiver.example.yaml")


def run(options: argparse.Namespace) -> int:
    """Receive until SIGTERM."""
    from runtime.daemon import DaemonError, run_receiver

    try:
        return run_receiver(options.config)
    except DaemonError as error:
        raise CommandError(str(error), error.exit_code) from error
