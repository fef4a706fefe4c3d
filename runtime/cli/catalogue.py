"""`shadowrig catalogue`: ask a receiver's catalogue, take clips out, erase, and see who did."""

from __future__ import annotations

import argparse
import getpass
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, add_json_option, write_json
from runtime.cli.times import TIME_HELP, iso, wall_time_ns
from runtime.formats.printable import printable
from runtime.messages import Priority

if TYPE_CHECKING:
    from runtime.config import ReceiverConfig
    from runtime.uplink.catalogue import Catalogue
    from runtime.uplink.storage.depot import Depot

MAX_DELETION_ROUNDS = 10_000
#: As in a clip's manifest.
CLIP_KINDS = ("event", "crash", "pull")
#: What a column of either catalogue holds.
LARGEST_NUMBER = 2**63 - 1
STILL_TO_COME = "what the vehicle still has of that time will be deleted unsent"


def add(commands: Subcommands) -> None:
    """Register the commands."""
    group = add_group(
        commands, "catalogue", "A receiver's clips: find, fetch, erase, and the log of who did.",
        "shadowrig catalogue query --config receiver.yaml --rule hard_brake --from 2026-11-20",
    )  # fmt: skip
    query = add_command(
        group, "query", "List stored clips.",
        "shadowrig catalogue query --config receiver.yaml --campaign night --json clips.json", run_query,
    )  # fmt: skip
    for name in ("vehicle", "rule", "campaign", "model"):
        query.add_argument(f"--{name}", default=None)
    query.add_argument("--kind", choices=CLIP_KINDS, default=None)
    query.add_argument("--priority", choices=[each.value for each in Priority], default=None)
    query.add_argument("--from", dest="from_time", type=wall_time_ns, default=None, metavar="TIME", help=TIME_HELP)
    query.add_argument("--to", dest="to_time", type=wall_time_ns, default=None, metavar="TIME", help="till then")
    query.add_argument("--verified", action=argparse.BooleanOptionalAction, default=None)
    query.add_argument("--limit", type=int, default=1000, help="so many at most (default 1000)")
    query.add_argument(
        "--after", nargs="+", default=[], metavar=("VEHICLE", "N SHA256"),
        help="go on after this clip; without its hash after every clip of that number",
    )  # fmt: skip
    add_json_option(query, "the clips with their metadata")
    fetch = add_command(
        group, "fetch", "Take a clip out.",
        "shadowrig catalogue fetch --config receiver.yaml --vehicle car-17 --number 12 --out 12.mcap", run_fetch,
    )  # fmt: skip
    fetch.add_argument("--vehicle", required=True)
    fetch.add_argument("--number", required=True, type=whole_number)
    fetch.add_argument(
        "--sha256", default="", type=str.lower, help="which, if several have the number; its beginning will do"
    )
    fetch.add_argument("--out", required=True, type=Path, metavar="FILE")
    erase = add_command(
        group, "erase", "Forget what a vehicle saw in some time: what is stored, and what of it is still to come.",
        "shadowrig catalogue erase --config receiver.yaml --vehicle car-17 --from 2026-11-20T08:00Z "
        "--to 2026-11-20T09:00Z --reason request-4711", run_erase,
    )  # fmt: skip
    erase.add_argument("--vehicle", required=True)
    erase.add_argument("--from", dest="from_time", type=wall_time_ns, required=True, metavar="TIME", help=TIME_HELP)
    erase.add_argument("--to", dest="to_time", type=wall_time_ns, required=True, metavar="TIME", help="till then")
    erase.add_argument("--reason", required=True, help="stands in the access log")
    erase.add_argument("--force", action="store_true", help="also for a vehicle that nothing here knows")
    retain = add_command(
        group, "retain", "Let clips expire as the configuration says; receivers do that by themselves.",
        "shadowrig catalogue retain --config receiver.yaml", run_retain,
    )  # fmt: skip
    log = add_command(
        group, "log", "Who asked, fetched and erased.",
        "shadowrig catalogue log --config receiver.yaml --vehicle car-17", run_log,
    )  # fmt: skip
    log.add_argument("--vehicle", default=None)
    log.add_argument(
        "--after", type=whole_number, default=None, metavar="ENTRY",
        help="from the entry that follows this one, 0: the oldest; without it, the newest",
    )  # fmt: skip
    log.add_argument("--limit", type=int, default=1000, help="so many at most (default 1000)")
    add_json_option(log, "the entries")
    for parser in (query, fetch, erase, retain, log):
        parser.add_argument(
            "--config", required=True, type=Path, help="the receiver's: see deploy/receiver.example.yaml"
        )


def whole_number(text: str) -> int:
    """A number from 0 on that a catalogue can hold. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {LARGEST_NUMBER}")
    return int(text)


def run_query(options: argparse.Namespace) -> int:
    """Print the clips that fit."""
    from runtime.uplink.storage.asking import ClipQuestion, ask, described

    question = ClipQuestion(
        options.vehicle, options.rule, options.campaign, options.priority, options.model, options.kind,
        options.from_time, options.to_time, options.verified, last_clip(options.after), options.limit,
    )  # fmt: skip
    with at_work(options) as (config, catalogue, _, wall_ns):
        clips = ask(catalogue.database, question, config.directory, who(), wall_ns)
        found = [described(clip) for clip in clips]
        if not found:
            say_what_is_not_there(config, catalogue, options.vehicle, "no clip fits")
    if options.json is not None:
        write_json(options.json, found)
    if options.json != "-":
        for each in found:
            verdict = {None: "not verified yet", True: "verified", False: "DAMAGED"}[each["verified"]]
            rules, begun = printable(",".join(each["rules"])) or "-", iso(each["start_wall_ns"])
            print(f"{each['vehicle']}  {each['n']:>6}  {begun}  {each['priority']:<10}  {rules}  {verdict}")
        if len(found) == options.limit:
            print("there may be more: --after {vehicle} {n} {sha256}".format(**found[-1]))
    return 0


def run_fetch(options: argparse.Namespace) -> int:
    """Copy a clip to a file, its hash checked."""
    from runtime.formats.durable_files import copy_checked
    from runtime.uplink.storage.asking import taken_out

    if not options.out.parent.is_dir():
        raise CommandError(f"--out {options.out}: there is no folder {options.out.parent}; nothing was fetched")
    with at_work(options) as (config, catalogue, depot, wall_ns):
        place = (options.vehicle, options.number, config.directory)
        try:
            with taken_out(catalogue.database, depot, *place, who(), wall_ns, options.sha256) as (clip, path):
                copy_checked(path, options.out, clip.key.sha256)
        except LookupError as error:
            raise CommandError(str(error), exit_code=1) from error
    print(f"{options.out}: clip {clip.key.n} of {clip.key.vehicle}, {clip.size_bytes} bytes, sha256 {clip.key.sha256}")
    return 0


def run_erase(options: argparse.Namespace) -> int:
    """Erase, and say what that was."""
    from runtime.uplink.storage.removal import erase

    if options.from_time > options.to_time:
        raise CommandError("--from lies after --to: nothing was erased")
    with at_work(options, removes=True) as (config, catalogue, depot, wall_ns):
        if not options.force and not is_known(config, catalogue, options.vehicle):
            never = f"{options.vehicle} was never enrolled in {config.keys_directory} and has sent nothing"
            raise CommandError(f"{never}: nothing was erased (fix: correct --vehicle, or --force)")
        span = (options.vehicle, options.from_time, options.to_time)
        done = erase(catalogue.database, *span, who(), options.reason, wall_ns)
        delete_all(catalogue, depot, wall_ns)
    was_here = (
        f"{done.clips} clips ({done.size_bytes} bytes, {done.unknown_time} of unknown time) and"
        f" {done.partials} under way are erased"
    )
    is_empty = done.clips == done.partials == 0
    print(f"erasure {done.id}: {'nothing stored' if is_empty else was_here}; {STILL_TO_COME}")
    return 0


def run_retain(options: argparse.Namespace) -> int:
    """Expire what is over."""
    from runtime.receiver_storage import retention_of
    from runtime.uplink.storage.removal import expire
    from runtime.uplink.storage.retention_clock import check_clock

    gone = 0
    with at_work(options, removes=True) as (config, catalogue, depot, wall_ns):
        check_clock(catalogue.database, wall_ns, may_be_behind=True)
        while count := expire(catalogue.database, retention_of(config), who(), wall_ns):
            gone += count
        delete_all(catalogue, depot, wall_ns)
    print(f"{gone} clips expired")
    return 0


def run_log(options: argparse.Namespace) -> int:
    """Print the access log."""
    from dataclasses import asdict

    from runtime.uplink.storage.asking import access_log

    with at_work(options) as (config, catalogue, _, _):
        entries = access_log(catalogue.database, options.vehicle, options.limit, options.after)
        if not entries:
            say_what_is_not_there(config, catalogue, options.vehicle, "no entry fits")
    if options.json is not None:
        write_json(options.json, [asdict(entry) for entry in entries])
    if options.json != "-":
        for entry in entries:
            about = entry.vehicle or "-"
            line = f"{entry.id:>8}  {iso(entry.wall_ns)}  {entry.who}  {entry.action}  {about}  {entry.detail}"
            print(printable(line))
    if len(entries) == options.limit:
        is_newest = options.after is None
        more = "earlier ones: --after 0 begins with the oldest" if is_newest else f"more: --after {entries[-1].id}"
        print(f"there may be {more}", file=sys.stderr)
    return 0


def is_known(config: ReceiverConfig, catalogue: Catalogue, vehicle: str) -> bool:
    """True for a vehicle that was ever enrolled, or that the catalogue knows. Raises OSError for the keys' folder."""
    from runtime.uplink.keys import was_ever_enrolled
    from runtime.uplink.storage.asking import has_vehicle

    return has_vehicle(catalogue.database, vehicle) or was_ever_enrolled(config.keys_directory, vehicle)


def say_what_is_not_there(config: ReceiverConfig, catalogue: Catalogue, vehicle: str | None, what: str) -> None:
    """To people: an empty answer, and whether a mistaken name may be why. A program finds the empty list."""
    try:
        if vehicle is not None and not is_known(config, catalogue, vehicle):
            what = f"{what}: {vehicle} was never enrolled here and has sent nothing"
    except OSError as error:  # whoever asks need not be one who may read keys
        what = f"{what}; whether {vehicle} is enrolled is not known: {error}"
    print(printable(what), file=sys.stderr)


@contextmanager
def at_work(
    options: argparse.Namespace, removes: bool = False
) -> Iterator[tuple[ReceiverConfig, Catalogue, Depot, int]]:
    """The opened storage and the time; failures of it become one line."""
    from runtime.clock import SystemClock
    from runtime.config import load_receiver_config
    from runtime.receiver_storage import opened

    config = load_receiver_config(options.config)
    try:
        with opened(config, removes) as (catalogue, depot):
            yield config, catalogue, depot, SystemClock().wall_ns()
    except (OSError, ValueError) as error:
        raise CommandError(str(error), exit_code=1) from error


def delete_all(catalogue: Catalogue, depot: Depot, wall_ns: int) -> None:
    """Delete what is left for deletion by now."""
    from runtime.uplink.storage.removal import empty_deletions

    for _ in range(MAX_DELETION_ROUNDS):
        if not empty_deletions(catalogue.database, depot, wall_ns):
            return


def who() -> str:
    """Who is at work, for the access log."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def last_clip(words: Sequence[str]) -> tuple[str, int, str] | None:
    """The clip that `--after` names: vehicle, number, and hash or nothing. Raises CommandError."""
    if not words:
        return None
    if not 2 <= len(words) <= 3:
        raise CommandError(f"--after {' '.join(words)}: name a vehicle, a number and, to be exact, a hash")
    vehicle, number, sha256 = (*words, "")[:3]
    try:
        return vehicle, whole_number(number), sha256.lower()
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"--after {vehicle}: {error}") from error
