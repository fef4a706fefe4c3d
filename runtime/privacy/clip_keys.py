"""The fleet's keys for locked clips: X25519, as PEM files (RFC 8410).

    <name>.clips.secret   PKCS #8, mode 0600; stays with the fleet, best on a machine that is not the receiver
    <name>.clips.public   SubjectPublicKeyInfo; goes into every vehicle (`privacy: {encryption: {recipients: [...]}}`)

A key is named by the first 16 hexadecimal digits of the SHA-256 of its 32 public bytes. Secrets are never logged.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from runtime.formats.durable_files import make_directory_durably, write_durably
from runtime.formats.private_files import mode_complaint

PUBLIC_SUFFIX, SECRET_SUFFIX = ".clips.public", ".clips.secret"
MAX_KEY_FILE_BYTES = 4096


class ClipKeyError(ValueError):
    """A key file is missing or not what it has to be; the text says which and what to do."""


def key_id(public: X25519PublicKey) -> str:
    """The short name of a key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def new_clip_keys(directory: Path, name: str) -> X25519PublicKey:
    """Make a pair of files. ClipKeyError rather than overwrite one: clips locked for it would be lost."""
    secret_path, public_path = directory / f"{name}{SECRET_SUFFIX}", directory / f"{name}{PUBLIC_SUFFIX}"
    for path in (secret_path, public_path):
        if path.exists():
            raise ClipKeyError(f"{path} exists: move the old key away first, its clips cannot be opened without it")
    make_directory_durably(directory, mode=0o700)
    secret = X25519PrivateKey.generate()
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = secret.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_durably(secret_path, pem, mode=0o600)
    write_durably(public_path, public_pem, mode=0o644)
    return secret.public_key()


def load_public_key(path: Path) -> X25519PublicKey:
    """Read a public key. ClipKeyError, also for a secret key, which has no business in a vehicle."""
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise ClipKeyError(f"{path} holds a secret key: vehicles get the {PUBLIC_SUFFIX} file; remove it from here")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClipKeyError(f"{path} holds no public key: make one with 'shadowrig clip new-key'") from error
    if not isinstance(key, X25519PublicKey):
        raise ClipKeyError(f"{path} holds a {type(key).__name__}: clips are locked with X25519 ('clip new-key')")
    return key


def load_secret_key(path: Path) -> X25519PrivateKey:
    """Read a secret key. ClipKeyError, also when others than its owner may read it."""
    data = _read(path)
    if b"PUBLIC KEY" in data:  # before its mode: nobody has to close a public key
        secret = f"{path.name.removesuffix(PUBLIC_SUFFIX)}{SECRET_SUFFIX}"
        raise ClipKeyError(f"{path} is the public key: name {secret}, which opens what was locked with it")
    if complaint := mode_complaint(path):
        raise ClipKeyError(complaint)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ClipKeyError(f"{path} holds no secret key: name the {SECRET_SUFFIX} file") from error
    if not isinstance(key, X25519PrivateKey):
        raise ClipKeyError(f"{path} holds a {type(key).__name__}, not an X25519 key")
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise ClipKeyError(f"cannot read {path}: {error.strerror}") from error
