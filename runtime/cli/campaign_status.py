"""`shadowrig campaign status`: a repository with what vehicles reported, or a vehicle's own campaigns.

A report is what a vehicle says, in whatever shape it says it: one that cannot be read is told of that vehicle alone,
and nothing of it reaches the terminal but characters to be seen.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.cli.common import CommandError, Subcommands, add_command, write_json
from runtime.formats.printable import printable

if TYPE_CHECKING:
    from runtime.campaigns.repository import Repository

#: What is shown of one vehicle's report; an honest one has a few lines.
MAX_REPORT_LINES = 200
#: What a report of another shape makes of the code that reads it; the last is an instant beyond all years.
MISSHAPEN = (TypeError, KeyError, AttributeError, ValueError, OverflowError, OSError)


def add(group: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        group, "status", "A repository: what is out, who has to sign, what vehicles report. A vehicle: what runs.",
        "shadowrig campaign status fleet/ --receiver receiver.yaml", run,
    )  # fmt: skip
    parser.add_argument("repository", type=Path, nargs="?", help="a repository; without it, --config names a vehicle")
    parser.add_argument("--receiver", type=Path, help="the receiver's configuration: show what vehicles reported")
    parser.add_argument("--config", type=Path, help="on a vehicle: its rig.yaml")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the facts as JSON ('-': standard output)")


def run(options: argparse.Namespace) -> int:
    """Print the status; 1 when something needs a person: signatures, dates, refusals."""
    from runtime.cli.campaign import checked

    if (options.repository is None) == (options.config is None):
        raise CommandError("name a repository, or a vehicle's configuration with --config")
    gather = _repository_facts if options.config is None else _vehicle_facts
    facts = checked(lambda: gather(options))
    if options.json is not None:
        write_json(options.json, facts)
    if options.json != "-":
        for line in _lines(facts):
            print(line)
    return 1 if facts["attention"] else 0


def print_drafts(repository: Repository) -> None:
    """What waits for signatures, one line for each role, and what is to be done next."""
    from runtime.cli.campaign import checked

    drafts = checked(lambda: _drafts(repository))
    for line in _draft_lines(drafts):
        print(line)
    if any(draft["missing"] for draft in drafts):
        print(f"next: others sign it: shadowrig campaign sign {repository.directory} --key NAME.key")
    elif drafts:
        print(f"next: shadowrig campaign push {repository.directory} --online-key ONLINE.key --to SERVED")


def _repository_facts(options: argparse.Namespace) -> dict[str, Any]:
    from runtime.campaigns.repository import Repository

    repository = Repository(options.repository)
    if not repository.metadata.is_dir():
        raise CommandError(f"{options.repository} is no repository: make one with `shadowrig campaign init`")
    now = datetime.now(timezone.utc)
    drafts = _drafts(repository)
    roles = {}
    for role in ("root", "targets", "snapshot", "timestamp"):
        found = repository.published(role)
        if found is not None:
            signed = found.signed
            is_over = signed.is_expired(now)
            roles[role] = {"version": signed.version, "expires": signed.expires.isoformat(), "expired": is_over}
    reports = _reports(options.receiver) if options.receiver is not None else None
    attention = [f"{draft['role']} waits for {draft['missing']} signatures" for draft in drafts if draft["missing"]]
    attention += [f"{role} is out of date: push" for role, facts in roles.items() if facts["expired"]]
    return {
        "published": roles,
        "campaigns": [_entry(entry, now) for entry in repository.entries(drafted=False)],
        "drafts": drafts,
        "drafted_campaigns": [_entry(entry, now) for entry in repository.entries(drafted=True)] if drafts else [],
        "vehicles": reports,
        "attention": attention,
    }


def _entry(entry: Any, now: datetime) -> dict[str, Any]:
    expires = datetime.fromtimestamp(entry.expires_wall_ns / 1e9, timezone.utc)
    return {
        "campaign": entry.label,
        "vehicles": list(entry.vehicles),
        "expires": expires.isoformat(),
        "expired": expires <= now,
        "files": list(entry.files),
    }


def _drafts(repository: Repository) -> list[dict[str, Any]]:
    return [
        {
            "role": state.role,
            "version": state.version,
            "signed_by": list(state.signed_by),
            "missing": state.missing,
            "may_still_sign": list(state.may_still_sign),
        }
        for state in repository.draft_states()
    ]


def _reports(receiver: Path) -> list[dict[str, Any]]:
    from runtime.config import load_receiver_config
    from runtime.receiver_storage import campaign_reports

    try:
        return campaign_reports(load_receiver_config(receiver))
    except OSError as error:
        raise CommandError(str(error), exit_code=1) from error


def _vehicle_facts(options: argparse.Namespace) -> dict[str, Any]:
    import os

    from runtime.campaigns.shelf import Shelf
    from runtime.campaigns.vehicle_status import VehicleStatus
    from runtime.config import load_config
    from runtime.config.directories import resolve_directories
    from runtime.health.status import StatusError, read_status

    config = load_config(options.config)
    directories = resolve_directories(config, os.environ, os.getuid())
    facts = dict(VehicleStatus(Shelf(directories.campaigns), config.vehicle.id).facts)
    try:
        facts["runtime"] = (read_status(directories.status / "runtime.json") or {}).get("campaigns")
    except StatusError as error:
        raise CommandError(str(error), exit_code=1) from error
    check = facts["last_check"]
    facts["attention"] = [] if check is None or check["succeeded"] else ["the last look was refused"]
    facts["takes_campaigns"] = config.campaigns.root is not None and config.uplink.server is not None
    running = facts["runtime"]
    if isinstance(running, dict) and running.get("problem"):
        facts["attention"].append("the runtime could not take over what is active")
    return facts


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = _vehicle_lines(facts) if "refusals" in facts else _repository_lines(facts)
    return [printable(line) for line in (*lines, *(f"attention: {text}" for text in facts["attention"]))]


def _repository_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"{role} {found['version']}, good until {found['expires']}" for role, found in facts["published"].items()]
    for entry in facts["campaigns"]:
        state = "over since" if entry["expired"] else "until"
        lines.append(f"{entry['campaign']}  {state} {entry['expires']}  for {', '.join(entry['vehicles'])}")
    lines += _draft_lines(facts["drafts"])
    if facts["drafted_campaigns"]:
        lines.append(f"drafted: {', '.join(entry['campaign'] for entry in facts['drafted_campaigns'])}")
    for vehicle in facts["vehicles"] or []:
        lines += _report_lines(vehicle)
    return lines


def _draft_lines(drafts: list[dict[str, Any]]) -> list[str]:
    lines = []
    for draft in drafts:
        state = f"lacks {draft['missing']} signatures" if draft["missing"] else "has all its signatures"
        signed = ", ".join(keyid[:12] for keyid in draft["signed_by"]) or "nobody"
        others = ", ".join(keyid[:12] for keyid in draft["may_still_sign"])
        may = f", may be by {others}" if draft["missing"] else ""
        lines.append(printable(f"draft of {draft['role']} {draft['version']} {state}; signed by {signed}{may}"))
    return lines


def _report_lines(vehicle: dict[str, Any]) -> list[str]:
    report = vehicle.get("report")
    if not isinstance(report, dict):
        return [f"{vehicle['vehicle']}: {vehicle.get('problem', 'no report')}"]
    try:
        lines = [f"{vehicle['vehicle']}, reported {_time(vehicle['received_wall_ns'])}"]
        lines += [f"  {line}" for line in _vehicle_lines(report)]
    except MISSHAPEN as error:
        return [f"{vehicle['vehicle']}: its report cannot be read: {type(error).__name__}: {error}"]
    left_out = len(lines) - MAX_REPORT_LINES
    return lines if left_out <= 0 else [*lines[:MAX_REPORT_LINES], f"  and {left_out} lines more: see --json"]


def _vehicle_lines(facts: dict[str, Any]) -> list[str]:
    """Of a vehicle's own status and of its report. Raises one of MISSHAPEN for a report of another shape."""
    lines = [f"active: {line['campaign']} since {_time(line['since_wall_ns'])}" for line in facts.get("active") or []]
    running = facts.get("runtime")
    if isinstance(running, dict):
        lines.append(f"the runtime runs: {', '.join(running.get('running') or []) or 'its own rules only'}")
        lines += [f"{label} waits {why}" for label, why in (running.get("waiting") or {}).items()]
        lines += [
            f"the runtime refuses {label}: {why['reason']}: {why['detail']}"
            for label, why in (running.get("refused") or {}).items()
        ]
        lines += [f"{rule} cannot fire here: {why}" for rule, why in (running.get("cannot_fire") or {}).items()]
        lines += [f"the runtime has a problem: {running['problem']}"] if running.get("problem") else []
    lines += [f"ended: {label} ({why})" for label, why in (facts.get("ended") or {}).items()]
    for refused in facts.get("refusals") or []:
        times = f"{refused['times']} times, last " if refused["times"] > 1 else ""
        lines.append(
            f"refused: {refused['campaign'] or 'update'}: {refused['reason']}: {refused['detail']}"
            f" ({times}{_time(refused['wall_ns'])})"
        )
    if facts.get("takes_campaigns") is False:
        lines.append("takes no campaigns: its configuration must name campaigns.root and uplink.server for that")
    check = facts.get("last_check")
    lines.append("never looked" if not check else f"last look: {_time(check['wall_ns'])}")
    return lines


def _time(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
