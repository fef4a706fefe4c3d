"""What several subcommands share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
#: Files that commands read; a `--json` in front of one would otherwise take it for the file to write.
INPUT_SUFFIXES = frozenset({".yaml", ".yml", ".mcap"})
RULE_LIBRARY = "library"  # as in `runtime.config`, which would take a while to import for a parser


class CommandError(Exception):
    """The command cannot go on; printed as one line. `exit_code` is 2 for bad input and 1 for failed work."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def add_command(
    commands: Subcommands, name: str, summary: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A subparser whose help ends with an example."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Subcommands, name: str, summary: str, example: str) -> Subcommands:
    """A command that only holds others."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.add_subparsers(dest=f"{name}_command", required=True, metavar="COMMAND")


def json_target(text: str) -> str:
    """Where `--json` writes. What looks like an input was meant as one, and is never written over."""
    path = Path(text)
    if path.is_dir() or path.suffix in INPUT_SUFFIXES or text == RULE_LIBRARY:
        raise argparse.ArgumentTypeError(f"{text} is an input, not a file to write: put --json last, or name a file")
    return text


def add_json_option(parser: argparse.ArgumentParser, what: str) -> None:
    """`--json` alone writes to standard output and leaves out what is for people; with a file, both are there."""
    parser.add_argument(
        "--json", nargs="?", const="-", default=None, type=json_target, metavar="FILE",
        help=f"write {what} as JSON; without a file to standard output, and nothing else",
    )  # fmt: skip


def write_json(path: str | Path, facts: Any) -> None:
    """Write facts where `--json` asks; "-" is standard output."""
    text = json.dumps(facts, indent=2, sort_keys=False) + "\n"
    if str(path) == "-":
        print(text, end="")
        return
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    except OSError as error:
        raise CommandError(f"cannot write --json {target}: {error.strerror}", exit_code=1) from error


def told(error: OSError) -> str:
    """An error of the file system as one line; of a file that was still under a hidden name it names the folder."""
    path = Path(str(error.filename or "."))
    place = f"cannot write into {path.parent}" if path.name.startswith(".") and path.suffix == ".new" else str(path)
    return f"{place}: {error.strerror or error}"
