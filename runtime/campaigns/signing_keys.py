"""Keys that sign campaigns: Ed25519, one pair of files each.

    <name>.key      the private half, PEM (PKCS 8), mode 0600; of a person or a safe, it never leaves there
    <name>.public   the public half with its key id, JSON; this is what `campaign init` and `campaign rotate` take

The key id is the hash of the key that securesystemslib computes, so one key has one id wherever it is named.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from runtime.formats.durable_files import make_directory_durably, write_durably
from runtime.formats.private_files import mode_complaint

MAX_KEY_BYTES = 10_000


class SigningKeyError(ValueError):
    """A key file is not what it has to be; the text says which and what to do."""


def new_key(directory: Path, name: str) -> str:
    """Make a pair of files; returns the key id. Raises SigningKeyError rather than overwrite one, OSError."""
    private, public = directory / f"{name}.key", directory / f"{name}.public"
    for path in (private, public):
        if path.exists():
            raise SigningKeyError(f"{path} exists: move it away first, a lost key cannot be made again")
    make_directory_durably(directory, mode=0o700)
    signer = CryptoSigner.generate_ed25519()
    write_durably(private, signer.private_bytes, mode=0o600)
    text = json.dumps({"keyid": signer.public_key.keyid, **signer.public_key.to_dict()}, indent=1)
    write_durably(public, text.encode() + b"\n", mode=0o644)
    return str(signer.public_key.keyid)


def load_signer(path: Path) -> CryptoSigner:
    """The signer of a private key file. Raises SigningKeyError, OSError."""
    if complaint := mode_complaint(path):
        raise SigningKeyError(complaint)
    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(f"{path} is no private key of ours: make one with `shadowrig campaign keys`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} is no Ed25519 key: make one with `shadowrig campaign keys`")
    return CryptoSigner(key)


def load_public_keys(paths: Sequence[Path]) -> list[Key]:
    """The public keys in these files, none twice. Raises SigningKeyError, OSError."""
    keys: dict[str, Path] = {}
    loaded: list[Key] = []
    for path in paths:
        key = _load_public(path)
        value = str(key.keyval["public"])
        if value in keys:
            raise SigningKeyError(f"{path} is the same key as {keys[value]}: every person needs an own one")
        keys[value] = path
        loaded.append(key)
    return loaded


def _load_public(path: Path) -> SSlibKey:
    try:
        values = json.loads(_read(path))
        key = SSlibKey.from_dict(str(values.pop("keyid")), values)
        crypto_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
        own_id = SSlibKey.from_crypto(crypto_key, None, key.scheme).keyid
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SigningKeyError(f"{path} is no public key of ours: give the .public file of a pair") from error
    if key.keytype != "ed25519" or own_id != key.keyid:
        raise SigningKeyError(f"{path} is no Ed25519 key under its own id: make one with `shadowrig campaign keys`")
    return key


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAX_KEY_BYTES + 1)
    if len(data) > MAX_KEY_BYTES:
        raise SigningKeyError(f"{path} is larger than any key: name a key file")
    return data
