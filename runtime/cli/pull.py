"""`shadowrig pull`: ask a vehicle for some seconds that it still holds."""

from __future__ import annotations

import argparse
import re
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.cli.common import CommandError, Subcommands, add_command, add_json_option, write_json
from runtime.cli.times import LAST_NS, iso, wall_time_ns
from runtime.formats.printable import printable
from runtime.messages import NANOSECONDS_PER_SECOND, Priority

if TYPE_CHECKING:
    from runtime.config.receiver_config import ReceiverConfig
    from runtime.formats.pull_files import PullRequest
    from runtime.uplink.pull_book import PullBook, PullRow

POLL_S = 0.5
#: A start further ahead is most often a mistaken offset from UTC.
FAR_AHEAD_S = 600.0
_NANOSECONDS = re.compile(r"\d{1,19}")


def add(commands: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "pull",
        "Ask a vehicle for a range of what it still holds: it sends a clip, or says why not.",
        "shadowrig pull car-17 --config receiver.yaml --camera front_main"
        " --from 2026-11-21T09:30:00+01:00 --to +15s --wait 5min",
        run,
    )
    parser.add_argument("vehicle", nargs="?", help="an enrolled vehicle; with --list: only its pulls")
    parser.add_argument("--config", required=True, type=Path, help="the receiver's configuration")
    parser.add_argument(
        "--camera", action="append", default=[], dest="cameras", metavar="NAME", help="repeat for several; none: all"
    )
    parser.add_argument(
        "--from", dest="start", metavar="T", help="wall time with its offset (2026-11-21T09:30:00Z), or nanoseconds"
    )
    parser.add_argument("--to", dest="end", metavar="T", help="the same, or +15s after --from")
    parser.add_argument(
        "--clock", choices=("wall", "capture"), default="wall",
        help="what the times are; capture: the vehicle's own nanoseconds, as in a clip's manifest",
    )  # fmt: skip
    parser.add_argument("--priority", choices=[each.value for each in Priority], default="high")
    parser.add_argument("--expires", default="7d", metavar="DURATION", help="give up without an answer (7d)")
    parser.add_argument("--wait", default=None, metavar="DURATION", help="wait for the vehicle's answer")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="show the newest pulls and their answers")
    action.add_argument("--cancel", metavar="ID", help="ask no longer")
    add_json_option(parser, "the pulls")


def run(options: argparse.Namespace) -> int:
    """Ask, list or cancel; 1 when a pull was refused, expired or not answered in the time waited."""
    from runtime.config.receiver_config import load_receiver_config
    from runtime.processes.receiver_pulls import open_pull_book

    config = load_receiver_config(options.config)
    if not config.directory.is_dir():
        raise CommandError(f"{config.directory} is not there: start the receiver once (shadowrig receive)")
    try:
        book = open_pull_book(config)
        if options.list:
            rows = book.listed(options.vehicle)
            if not rows:
                _say(f"nothing has been asked of {options.vehicle or 'any vehicle'}")
            return _show(rows, options)
        if options.cancel is not None:
            return _cancel(book, options.cancel)
        return _ask(book, config, options)
    except OSError as error:
        raise CommandError(f"the catalogue in {config.directory} cannot be used: {error}", exit_code=1) from error


def _ask(book: PullBook, config: ReceiverConfig, options: argparse.Namespace) -> int:
    from runtime.config.quantities import parse_duration_s
    from runtime.formats.documents import Mistake
    from runtime.formats.pull_files import PullFileError, PullRequest
    from runtime.uplink.pull_book import TooManyPullsError

    vehicle = _enrolled(options.vehicle, config)
    if options.start is None or options.end is None:
        raise CommandError("--from and --to say which seconds are wanted")
    start_ns = instant_ns(options.start, options.clock)
    now_ns = time.time_ns()
    try:
        is_relative = options.end.startswith("+")
        end_ns = start_ns + _duration_ns(options.end[1:]) if is_relative else instant_ns(options.end, options.clock)
        cameras = tuple(dict.fromkeys(options.cameras))
        priority = Priority(options.priority)
        if max(end_ns, now_ns + _duration_ns(options.expires)) > LAST_NS:
            raise CommandError(
                "--to or --expires lies beyond the year 2262, where nanoseconds end: name an earlier one"
            )
        request = PullRequest(uuid.uuid4().hex, cameras, start_ns, end_ns, options.clock, priority)
        wait_s = 0.0 if options.wait is None else parse_duration_s(options.wait)
        expires_ns = now_ns + _duration_ns(options.expires)
        book.ask(vehicle, request, now_ns, expires_ns)  # the vehicle is asked when nothing is wrong any more
    except (PullFileError, TooManyPullsError, Mistake) as error:
        raise CommandError(str(error)) from error
    _hint(request, now_ns)
    row = _wait(book, request.id, wait_s)
    _show([row], options)
    if row.is_open and options.wait is not None:
        _say(f"no answer within {options.wait}; it stays open until {iso(row.expires_wall_ns)}")
    is_settled_badly = row.state in ("refused", "expired", "cancelled") or (row.is_open and options.wait is not None)
    return 1 if is_settled_badly else 0


def _enrolled(vehicle: str | None, config: ReceiverConfig) -> str:
    from runtime.uplink.keys import KeyFileError, list_vehicles

    if vehicle is None:
        raise CommandError("name a vehicle, or use --list")
    try:
        enrolled = list_vehicles(config.keys_directory)
    except (KeyFileError, OSError) as error:
        raise CommandError(str(error)) from error
    if vehicle not in enrolled:
        raise CommandError(f"{vehicle} is not enrolled: see `shadowrig keys list {config.keys_directory}`")
    return vehicle


def _duration_ns(text: str) -> int:
    from runtime.config.quantities import parse_duration_s

    return round(parse_duration_s(text) * NANOSECONDS_PER_SECOND)


def instant_ns(text: str, clock: str) -> int:
    """Nanoseconds of an instant as people write it. Raises CommandError."""
    if _NANOSECONDS.fullmatch(text):
        return int(text)
    if clock == "capture":
        raise CommandError(f"{text!r} is no capture time: write nanoseconds, as in the clip's manifest")
    try:
        return wall_time_ns(text)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"{error}; or write nanoseconds") from error


def _wait(book: PullBook, pull_id: str, wait_s: float) -> PullRow:
    deadline = time.monotonic() + wait_s
    while True:
        row = book.find(pull_id)
        if row is None:
            raise CommandError(f"pull {pull_id} is gone from the catalogue", exit_code=1)
        if not row.is_open or time.monotonic() >= deadline:
            return row
        time.sleep(POLL_S)


def _cancel(book: PullBook, pull_id: str) -> int:
    if not book.cancel(pull_id, time.time_ns()):
        raise CommandError(f"no pull {pull_id} waits for an answer: see --list", exit_code=1)
    print(f"{pull_id} is cancelled")
    return 0


def _show(rows: Sequence[PullRow], options: argparse.Namespace) -> int:
    if options.json is not None:
        write_json(options.json, [facts_of(row) for row in rows])
    if options.json != "-":
        now_ns = time.time_ns()
        for row in rows:
            print(line_of(row, now_ns))
    return 0


def line_of(row: PullRow, now_ns: int) -> str:
    """A pull for people: which, what was asked for and when, and what came of it."""
    request = row.request
    what = ", ".join(request.cameras) or "all cameras"
    length_s = (request.end_ns - request.start_ns) / NANOSECONDS_PER_SECOND
    capture = f"{request.start_ns} ns of its capture clock"
    begins = iso(request.start_ns, is_exact=True) if request.clock == "wall" else capture
    asked = f"{request.priority.value} priority, asked {_rounded((now_ns - row.asked_wall_ns) / 1e9)} ago"
    end = f", open until {iso(row.expires_wall_ns)}" if row.is_open else ""
    answer = f"clip {row.n}" if row.state == "sealed" else row.reason
    length = f"{length_s:g} s" if length_s < 60 else _rounded(length_s)
    shown = f"{request.id}  {row.vehicle}  {length} from {begins} of {what}, {asked}{end}: {row.state} {answer}"
    return printable(shown.rstrip())


def _hint(request: PullRequest, now_ns: int) -> None:
    """What is most likely not meant; the vehicle decides, for only it knows what it holds."""
    from runtime.config.rig_config import RecorderConfig

    usual_s = RecorderConfig().max_clip_s
    length_s = (request.end_ns - request.start_ns) / NANOSECONDS_PER_SECOND
    if length_s > usual_s:
        most = f"recorder.max_clip_s of the vehicle, {usual_s:g} s unless set"
        _say(f"{_rounded(length_s)} may be more than a clip may hold ({most}): ask in parts")
    ahead_s = (request.start_ns - now_ns) / NANOSECONDS_PER_SECOND
    if request.clock == "wall" and ahead_s > FAR_AHEAD_S:
        _say(
            f"--from lies {_rounded(ahead_s)} ahead: is its offset from UTC right? A vehicle may refuse what is to come"
        )


def _rounded(duration_s: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if duration_s >= length_s:
            return f"{duration_s / length_s:.3g} {unit}"
    return f"{max(0.0, duration_s):.0f} s"


def _say(text: str) -> None:
    """To people beside the answer, which may be read by a program."""
    print(text, file=sys.stderr)


def facts_of(row: PullRow) -> dict[str, Any]:
    """A pull as JSON."""
    return {
        **row.request.to_json(),
        "vehicle": row.vehicle,
        "asked_wall_ns": row.asked_wall_ns,
        "expires_wall_ns": row.expires_wall_ns,
        "state": row.state,
        "reason": row.reason,
        "n": row.n,
        "answered_wall_ns": row.answered_wall_ns,
    }
