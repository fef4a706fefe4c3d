"""Messages of the delivery protocol, which `runtime/uplink/PROTOCOL.md` explains.

Each message is a frozen dataclass. Its header is a MessagePack map `{"type": NAME, field: value, ...}` with exactly
the dataclass's fields; each field's rule stands in its `Annotated` type (`fields.py`). Where two messages share a
name (a question and its answer), their fields tell them apart. `decode` accepts nothing else, never raises anything
but `WireError`, and never allocates more than a 4 KiB header can name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, ClassVar, get_type_hints

import msgpack

from runtime.formats.pull_files import ANSWER_STATES, CLOCKS
from runtime.messages import Priority
from runtime.uplink.fields import MAX_RANGES as MAX_RANGES
from runtime.uplink.fields import (
    CameraNames,
    Digest,
    FilePath,
    Nanoseconds,
    Natural,
    OptionalDigest,
    Positive,
    PullId,
    RangeList,
    Ranges,
    Rule,
    Text,
    one_of,
)
from runtime.uplink.packing import WireError as WireError
from runtime.uplink.packing import unpack
from runtime.uplink.ranges import RangeSet

PROTOCOL_VERSION = 2
MAX_HEADER_BYTES = 4 * 1024
MAX_PAYLOAD_BYTES = 256 * 1024

PRIORITIES = tuple(priority.value for priority in Priority)
CLIP_STATES = ("new", "partial", "done", "refused")
#: What a receiver says of a campaign file: here is a part of it; it has none of that name; it serves no campaigns.
FILE_STATES = ("part", "missing", "off")


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
    """Receiver: send what you hold of these cameras (none named: all) in this window, or say why not."""

    TYPE: ClassVar[str] = "PULL"
    id: PullId
    cameras: CameraNames
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    clock: Annotated[str, one_of(CLOCKS)]
    priority: Annotated[str, one_of(PRIORITIES)]


@dataclass(frozen=True, slots=True)
class PullResult:
    """Vehicle: what became of a PULL; `n` is the clip that holds it. The receiver echoes it when it is recorded."""

    TYPE: ClassVar[str] = "RESULT"
    id: PullId
    state: Annotated[str, one_of(ANSWER_STATES)]
    reason: Text
    n: Natural


@dataclass(frozen=True, slots=True)
class CampaignQuestion:
    """Vehicle: at most `length` bytes of a campaign file from `offset`, please."""

    TYPE: ClassVar[str] = "CAMPAIGN"
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
    """Vehicle: how its campaigns are doing; the payload is JSON with this SHA-256. The receiver echoes the hash."""

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
    | PullResult
    | CampaignQuestion
    | CampaignPart
    | Result
)

FROM_VEHICLE = (Hello, Offer, Chunk, Commit, TombstoneNotice, PullResult, CampaignQuestion, Result)
FROM_RECEIVER = (Welcome, State, Ack, Nack, Done, TombstoneNotice, Pull, PullResult, CampaignPart, Result)
WITH_PAYLOAD = (Offer, Chunk)
MAY_HAVE_PAYLOAD = (CampaignPart, Result)

MESSAGE_CLASSES: tuple[type[Any], ...] = tuple(dict.fromkeys((*FROM_VEHICLE, *FROM_RECEIVER)))


def rules_of(cls: type[Any]) -> dict[str, Rule]:
    """Each field's rule, by name."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(cls)}


RULES = {cls: rules_of(cls) for cls in MESSAGE_CLASSES}


@lru_cache(maxsize=64)
def classes_by_name(classes: tuple[type[Any], ...]) -> dict[str, list[type[Any]]]:
    """Messages by the name in their header."""
    named: dict[str, list[type[Any]]] = {}
    for cls in classes:
        named.setdefault(cls.TYPE, []).append(cls)
    return named


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
    message = build(unpack(header), accept)
    if bool(len(payload)) != isinstance(message, WITH_PAYLOAD) and not isinstance(message, MAY_HAVE_PAYLOAD):
        raise WireError("malformed", f"{message.TYPE} with a payload of {len(payload)} bytes")
    return message, payload


def build(values: dict[str, Any], accept: tuple[type[Any], ...] = MESSAGE_CLASSES) -> Any:
    """The message that a header's map stands for, out of those that this side accepts."""
    name = values.pop("type", None)
    if not isinstance(name, str) or name not in classes_by_name(MESSAGE_CLASSES):
        raise WireError("malformed", f"message type {name!r:.40}")
    candidates = classes_by_name(accept).get(name)
    if candidates is None:
        raise WireError("unexpected", f"{name} does not come from this side")
    cls = next((c for c in candidates if RULES[c].keys() == values.keys()), None)
    if cls is None:
        odd = sorted(set(values) ^ set(RULES[candidates[0]]))
        raise WireError("malformed", f"{name} has unknown fields or lacks some: {', '.join(odd)[:200]}")
    checked = {}
    for field, rule in RULES[cls].items():
        try:
            checked[field] = rule(values[field])
        except ValueError as error:
            raise WireError("malformed", f"{name}.{field} {error}") from error
    return cls(**checked)


def wire_ranges(held: RangeSet) -> Ranges:
    """The ranges that fit into one message: the first MAX_RANGES."""
    return tuple(held)[:MAX_RANGES]
