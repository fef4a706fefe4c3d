"""The `shadowrig` command: one module a subcommand, each with its arguments, its help and an example.

Exit codes: 0 done; 1 the work failed or found something wrong; 2 the input is bad (every problem is printed, with
file, line, value and fix, and nothing was started); 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from runtime.cli.common import CommandError
from runtime.formats.documents import DocumentError
from runtime.formats.printable import printable
from runtime.version import package_version

COMMANDS = (
    "demo", "run", "replay", "receive", "catalogue", "hil", "model", "calibrate", "triggers", "bench", "campaign",
    "clip", "keys", "pull", "rig", "doctor",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand."""
    parser = argparse.ArgumentParser(
        prog="shadowrig",
        description="Vehicle-side shadow-mode inference runtime: decides which seconds are worth sending home.",
        epilog="example:\n  shadowrig demo --seconds 60",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shadowrig {package_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"runtime.cli.{name}").add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for talkative in ("can", "tuf", "securesystemslib"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except DocumentError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except CommandError as error:
        for line in f"shadowrig {options.command}: {error}".splitlines():
            print(printable(line), file=sys.stderr)  # it may quote what a vehicle wrote
        return error.exit_code
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def entry_point() -> None:
    """What the installed `shadowrig` script calls."""
    sys.exit(main())
