"""`shadowrig keys`: CURVE keys, and which vehicles a receiver lets in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, told
from runtime.uplink import keys as key_files

Result = TypeVar("Result")


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands, "keys", "Make CURVE keys; enroll, revoke and list vehicles.", "shadowrig keys list keys"
    )
    new = add_command(
        group, "new", "Make a key pair; the secret file is readable by its owner only.",
        "shadowrig keys new /etc/shadowrig/keys --for vehicle", run_new,
    )  # fmt: skip
    new.add_argument("directory", type=Path)
    new.add_argument("--for", dest="end", choices=("vehicle", "receiver"), default="vehicle")
    enroll = add_command(
        group, "enroll", "Let a vehicle in, by its public key.",
        "shadowrig keys enroll /etc/shadowrig/receiver-keys car-17 car-17/vehicle.public", run_enroll,
    )  # fmt: skip
    enroll.add_argument("directory", type=Path, help="the receiver's keys")
    enroll.add_argument("vehicle", help="the vehicle's pseudonym")
    enroll.add_argument("public_key", type=Path, help="the vehicle's public key file")
    pin = add_command(
        group, "pin", "Tell a vehicle which receiver it may talk to.",
        "shadowrig keys pin /etc/shadowrig/keys receiver.public", run_pin,
    )  # fmt: skip
    pin.add_argument("directory", type=Path, help="the vehicle's keys")
    pin.add_argument("public_key", type=Path, help="the receiver's public key file")
    revoke = add_command(
        group, "revoke", "Shut a vehicle out; its clips stay.",
        "shadowrig keys revoke /etc/shadowrig/receiver-keys car-17", run_revoke,
    )  # fmt: skip
    revoke.add_argument("directory", type=Path, help="the receiver's keys")
    revoke.add_argument("vehicle")
    listing = add_command(
        group, "list", "List the enrolled vehicles.", "shadowrig keys list /etc/shadowrig/receiver-keys", run_list
    )
    listing.add_argument("directory", type=Path, help="the receiver's keys")


def run_new(options: argparse.Namespace) -> int:
    """Make a key pair and print the public half."""
    pair = _checked(lambda: key_files.new_keys(options.directory, options.end))
    print(f"{options.directory / options.end}.public: {pair.public.decode()}")
    return 0


def run_enroll(options: argparse.Namespace) -> int:
    """Enroll a vehicle."""
    public = _checked(lambda: key_files.load_foreign_public_key(options.public_key))
    _checked(lambda: _require_receiver_keys(options.directory))
    _checked(lambda: key_files.enroll(options.directory, options.vehicle, public))
    print(f"{options.vehicle} is enrolled")
    return 0


def run_pin(options: argparse.Namespace) -> int:
    """Pin the receiver's key."""
    public = _checked(lambda: key_files.load_foreign_public_key(options.public_key))
    _checked(lambda: key_files.pin_receiver(options.directory, public))
    print(f"{options.directory} now talks to {public.decode()} only")
    return 0


def run_revoke(options: argparse.Namespace) -> int:
    """Revoke a vehicle."""
    _checked(lambda: _require_receiver_keys(options.directory))
    _checked(lambda: key_files.revoke(options.directory, options.vehicle))
    print(f"{options.vehicle} is revoked")
    return 0


def run_list(options: argparse.Namespace) -> int:
    """List enrolled vehicles with their public keys."""
    _checked(lambda: _require_receiver_keys(options.directory))
    vehicles = _checked(lambda: key_files.list_vehicles(options.directory))
    for vehicle, public in sorted(vehicles.items()):
        print(f"{vehicle}  {public.decode()}")
    if not vehicles:
        how = f"shadowrig keys enroll {options.directory} VEHICLE vehicle.public"
        print(f"no vehicle is enrolled in {options.directory}: {how}", file=sys.stderr)
    return 0


def _require_receiver_keys(directory: Path) -> None:
    """Raises CommandError for a folder that is no receiver's: enrolling there would let nobody in."""
    make = f"make it: shadowrig keys new {directory} --for receiver"
    if not directory.is_dir():
        raise CommandError(f"{directory} is not a folder: name the receiver's keys, or {make}")
    if not (directory / "receiver.public").exists():
        raise CommandError(f"{directory} holds no receiver.public: name the receiver's keys, or {make}")
    if (directory / "vehicle.public").exists() and not (directory / "receiver.secret").exists():
        raise CommandError(
            f"{directory} holds a vehicle's keys and its pinned receiver: name the receiver's own folder"
        )


def _checked(action: Callable[[], Result]) -> Result:
    try:
        return action()
    except key_files.KeyFileError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(told(error)) from error
