"""CURVE keys and who is enrolled. Secrets are files of mode 0600 and never appear in logs or `repr`.

    <vehicle keys>/   vehicle.public  vehicle.secret  receiver.public (pinned by hand or at provisioning)
    <receiver keys>/  receiver.public receiver.secret enrolled/<vehicle>.public  revoked/<vehicle>.<k>.public

Every file holds one Z85 text of 40 characters and a newline. A vehicle's name is a pseudonym of lower-case letters,
digits, `-` and `_`; the receiver stores its clips under that name, found by the key that made the connection.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from runtime.formats.durable_files import make_directory_durably, rename_durably, write_durably
from runtime.formats.private_files import mode_complaint
from runtime.uplink.unchanged_files import UnchangedFiles

VEHICLE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
Z85_KEY_LENGTH = 40
MAX_ENROLLED = 100_000
#: Keys that are read in one go, in some tens of milliseconds.
KEYS_BETWEEN = 1000
#: Public keys beside a brought one that it is compared with.
MAX_KEYS_BESIDE = 1000
PUBLIC_SUFFIX, SECRET_SUFFIX = ".public", ".secret"


class KeyFileError(ValueError):
    """A key file, name or folder is not what it has to be; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One end's CURVE keys, Z85."""

    public: bytes
    secret: bytes = field(repr=False)


def checked_name(name: str) -> str:
    """A vehicle name that is safe as a file name. Raises KeyFileError."""
    if not VEHICLE_NAME.fullmatch(name):
        raise KeyFileError(f"vehicle name {name!r} must be lower-case letters, digits, - and _, at most 63 characters")
    return name


def checked_key(text: str, where: str) -> bytes:
    """A Z85 key from its text. Raises KeyFileError."""
    key = text.strip().encode("ascii", "backslashreplace")  # a character outside ASCII must not become a valid one
    try:
        decoded = z85.decode(key) if len(key) == Z85_KEY_LENGTH else b""
    except (KeyError, ValueError, struct.error):  # a foreign character, or a group beyond 32 bits
        decoded = b""
    if len(decoded) != 32:
        raise KeyFileError(f"{where} holds no Z85 key of {Z85_KEY_LENGTH} characters: make one: `shadowrig keys new`")
    return key


def new_keys(directory: Path, name: str) -> KeyPair:
    """Make `<name>.public` and `<name>.secret`. Raises KeyFileError rather than overwrite a key."""
    public_path, secret_path = directory / f"{name}.public", directory / f"{name}.secret"
    for path in (public_path, secret_path):
        if path.exists():
            raise KeyFileError(f"{path} exists: move the old key away first, a lost secret key cannot be recovered")
    make_directory_durably(directory, mode=0o700)
    public, secret = zmq.curve_keypair()
    write_durably(secret_path, secret + b"\n", mode=0o600)
    write_durably(public_path, public + b"\n", mode=0o644)
    return KeyPair(public, secret)


def load_keys(directory: Path, name: str) -> KeyPair:
    """Read a key pair. Raises KeyFileError when it is missing, malformed, or its secret is readable by others."""
    secret_path = directory / f"{name}.secret"
    public = load_public_key(directory / f"{name}.public")
    try:
        complaint = mode_complaint(secret_path)
        secret_text = secret_path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise KeyFileError(f"cannot read {secret_path}: {error.strerror}") from error
    if complaint:
        raise KeyFileError(complaint)
    secret = checked_key(secret_text, str(secret_path))
    if zmq.curve_public(secret) != public:
        raise KeyFileError(f"{directory / name}.public does not belong to {secret_path}: restore the original pair")
    return KeyPair(public, secret)


def load_public_key(path: Path) -> bytes:
    """Read a public key. Raises KeyFileError."""
    try:
        return checked_key(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error


def load_foreign_public_key(path: Path) -> bytes:
    """A public key that was brought here from the other end. KeyFileError, also for a secret key, which stays at home.

    Nothing in a Z85 text says which half of a pair it is, so a secret is known by its file's name or by the public half
    beside it. No error shows what the file holds.
    """
    if path.name.endswith(SECRET_SUFFIX) or path.resolve().name.endswith(SECRET_SUFFIX):
        named = path.name.removesuffix(SECRET_SUFFIX) + PUBLIC_SUFFIX
        raise KeyFileError(f"{path} is a secret key, which never leaves its folder: name {path.with_name(named)}")
    key = load_public_key(path)
    for beside in sorted(path.resolve().parent.glob(f"*{PUBLIC_SUFFIX}"))[:MAX_KEYS_BESIDE]:
        if _is_secret_of(key, _key_text(beside)):
            raise KeyFileError(f"{path} holds the secret key of {beside}: name that one, and remove the copy")
    return key


def _key_text(path: Path) -> bytes:
    """What a file that may be a key holds; nothing where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(Z85_KEY_LENGTH + 2).strip()
    except OSError:
        return b""  # then nothing is known of it, which is what the caller has to go by


def _is_secret_of(key: bytes, *public_keys: bytes) -> bool:
    return bytes(zmq.curve_public(key)) in public_keys


def ensure_keys(directory: Path, name: str) -> KeyPair:
    """The key pair of this end, made on first start."""
    if not (directory / f"{name}.secret").exists() and not (directory / f"{name}.public").exists():
        return new_keys(directory, name)
    return load_keys(directory, name)


def ensure_local_pair(directory: Path, vehicle: str) -> tuple[Path, Path]:
    """Keys for a receiver and one enrolled vehicle on the same machine; returns (vehicle keys, receiver keys)."""
    vehicle_keys, receiver_keys = directory / "vehicle", directory / "receiver"
    receiver = ensure_keys(receiver_keys, "receiver")
    own = ensure_keys(vehicle_keys, "vehicle")
    pin_receiver(vehicle_keys, receiver.public)
    if list_vehicles(receiver_keys).get(vehicle) != own.public:
        enroll(receiver_keys, vehicle, own.public)
    return vehicle_keys, receiver_keys


def pin_receiver(vehicle_keys: Path, public_key: bytes) -> None:
    """Tell the vehicle which receiver it may talk to. Raises KeyFileError for what cannot be its public key."""
    key = checked_key(public_key.decode("ascii", "replace"), "the receiver's public key")
    if not vehicle_keys.is_dir():
        raise KeyFileError(f"{vehicle_keys} is not there: make it: shadowrig keys new {vehicle_keys}")
    own = _key_text(vehicle_keys / "vehicle.public")
    if key == own:
        raise KeyFileError(f"this is the vehicle's own key ({vehicle_keys}/vehicle.public): name the receiver's")
    if _is_secret_of(key, own, _key_text(vehicle_keys / "receiver.public")):
        raise KeyFileError("this is a secret key: name the receiver's receiver.public")
    write_durably(vehicle_keys / "receiver.public", key + b"\n", mode=0o644)


def enroll(receiver_keys: Path, vehicle: str, public_key: bytes) -> None:
    """Let a vehicle in. Raises KeyFileError for a bad name or key, or one that is enrolled already."""
    checked_name(vehicle)
    key = checked_key(public_key.decode("ascii", "replace"), f"the public key of {vehicle}")
    own, enrolled = _key_text(receiver_keys / "receiver.public"), list_vehicles(receiver_keys)
    if key == own:
        raise KeyFileError(f"this is the receiver's own key ({receiver_keys}/receiver.public): name the vehicle's")
    if _is_secret_of(key, own, *enrolled.values()):
        raise KeyFileError(f"this is a secret key: name the vehicle.public of {vehicle}")
    for other, other_key in enrolled.items():
        if other == vehicle:
            raise KeyFileError(f"{vehicle} is enrolled already: revoke it first")
        if other_key == key:
            raise KeyFileError(f"this key is enrolled already, as {other}: every vehicle needs its own")
    make_directory_durably(receiver_keys / "enrolled", mode=0o700)
    write_durably(receiver_keys / "enrolled" / f"{vehicle}.public", key + b"\n", mode=0o644)


def revoke(receiver_keys: Path, vehicle: str) -> None:
    """Shut a vehicle out, from when receivers read the folder again: within 5 s. Its clips stay."""
    source = receiver_keys / "enrolled" / f"{checked_name(vehicle)}.public"
    if not source.exists():
        raise KeyFileError(f"{vehicle} is not enrolled in {receiver_keys}: see `shadowrig keys list`")
    make_directory_durably(receiver_keys / "revoked", mode=0o700)
    count = sum(name.startswith(f"{vehicle}.") for name in _public_keys(receiver_keys / "revoked"))
    rename_durably(source, receiver_keys / "revoked" / f"{vehicle}.{count + 1}.public")


def was_ever_enrolled(receiver_keys: Path, vehicle: str) -> bool:
    """True for a vehicle that is enrolled or has been revoked. Raises OSError when that cannot be known."""
    if not VEHICLE_NAME.fullmatch(vehicle):
        return False
    if (receiver_keys / "enrolled" / f"{vehicle}.public").exists():
        return True
    return any((receiver_keys / "revoked").glob(f"{vehicle}.*.public"))


def list_vehicles(receiver_keys: Path) -> dict[str, bytes]:
    """Enrolled vehicles and their public keys, by name. Raises KeyFileError with every bad file of the folder."""
    vehicles, problems = read_enrolled(receiver_keys)
    if problems:
        raise KeyFileError("; ".join(problems))
    return vehicles


def read_enrolled(
    receiver_keys: Path,
    meanwhile: Callable[[], object] = lambda: None,
    read: Callable[[Path], bytes] = load_public_key,
) -> tuple[dict[str, bytes], list[str]]:
    """Enrolled vehicles by name, and what is wrong with the files that are none. Raises OSError for the folder only.

    `meanwhile` is called again and again, so that who reads very many keys gets something else done.
    """
    directory = receiver_keys / "enrolled"
    names = _public_keys(directory)
    vehicles: dict[str, bytes] = {}
    problems: list[str] = []
    for place, name in enumerate(names[:MAX_ENROLLED], start=1):
        if place % KEYS_BETWEEN == 0:
            meanwhile()
        try:
            vehicles[checked_name(name.removesuffix(".public"))] = read(directory / name)
        except KeyFileError as error:
            problems.append(str(error))
    if len(names) > MAX_ENROLLED:
        problems.append(f"{directory} holds more than {MAX_ENROLLED} keys: the rest is not enrolled")
    return vehicles, problems


def _public_keys(directory: Path) -> list[str]:
    """File names, sorted; none without a folder. Raises OSError, where `Path.glob` would take unreadable for empty."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(".public") and name[0] != ".")  # "." is a write in progress


class EnrolledVehicles:
    """The enrolled folder as a table from key to vehicle, read again when told to.

    It fails closed: a bad file enrols nobody, one key under two names enrols neither, an unreadable folder empties
    the table. `problems` says so. Files that look unchanged are not read every time (`unchanged_files`).
    """

    def __init__(self, receiver_keys: Path) -> None:
        self._receiver_keys = receiver_keys
        self._by_key: Mapping[bytes, str] = {}
        self._files = UnchangedFiles(load_public_key)
        self.problems: list[str] = []
        self.reload()

    def reload(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Read the folder; `meanwhile` is called again and again."""
        self._files.begin_round()
        try:
            vehicles, problems = read_enrolled(self._receiver_keys, meanwhile, self._files.content)
        except OSError as error:
            vehicles, problems = {}, [f"cannot read {error.filename}: {error.strerror}; nobody is enrolled"]
        uses = Counter(vehicles.values())
        problems += [f"the key of {name} is enrolled twice" for name, key in vehicles.items() if uses[key] > 1]
        self.problems = problems
        # One assignment: the authenticator's thread sees the old table or the new one.
        self._by_key = {key: name for name, key in vehicles.items() if uses[key] == 1}

    def vehicle_of(self, key: bytes) -> str | None:
        """The vehicle that this public key (Z85) belongs to, None when it is not enrolled."""
        return self._by_key.get(key)

    def names(self) -> frozenset[str]:
        """Every enrolled vehicle."""
        return frozenset(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)
