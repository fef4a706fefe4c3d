"""`shadowrig clip new-key|decrypt`: keys for locked clips, and opening such clips with the fleet's secret key."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, told


def add(group: Subcommands) -> None:
    """Register both under `clip`."""
    new_key = add_command(
        group, "new-key", "Make the fleet's key pair for locked clips; the secret file is readable by its owner only.",
        "shadowrig clip new-key keys --name fleet", run_new_key,
    )  # fmt: skip
    new_key.add_argument("directory", type=Path)
    new_key.add_argument("--name", default="fleet", help="begins the names of both files (fleet)")
    decrypt = add_command(
        group, "decrypt", "Open clips that a vehicle locked for the fleet.",
        "shadowrig clip decrypt --key keys/fleet.clips.secret --out opened received/clips/*/*/*.mcap", run_decrypt,
    )  # fmt: skip
    decrypt.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    decrypt.add_argument("--key", required=True, type=Path, metavar="SECRET", help="the fleet's secret key")
    decrypt.add_argument("--out", required=True, type=Path, metavar="DIR", help="where opened clips go, same names")
    decrypt.add_argument("--partial", action="store_true", help="also open one that was cut short, to its last chunk")


def run_new_key(options: argparse.Namespace) -> int:
    """Make both files and print what goes into vehicles."""
    from runtime.privacy.clip_keys import PUBLIC_SUFFIX, ClipKeyError, key_id, new_clip_keys

    try:
        public = new_clip_keys(options.directory, options.name)
    except ClipKeyError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(told(error), exit_code=1) from error
    print(f"{options.directory / (options.name + PUBLIC_SUFFIX)}: key {key_id(public)}")
    return 0


def run_decrypt(options: argparse.Namespace) -> int:
    """Open each clip; 1 when one could not be."""
    from runtime.privacy.clip_keys import ClipKeyError, load_secret_key
    from runtime.privacy.envelope import EnvelopeError

    try:
        secret = load_secret_key(options.key)
    except ClipKeyError as error:
        raise CommandError(str(error)) from error
    failed = 0
    for clip in options.clips:
        target = options.out / clip.name
        try:
            unlock_file(clip, target, secret, options.partial)
        except (EnvelopeError, OSError) as error:
            print(f"{clip}: {error.strerror if isinstance(error, OSError) else error}")
            failed += 1
            continue
        print(target)
    return 1 if failed else 0


def unlock_file(clip: Path, target: Path, secret: object, is_partial: bool) -> None:
    """Write the opened clip to `target`, whole or not at all. EnvelopeError, OSError (also when `target` exists)."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from runtime.formats.durable_files import rename_durably, sync_file
    from runtime.privacy.envelope import unlocked

    assert isinstance(secret, X25519PrivateKey)
    if target.exists():
        raise FileExistsError(17, f"{target} exists: name another --out", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with clip.open("rb") as source, draft.open("xb") as out:
            for chunk in unlocked(source, secret, is_partial):
                out.write(chunk)
        sync_file(draft)
        rename_durably(draft, target)
    finally:
        draft.unlink(missing_ok=True)
