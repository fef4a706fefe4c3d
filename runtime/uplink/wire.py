"""Messages of the delivery protocol: MessagePack headers under a strict schema (`runtime/uplink/__init__.py`).

Each message is a frozen dataclass. Its header is a map `{"type": NAME, field: value, ...}` with exactly the
dataclass's fields; each field's rule stands in its `Annotated` type. `decode` accepts nothing else, never raises
anything but `WireError`, and never allocates more than a 4 KiB header can name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, get_type_hints

import msgpack

from runtime.messages import Priority
from runtime.uplink.ranges import RangeSet

PROTOCOL_VERSION = 1
MAX_HEADER_BYTES = 4 * 1024
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_RANGES = 64
MAX_TEXT_LENGTH = 512
MAX_PATH_LENGTH = 400
MAX_INTEGER = (1 << 53) - 1
DIGEST_BYTES = 32

#: Names joined by "/", none of which begins with a dot: no way up, no absolute path, no file in the making.
_FILE_PATH = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*)*")

Ranges = tuple[tuple[int, int], ...]
Rule = Callable[[Any], Any]

PRIORITIES = tuple(priority.value for priority in Priority)
CLIP_STATES = ("new", "partial", "done", "refused")
#: What a receiver says of a campaign file: here is a part of it; it has none of that name; it serves no campaigns.
FILE_STATES = ("part", "missing", "off")


class WireError(ValueError):
    """A message that is not of this protocol. `code` is what the NACK says."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail[:MAX_TEXT_LENGTH]


def natural(value: Any) -> int:
    """An integer from 0 to 2^53-1."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise ValueError("must be an integer from 0 to 2^53-1")
    return value


def positive(value: Any) -> int:
    """An integer from 1 to 2^53-1."""
    if natural(value) == 0:
        raise ValueError("must be at least 1")
    return int(value)


def text(value: Any) -> str:
    """A string of at most MAX_TEXT_LENGTH characters."""
    if type(value) is not str or len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"must be a string of at most {MAX_TEXT_LENGTH} characters")
    return value


def file_path(value: Any) -> str:
    """A relative path of at most MAX_PATH_LENGTH characters that names something below where it starts."""
    if type(value) is not str or not 0 < len(value) <= MAX_PATH_LENGTH or not _FILE_PATH.fullmatch(value):
        raise ValueError(f"must be a relative path of at most {MAX_PATH_LENGTH} characters without hidden names")
    return value


def digest(value: Any) -> bytes:
    """A SHA-256, 32 raw bytes."""
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise ValueError(f"must be {DIGEST_BYTES} bytes")
    return value


def digest_or_nothing(value: Any) -> bytes:
    """A SHA-256, or no bytes where a message is about no clip."""
    return b"" if value == b"" else digest(value)


def one_of(choices: Sequence[str]) -> Rule:
    """A string out of `choices`."""

    def rule(value: Any) -> str:
        if type(value) is not str or value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return rule


def range_list(value: Any) -> Ranges:
    """At most MAX_RANGES half-open ranges, sorted and disjoint."""
    if type(value) is not list or len(value) > MAX_RANGES:
        raise ValueError(f"must be a list of at most {MAX_RANGES} ranges")
    previous_end = -1
    for item in value:
        if type(item) is not list or len(item) != 2 or not previous_end < natural(item[0]) < natural(item[1]):
            raise ValueError("must hold sorted, disjoint [start, end) pairs")
        previous_end = item[1]
    return tuple((start, end) for start, end in value)


Natural = Annotated[int, natural]
Positive = Annotated[int, positive]
Text = Annotated[str, text]
FilePath = Annotated[str, file_path]
Digest = Annotated[bytes, digest]
OptionalDigest = Annotated[bytes, digest_or_nothing]
RangeList = Annotated[Ranges, range_list]


@dataclass(frozen=True, slots=True)
class Hello:
    """Vehicle: opens a session, and keeps an idle one alive."""

    TYPE: ClassVar[str] = "HELLO"
    version: Positive
    software: Text


@dataclass(frozen=True, slots=True)
class Welcome:
    """Receiver: how much may be under way, and what is accepted."""

    TYPE: ClassVar[str] = "WELCOME"
    version: Positive
    credit_bytes: Positive
    chunk_bytes: Positive
    max_clip_bytes: Positive


@dataclass(frozen=True, slots=True)
class Offer:
    """Vehicle: a sealed clip; the payload is its metadata as JSON."""

    TYPE: ClassVar[str] = "OFFER"
    n: Positive
    sha256: Digest
    size_bytes: Positive
    priority: Annotated[str, one_of(PRIORITIES)]


@dataclass(frozen=True, slots=True)
class State:
    """Receiver: what it holds of a clip. `code` says why, when refused."""

    TYPE: ClassVar[str] = "STATE"
    n: Positive
    sha256: Digest
    state: Annotated[str, one_of(CLIP_STATES)]
    ranges: RangeList = ()
    code: Text = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Vehicle: bytes of a clip from `offset`; `hash` is the SHA-256 of the payload."""

    TYPE: ClassVar[str] = "CHUNK"
    n: Positive
    sha256: Digest
    offset: Natural
    hash: Digest


@dataclass(frozen=True, slots=True)
class Ack:
    """Receiver: all ranges of a clip that are durable by now."""

    TYPE: ClassVar[str] = "ACK"
    n: Positive
    sha256: Digest
    ranges: RangeList


@dataclass(frozen=True, slots=True)
class Nack:
    """Receiver: something was not accepted. n 0 and an empty hash: about no clip in particular."""

    TYPE: ClassVar[str] = "NACK"
    code: Text
    detail: Text
    n: Natural = 0
    sha256: OptionalDigest = b""
    offset: Natural = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """Vehicle: every byte has been acknowledged; check and store."""

    TYPE: ClassVar[str] = "COMMIT"
    n: Positive
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Done:
    """Receiver: the clip is verified and durable; the vehicle may delete it."""

    TYPE: ClassVar[str] = "DONE"
    n: Positive
    sha256: Digest


@dataclass(frozen=True, slots=True)
class TombstoneNotice:
    """Vehicle: number `n` will never come, and why. The receiver echoes it when it is recorded."""

    TYPE: ClassVar[str] = "TOMBSTONE"
    n: Positive
    reason: Text


@dataclass(frozen=True, slots=True)
class Pull:
    """Vehicle: at most `length` bytes of a campaign file from `offset`, please."""

    TYPE: ClassVar[str] = "PULL"
    path: FilePath
    offset: Natural
    length: Positive


@dataclass(frozen=True, slots=True)
class CampaignPart:
    """Receiver: the payload is that part of a campaign file of `size_bytes`; no payload unless `state` is part."""

    TYPE: ClassVar[str] = "CAMPAIGN"
    path: FilePath
    offset: Natural
    size_bytes: Natural
    state: Annotated[str, one_of(FILE_STATES)]


@dataclass(frozen=True, slots=True)
class Result:
    """Vehicle: what became of its campaigns; the payload is JSON with this SHA-256. The receiver echoes the hash."""

    TYPE: ClassVar[str] = "RESULT"
    sha256: Digest


Message = (
    Hello
    | Welcome
    | Offer
    | State
    | Chunk
    | Ack
    | Nack
    | Commit
    | Done
    | TombstoneNotice
    | Pull
    | CampaignPart
    | Result
)

FROM_VEHICLE = (Hello, Offer, Chunk, Commit, TombstoneNotice, Pull, Result)
FROM_RECEIVER = (Welcome, State, Ack, Nack, Done, TombstoneNotice, CampaignPart, Result)
WITH_PAYLOAD = (Offer, Chunk)
MAY_HAVE_PAYLOAD = (CampaignPart, Result)

MESSAGE_CLASSES: dict[str, type[Any]] = {cls.TYPE: cls for cls in (*FROM_VEHICLE, *FROM_RECEIVER)}


def rules_of(cls: type[Any]) -> dict[str, Rule]:
    """Each field's rule, by name."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(cls)}


RULES = {name: rules_of(cls) for name, cls in MESSAGE_CLASSES.items()}


def encode(message: Message) -> bytes:
    """The header frame of a message."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    header: bytes = msgpack.packb({"type": message.TYPE, **values}, use_bin_type=True)
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"{message.TYPE} header is {len(header)} bytes, at most {MAX_HEADER_BYTES} are allowed")
    return header


def decode(frames: Sequence[bytes | memoryview], accept: tuple[type[Any], ...]) -> tuple[Any, bytes | memoryview]:
    """Check a whole message and return it with its payload. Raises WireError, and nothing else."""
    if len(frames) != 2:
        raise WireError("malformed", f"a message has two frames, this one has {len(frames)}")
    header, payload = frames
    if len(header) > MAX_HEADER_BYTES:
        raise WireError("malformed", f"the header is {len(header)} bytes, at most {MAX_HEADER_BYTES} are allowed")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError("malformed", f"the payload is {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")
    message = build(unpack(header))
    if not isinstance(message, accept):
        raise WireError("unexpected", f"{message.TYPE} does not come from this side")
    if bool(len(payload)) != isinstance(message, WITH_PAYLOAD) and not isinstance(message, MAY_HAVE_PAYLOAD):
        raise WireError("malformed", f"{message.TYPE} with a payload of {len(payload)} bytes")
    return message, payload


def unpack(header: bytes | memoryview) -> dict[str, Any]:
    """MessagePack to a map with string keys, each given once."""
    try:
        value = msgpack.unpackb(
            header,
            raw=False,
            object_pairs_hook=unique_pairs,
            ext_hook=refuse_extension,
            max_map_len=32,
            max_array_len=2 * MAX_RANGES,
        )
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise WireError("malformed", f"the header is no MessagePack of this protocol: {error!r}") from error
    if not isinstance(value, dict):
        raise WireError("malformed", "the header is no map")
    return value


def unique_pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """A map whose keys are strings, none twice."""
    if any(type(key) is not str for key, _ in pairs) or len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is given twice or is no string")
    return dict(pairs)


def refuse_extension(code: int, _data: bytes) -> object:
    """No extension types in headers."""
    raise ValueError(f"extension type {code}")


def build(values: dict[str, Any]) -> Any:
    """The message that a header's map stands for."""
    name = values.pop("type", None)
    if not isinstance(name, str) or name not in MESSAGE_CLASSES:
        raise WireError("malformed", f"message type {name!r:.40}")
    rules = RULES[name]
    if set(values) != set(rules):
        odd = sorted(set(values) ^ set(rules))
        raise WireError("malformed", f"{name} has unknown fields or lacks some: {', '.join(odd)[:200]}")
    checked = {}
    for field, rule in rules.items():
        try:
            checked[field] = rule(values[field])
        except ValueError as error:
            raise WireError("malformed", f"{name}.{field} {error}") from error
    return MESSAGE_CLASSES[name](**checked)


def wire_ranges(held: RangeSet) -> Ranges:
    """The ranges that fit into one message: the first MAX_RANGES."""
    return tuple(held)[:MAX_RANGES]
