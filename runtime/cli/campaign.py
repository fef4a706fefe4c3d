"""`shadowrig campaign`: signed sets of rules and models for a fleet, from a folder to what vehicles run.

campaign keys    each person makes a key pair, and one online pair for the machine that pushes
campaign init    who may sign, and how many must: the first root, brought to vehicles by hand
campaign new     check a campaign's folder as vehicles will, and draft it
campaign sign    add one person's signature to what is drafted
campaign push    publish what enough people signed, where `shadowrig receive` serves it; also renews the dates
campaign status  what is out, what waits for whom, what vehicles reported; or, on a vehicle, what runs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from runtime.cli import campaign_status
from runtime.cli.common import CommandError, Subcommands, add_command, add_group, told

if TYPE_CHECKING:
    from runtime.campaigns.contents import Declared
    from runtime.campaigns.repository import Signers

Result = TypeVar("Result")
REPOSITORY_HELP = "the fleet's repository: one folder, handed from signer to signer (git, a shared folder)"
ROOT_DAYS, TARGETS_DAYS, SNAPSHOT_DAYS, TIMESTAMP_DAYS = 730.0, 365.0, 30.0, 7.0


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands, "campaign", "Make, sign, publish and watch campaigns of rules.",
        "shadowrig campaign new fleet/ winter_lights/",
    )  # fmt: skip
    keys = add_command(
        group, "keys", "Make a signing key pair (Ed25519); the private file stays with its owner.",
        "shadowrig campaign keys ~/.shadowrig alice", run_keys,
    )  # fmt: skip
    keys.add_argument("directory", type=Path, help="where NAME.key (to keep) and NAME.public (to hand out) are put")
    keys.add_argument("name", help="whose key it is")
    for name, summary, run in (
        ("init", "Draft a repository's first root: who signs campaigns, and how many must.", run_init),
        ("rotate", "Draft the next root with other keys for the roles that are named.", run_rotate),
    ):
        parser = add_command(
            group, name, summary,
            f"shadowrig campaign {name} fleet/ --root a.public b.public c.public --root-threshold 2 "
            "--targets a.public b.public c.public --targets-threshold 2 --online online.public", run,
        )  # fmt: skip
        parser.add_argument("repository", type=Path, help=REPOSITORY_HELP)
        _add_roles(parser, required=name == "init")
    _add_new(group)
    _add_sign_and_push(group)
    campaign_status.add(group)


def _add_roles(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--root", nargs="+", type=Path, required=required, help="public keys that may change keys")
    parser.add_argument("--root-threshold", type=int, default=2, help="how many of them must sign (default: 2)")
    parser.add_argument("--targets", nargs="+", type=Path, required=required, help="public keys that sign campaigns")
    parser.add_argument("--targets-threshold", type=int, default=2, help="how many of them must sign (default: 2)")
    parser.add_argument("--online", type=Path, required=required, help="public key of the machine that pushes")
    parser.add_argument("--root-days", type=float, default=ROOT_DAYS, help="the root is valid so long (default: 730)")


def _add_new(group: Subcommands) -> None:
    new = add_command(
        group, "new", "Check a campaign's folder as vehicles will, and draft it; every problem is printed.",
        "shadowrig campaign new fleet/ winter_lights/", run_new,
    )  # fmt: skip
    new.add_argument("repository", type=Path, help=REPOSITORY_HELP)
    new.add_argument("campaign", type=Path, nargs="?", help="the folder with campaign.yaml: see deploy/CAMPAIGNS.md")
    new.add_argument("--check", action="store_true", help="only look, draft nothing")
    new.add_argument("--withdraw", metavar="NAME", help="draft without this campaign: vehicles stop it")
    new.add_argument("--renew", action="store_true", help="draft what is out again, with a later date")
    new.add_argument(
        "--model", default="hydra_mini",
        help="model that the vehicles run, to check queries and classifiers with (default: hydra_mini)",
    )  # fmt: skip
    new.add_argument(
        "--config", "--vehicle-config", type=Path, default=None, metavar="RIG.YAML",
        help="a vehicle's configuration: rules may read the signals that it declares",
    )  # fmt: skip
    new.add_argument("--days", type=float, default=TARGETS_DAYS, help="signatures are good so long (default: 365)")


def _add_sign_and_push(group: Subcommands) -> None:
    sign = add_command(
        group, "sign", "Add a person's signature to everything that is drafted and asks for it.",
        "shadowrig campaign sign fleet/ --key ~/.shadowrig/alice.key", run_sign,
    )  # fmt: skip
    sign.add_argument("repository", type=Path, help=REPOSITORY_HELP)
    sign.add_argument("--key", type=Path, required=True, help="the private key file")
    push = add_command(
        group, "push", "Publish what is signed, and renew snapshot and timestamp. Repeat it before --timestamp-days.",
        "shadowrig campaign push fleet/ --online-key online.key --to /srv/campaigns", run_push,
    )  # fmt: skip
    push.add_argument("repository", type=Path, help=REPOSITORY_HELP)
    push.add_argument("--online-key", type=Path, required=True, help="private key of the machine that pushes")
    push.add_argument("--to", type=Path, metavar="DIR", help="the folder that the receiver serves ('campaigns: DIR')")
    push.add_argument(
        "--snapshot-days", type=float, default=SNAPSHOT_DAYS, help="the list of files is good so long (default: 30)"
    )
    push.add_argument(
        "--timestamp-days", type=float, default=TIMESTAMP_DAYS,
        help="vehicles notice after so long that they are shown an old state (default: 7)",
    )  # fmt: skip


def run_keys(options: argparse.Namespace) -> int:
    """Make a key pair."""
    from runtime.campaigns.signing_keys import new_key

    keyid = checked(lambda: new_key(options.directory, options.name))
    print(f"{options.directory / options.name}.public: key id {keyid}")
    return 0


def run_init(options: argparse.Namespace) -> int:
    """Draft the first root and the first targets."""
    from runtime.campaigns.repository import Repository

    roles = checked(lambda: _roles(options))
    repository = Repository(options.repository)
    life = timedelta(days=options.root_days), timedelta(days=TARGETS_DAYS)
    checked(lambda: repository.create(roles, _now(), *life))
    campaign_status.print_drafts(repository)
    return 0


def run_rotate(options: argparse.Namespace) -> int:
    """Draft the next root."""
    from runtime.campaigns.repository import Repository

    roles = checked(lambda: _roles(options))
    repository = Repository(options.repository)
    checked(lambda: repository.rotate(roles, _now() + timedelta(days=options.root_days)))
    campaign_status.print_drafts(repository)
    if "targets" in roles:
        print("targets have other keys now: draft them again with 'campaign new --renew' before you push")
    return 0


def run_new(options: argparse.Namespace) -> int:
    """Check, and draft."""
    from runtime.campaigns import authoring
    from runtime.campaigns.repository import Repository
    from runtime.composition import find_bundle

    repository, life = Repository(options.repository), timedelta(days=options.days)
    if sum(map(bool, (options.campaign, options.withdraw, options.renew))) != 1:
        raise CommandError("name one of: a campaign's folder, --withdraw NAME, --renew")
    if options.withdraw:
        checked(lambda: authoring.withdraw_campaign(repository, options.withdraw, _now(), life))
        print(f"{options.withdraw} is withdrawn by this draft")
    elif options.renew:
        checked(lambda: authoring.renew_targets(repository, _now(), life))
    else:
        bundle, declared = find_bundle(options.model), _declared(options.config)
        if options.check:
            campaign, rules = checked(lambda: authoring.check_campaign(options.campaign, bundle, declared))
            print(f"{campaign.label} is good: {len(rules.rules)} rules, {len(campaign.files) + 1} files")
            return 0
        campaign = checked(lambda: authoring.add_campaign(repository, options.campaign, bundle, _now(), life, declared))
        print(f"{campaign.label} is drafted")
    campaign_status.print_drafts(repository)
    return 0


def run_sign(options: argparse.Namespace) -> int:
    """Sign what is drafted."""
    from runtime.campaigns.repository import Repository
    from runtime.campaigns.signing_keys import load_signer

    repository = Repository(options.repository)
    signer = checked(lambda: load_signer(options.key))
    checked(lambda: repository.sign(signer))
    campaign_status.print_drafts(repository)
    return 0


def run_push(options: argparse.Namespace) -> int:
    """Publish."""
    from runtime.campaigns.repository import Repository
    from runtime.campaigns.signing_keys import load_signer

    repository = Repository(options.repository)
    signer = checked(lambda: load_signer(options.online_key))
    days = {"snapshot": options.snapshot_days, "timestamp": options.timestamp_days}
    life = {role: timedelta(days=count) for role, count in days.items()}
    published = checked(lambda: repository.publish({signer.public_key.keyid: signer}, _now(), life))
    if options.to is not None:
        checked(lambda: repository.copy_to(options.to))
    print(f"published: {', '.join(published)}{'' if options.to is None else f' to {options.to}'}")
    return 0


def _roles(options: argparse.Namespace) -> dict[str, Signers]:
    from runtime.campaigns.repository import Signers
    from runtime.campaigns.signing_keys import load_public_keys

    roles = {}
    if options.root:
        roles["root"] = Signers(load_public_keys(options.root), options.root_threshold)
    if options.targets:
        roles["targets"] = Signers(load_public_keys(options.targets), options.targets_threshold)
    if options.online:
        roles |= dict.fromkeys(("snapshot", "timestamp"), Signers(load_public_keys([options.online]), 1))
    if not roles:
        raise CommandError("name the roles that change: --root, --targets, --online")
    return roles


def _declared(vehicle_config: Path | None) -> Declared | None:
    if vehicle_config is None:
        return None
    from runtime.config import load_config
    from runtime.declared_signals import declared_types

    return declared_types(load_config(vehicle_config).signals.declared)


def checked(action: Callable[[], Result]) -> Result:
    """What `action` gives; its own kinds of failure as one line."""
    from runtime.campaigns.repository import PublishingError
    from runtime.campaigns.signing_keys import SigningKeyError

    try:
        return action()
    except (PublishingError, SigningKeyError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(told(error), exit_code=1) from error


def _now() -> datetime:
    return datetime.now(timezone.utc)
