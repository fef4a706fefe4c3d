"""`shadowrig triggers ledger`: what became of every event of a vehicle's rules, as its runtime counts it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.cli.common import CommandError, Subcommands, add_command, add_json_option, write_json


def add(group: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        group, "ledger", "Show what became of each rule's events: kept, or why not.",
        "shadowrig triggers ledger --config rig.yaml", run,
    )  # fmt: skip
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--config", type=Path, help="the vehicle's configuration: it says where its status is")
    place.add_argument("--status-dir", type=Path, metavar="DIR", help="the folder of the vehicle's status files")
    add_json_option(parser, "the counts")


def run(options: argparse.Namespace) -> int:
    """Print the ledger; 2 when there is none."""
    ledger = _ledger(options.status_dir or _status_directory(options.config))
    if options.json is not None:
        write_json(options.json, ledger)
    if options.json != "-":
        print("\n".join(_lines(ledger)))
    return 0


def _status_directory(config: Path) -> Path:
    from runtime.config import load_config, resolve_directories

    return resolve_directories(load_config(config), os.environ, os.getuid()).status


def _ledger(directory: Path) -> dict[str, dict[str, int]]:
    from runtime.health.status import StatusError, read_status

    path = directory / "runtime.json"
    try:
        status: Mapping[str, Any] | None = read_status(path)
    except (StatusError, OSError) as error:
        raise CommandError(f"{path}: cannot be read: {error}") from error
    if status is None:
        raise CommandError(f"{path}: there is no status (fix: start the runtime, or name another folder)")
    if "ledger" not in status:
        raise CommandError(f"{path}: holds no ledger (fix: its runtime is older than this command; update it)")
    return {rule: dict(counts) for rule, counts in sorted(status["ledger"].items())}


def _lines(ledger: Mapping[str, Mapping[str, int]]) -> list[str]:
    from triggers.selection import OUTCOMES

    if not ledger:
        return ["no rule has had an event"]
    columns = [outcome for outcome in OUTCOMES if any(outcome in counts for counts in ledger.values())]
    width = max(len("rule"), *map(len, ledger))
    head = f"{'rule':{width}}  {'events':>8}" + "".join(f"  {column:>8}" for column in columns)
    rows = [
        f"{rule:{width}}  {sum(counts.values()):8}" + "".join(f"  {counts.get(column, 0):8}" for column in columns)
        for rule, counts in ledger.items()
    ]
    return [head, *rows]
