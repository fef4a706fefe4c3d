"""The receiver's side of the protocol, without sockets: one vehicle's message in, replies out.

Chunks are answered late and together: `flush` makes them durable and returns the ACKs. Whatever a message holds, the
answer is a reply or a named NACK, counted by code; nothing that a vehicle sends raises out of here.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from runtime.formats.pull_files import PullAnswer, PullFileError, PullRequest
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.catalogue import ClipKey, PartialRow
from runtime.uplink.fields import MAX_TEXT_LENGTH
from runtime.uplink.foreign_json import checked_metadata
from runtime.uplink.limits import FAULT_CODES, UnknownClips, VehicleLimits, VehicleMeters
from runtime.uplink.store import ClipStore, PartialGoneError, RefusedError
from runtime.uplink.troubles import Troubles
from runtime.uplink.wire import (
    FROM_VEHICLE,
    MAX_PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    Ack,
    CampaignPart,
    CampaignQuestion,
    Chunk,
    Commit,
    Done,
    Hello,
    Message,
    Nack,
    Offer,
    Pull,
    PullResult,
    Result,
    State,
    TombstoneNotice,
    Welcome,
    WireError,
    decode,
    wire_ranges,
)

STORAGE_DETAIL = "the receiver cannot store or look up this now: offer it again later"
#: PULLs that are sent in one go, and how long the receiver waits for the vehicle's RESULT before it asks again.
PULLS_AT_ONCE = 64
PULL_REPEAT_S = 30.0
#: Vehicles take a link for dead after 15 s without an answer.
REASSURE_AFTER_NS = 5 * NANOSECONDS_PER_SECOND

#: The vehicle that a message goes to, the message, and its payload.
Reply = tuple[str, Message, bytes]


class CampaignDesk(Protocol):
    """Answers questions about campaigns; `runtime.campaigns.serving.CampaignFiles` is one."""

    def part(self, path: str, offset: int, length: int) -> tuple[int, bytes] | None: ...
    def record(self, vehicle: str, report: bytes, wall_ns: int) -> None: ...


class PullRequests(Protocol):
    """What people want of vehicles; `runtime.uplink.pull_book.PullBook` is one."""

    def waiting(
        self, vehicles: Sequence[str], limit: int, wall_ns: int, asked_lately: Collection[str]
    ) -> list[tuple[str, PullRequest]]: ...
    def answer(self, vehicle: str, answer: PullAnswer, wall_ns: int) -> None: ...


class Reception:
    """Answers vehicles. `handle` never raises for anything a message holds."""

    def __init__(
        self,
        store: ClipStore,
        credit_bytes: int,
        chunk_bytes: int = MAX_PAYLOAD_BYTES,
        campaigns: CampaignDesk | None = None,
        pulls: PullRequests | None = None,
        limits: VehicleLimits | None = None,
    ) -> None:
        if not 0 < chunk_bytes <= min(MAX_PAYLOAD_BYTES, credit_bytes):
            raise ValueError(
                f"chunk_bytes is {chunk_bytes}: at most {MAX_PAYLOAD_BYTES} fit into a message,"
                f" and at most {credit_bytes} into the credit"
            )
        self.received: Counter[str] = Counter()
        self.nacks: Counter[str] = Counter()
        self.troubles = Troubles()
        self._store = store
        self._credit_bytes = credit_bytes
        self._chunk_bytes = chunk_bytes
        self._campaigns = campaigns
        self._pulls = pulls
        self._pulls_sent: dict[tuple[str, str], int] = {}  # (vehicle, id) -> when
        self.meters = VehicleMeters(limits or VehicleLimits())
        self._unknown = UnknownClips()
        self._finishing: dict[ClipKey, tuple[int, Commit]] = {}  # COMMITs that wait for an answer, and since when

    def handle(self, vehicle: str, frames: Sequence[bytes | memoryview], wall_ns: int) -> list[Reply]:
        """The replies to one message of the vehicle whose key sent it, and ACKs to others that fell due with it."""
        try:
            message, payload = decode(frames, FROM_VEHICLE)
        except WireError as error:
            self.meters.fault(vehicle, wall_ns)
            return [(vehicle, self._nack(error.code, error.detail), b"")]
        self.received[message.TYPE] += 1
        try:
            if not self.meters.admit(vehicle, message, wall_ns):
                raise RefusedError("too_fast", "more than one vehicle may ask: wait a second")
            replies = self._answer(vehicle, message, payload, wall_ns)
        except RefusedError as error:
            replies = [(vehicle, self._nack(error.code, error.detail, message), b"")]
        except OSError as error:
            return [(vehicle, self._storage_nack(error, message, wall_ns), b"")]
        if any(isinstance(reply, Nack) and reply.code in FAULT_CODES for _, reply, _ in replies):
            self.meters.fault(vehicle, wall_ns)
        return replies

    def _answer(self, vehicle: str, message: Any, payload: bytes | memoryview, wall_ns: int) -> list[Reply]:
        if isinstance(message, Hello):
            return [(vehicle, self._welcome(message), b"")]
        if isinstance(message, CampaignQuestion):
            return [(vehicle, *self._on_campaign_question(message))]
        if isinstance(message, PullResult):
            return [(vehicle, self._on_pull_result(vehicle, message, wall_ns), b"")]
        if isinstance(message, Result):
            return [(vehicle, self._on_result(vehicle, message, payload, wall_ns), b"")]
        if isinstance(message, TombstoneNotice):
            self._store.entomb(vehicle, message.n, message.reason, wall_ns)
            return [(vehicle, message, b"")]
        key = ClipKey(vehicle, message.n, message.sha256.hex())
        if isinstance(message, Offer):
            return [(vehicle, self._on_offer(key, message, payload, wall_ns), b"")]
        if isinstance(message, Chunk):
            return [(vehicle, reply, b"") for reply in self._on_chunk(key, message, payload, wall_ns)]
        return self._on_commit(key, message, wall_ns)

    def _welcome(self, message: Hello) -> Message:
        if message.version != PROTOCOL_VERSION:
            return self._nack("version", f"this receiver speaks version {PROTOCOL_VERSION}")
        return Welcome(PROTOCOL_VERSION, self._credit_bytes, self._chunk_bytes, self._store.limits.max_clip_bytes)

    def _on_offer(self, key: ClipKey, message: Offer, payload: bytes | memoryview, wall_ns: int) -> Message:
        row = PartialRow(key, message.size_bytes, message.priority, checked_metadata(payload), (), None)
        self._unknown.offered(key)
        try:
            held = self._store.offer(row, wall_ns)
        except RefusedError as error:
            self.nacks[error.code] += 1
            return State(message.n, message.sha256, "refused", (), error.code)
        if held is None:
            return State(message.n, message.sha256, "done")
        return State(message.n, message.sha256, "partial" if len(held) else "new", wire_ranges(held))

    def _on_chunk(self, key: ClipKey, message: Chunk, payload: bytes | memoryview, wall_ns: int) -> list[Message]:
        with self._unknown.refused(key, wall_ns):
            return self._took_chunk(key, message, payload, wall_ns)

    def _took_chunk(self, key: ClipKey, message: Chunk, payload: bytes | memoryview, wall_ns: int) -> list[Message]:
        if self._store.is_stored(key):
            return [Done(message.n, message.sha256)]
        if hashlib.sha256(payload).digest() != message.hash:
            return [self._nack("bad_chunk_hash", "the payload does not have the hash of its header", message)]
        self.meters.took_chunk(key.vehicle, self._store.write(key, message.offset, payload, wall_ns))
        return []

    def _on_commit(self, key: ClipKey, message: Commit, wall_ns: int) -> list[Reply]:
        if self._store.is_stored(key):
            return [(key.vehicle, Done(message.n, message.sha256), b"")]
        acknowledgements = self.flush(wall_ns, only=key)  # what others have under way waits for its own turn
        held = self._store.missing(key)
        if held is not None:
            return [*acknowledgements, (key.vehicle, partial_state(key, wire_ranges(held)), b"")]
        stored = self._store.commit(key, wall_ns)
        if stored is None:  # `settle` will answer
            self._finishing[key] = (wall_ns, message)
            return acknowledgements
        return [*acknowledgements, (key.vehicle, self._outcome(stored, message, wall_ns), b"")]

    def _outcome(self, stored: bool | OSError | RefusedError, message: Commit, wall_ns: int) -> Message:
        if isinstance(stored, RefusedError):
            return self._nack(stored.code, stored.detail, message)
        if isinstance(stored, OSError):
            return self._storage_nack(stored, message, wall_ns)
        if stored:
            return Done(message.n, message.sha256)
        return self._nack("bad_file_hash", "the stored bytes do not have the hash that was offered", message)

    def settle(self, wall_ns: int) -> list[Reply]:
        """Answers to COMMITs whose clips have been stored beside the loop since.

        One that takes longer is answered "everything is held", on which the vehicle sends COMMIT again: it knows that
        the link lives, and gets the outcome by the next one.
        """
        replies: list[Reply] = []
        for key, stored in self._store.finished():
            asked = self._finishing.pop(key, None)
            message = asked[1] if asked else Commit(key.n, bytes.fromhex(key.sha256))
            replies.append((key.vehicle, self._outcome(stored, message, wall_ns), b""))
        for key, (asked_ns, _) in list(self._finishing.items()):
            if not 0 <= wall_ns - asked_ns < REASSURE_AFTER_NS:
                del self._finishing[key]
                replies.append((key.vehicle, partial_state(key, ((0, self._store.finishing_bytes(key)),)), b""))
        return replies

    def flush(self, wall_ns: int, only: ClipKey | None = None) -> list[Reply]:
        """Make every chunk that came in (`only`: of that clip) durable, and acknowledge it to its vehicle."""
        answers, failures = self._store.flush(wall_ns, only)
        replies: list[Reply] = [
            (key.vehicle, Ack(key.n, bytes.fromhex(key.sha256), wire_ranges(held)), b"") for key, held in answers
        ]
        for key, error in failures:
            about = Commit(key.n, bytes.fromhex(key.sha256))
            replies.append((key.vehicle, self._storage_nack(error, about, wall_ns), b""))
        return replies

    def pulls_due(self, vehicles: Sequence[str], wall_ns: int) -> list[Reply]:
        """PULLs for those of these connected vehicles that have not answered; each again after PULL_REPEAT_S."""
        if self._pulls is None or not vehicles:
            return []
        repeat_ns = int(PULL_REPEAT_S * NANOSECONDS_PER_SECOND)
        lately = {key: sent_ns for key, sent_ns in self._pulls_sent.items() if abs(wall_ns - sent_ns) < repeat_ns}
        due = self._pulls.waiting(vehicles, PULLS_AT_ONCE, wall_ns, {pull_id for _, pull_id in lately})
        self._pulls_sent = lately | {(vehicle, request.id): wall_ns for vehicle, request in due}
        return [(vehicle, pull_message(request), b"") for vehicle, request in due]

    def vehicle_connected(self, vehicle: str) -> None:
        """A vehicle has come (back): what it was asked over its old connection may be lost."""
        self._pulls_sent = {key: sent_ns for key, sent_ns in self._pulls_sent.items() if key[0] != vehicle}

    def _on_pull_result(self, vehicle: str, message: PullResult, wall_ns: int) -> Message:
        """An answer that nobody asked for is echoed as well, so that the vehicle lets go of it."""
        try:
            answer = PullAnswer(message.id, message.state, message.reason, message.n)
        except PullFileError as error:
            raise RefusedError("malformed", str(error)) from error
        if self._pulls is not None:
            self._pulls.answer(vehicle, answer, wall_ns)
        return message

    def _on_campaign_question(self, message: CampaignQuestion) -> tuple[Message, bytes]:
        """Part of a campaign file. Which files there are is no secret of an enrolled vehicle's."""
        if self._campaigns is None:
            return CampaignPart(message.path, message.offset, 0, "off"), b""
        found = self._campaigns.part(message.path, message.offset, min(message.length, MAX_PAYLOAD_BYTES))
        if found is None:
            return CampaignPart(message.path, message.offset, 0, "missing"), b""
        size_bytes, data = found
        return CampaignPart(message.path, message.offset, size_bytes, "part"), data

    def _on_result(self, vehicle: str, message: Result, payload: bytes | memoryview, wall_ns: int) -> Message:
        if hashlib.sha256(payload).digest() != message.sha256:
            return self._nack("bad_report", "the report does not have the hash of its header", message)
        report = checked_metadata(payload)
        if self._campaigns is not None:
            self._campaigns.record(vehicle, report.encode(), wall_ns)
        return message

    def _storage_nack(self, error: OSError, about: Any, wall_ns: int) -> Nack:
        """What went wrong here is the operator's to know; the vehicle is told that it may try again."""
        if isinstance(error, PartialGoneError):
            return self._nack(error.code, str(error), about)
        self.troubles.note(error, wall_ns)
        return self._nack("storage", STORAGE_DETAIL, about)

    def _nack(self, code: str, detail: str, about: Any = None) -> Nack:
        self.nacks[code] += 1
        return Nack(
            code,
            detail[:MAX_TEXT_LENGTH],
            getattr(about, "n", 0),
            getattr(about, "sha256", b""),
            getattr(about, "offset", 0),
        )


def pull_message(request: PullRequest) -> Pull:
    """A request as it travels."""
    window = request.start_ns, request.end_ns, request.clock
    return Pull(request.id, request.cameras, *window, request.priority.value)


def partial_state(key: ClipKey, ranges: Sequence[tuple[int, int]]) -> State:
    """What is held of a clip."""
    return State(key.n, bytes.fromhex(key.sha256), "partial", tuple(ranges))
