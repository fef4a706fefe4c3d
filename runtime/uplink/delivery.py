"""The vehicle's side of the protocol, without sockets: messages in, messages out, time as an argument.

`Uploader` moves the bytes; a simulation can move them too, and lose, repeat or reorder them. A `Delivery` lives as
long as the uploader. `begin_session` forgets what only a connection knows (credit, transfers); which clips were
refused and must wait is remembered across sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.clip_bytes import ClipReadError, UnreadableClipError, check_intact
from runtime.uplink.delivery_limits import DeliveryLimits, DeliveryStatistics
from runtime.uplink.exchange import Exchange
from runtime.uplink.notices import Notices, tombstones_of
from runtime.uplink.outbox import Outbox
from runtime.uplink.pace import Pace
from runtime.uplink.patience import Patience
from runtime.uplink.policy import Permissions
from runtime.uplink.pull_inbox import NoPulls, PullInbox, PullSeam
from runtime.uplink.set_aside import SetAside
from runtime.uplink.transfer import Outgoing, OutgoingClip, Phase, Transfer
from runtime.uplink.window import SendWindow
from runtime.uplink.wire import (
    FROM_RECEIVER,
    MAX_PAYLOAD_BYTES,
    PROTOCOL_VERSION,
    Ack,
    Chunk,
    Done,
    Hello,
    Nack,
    Pull,
    PullResult,
    State,
    TombstoneNotice,
    Welcome,
    WireError,
    decode,
)

MAX_OPEN_TRANSFERS = 4
MAX_FAILURES = 8
#: A receiver that answers "too fast" is left in peace for so long.
TOO_FAST_PAUSE_S = 1.0
#: NACKs about nothing in particular after which there is nothing to go on with.
ENDING_CODES = frozenset({"version", "malformed", "unexpected"})
LATER_CODES = frozenset({"storage", "receiver_full"})


class SessionError(Exception):
    """The receiver cannot go on with us in this session; the text is its reason."""


class Delivery:
    """Decides what to send next and what a reply means."""

    def __init__(
        self,
        outbox: Outbox,
        limits: DeliveryLimits,
        software: str,
        exchange: Exchange | None = None,
        pulls: PullSeam | None = None,
    ) -> None:
        self.statistics = DeliveryStatistics()
        self.welcome: Welcome | None = None
        self.permissions = Permissions()
        self._outbox = outbox
        self._limits = limits
        self._software = software
        self._exchange = exchange or Exchange()
        self._pace = Pace(limits.max_bytes_per_s, limits.burst_bytes)
        self._window = SendWindow()
        self._patience = Patience(limits.reply_timeout_s)
        self._transfers: dict[int, Transfer] = {}
        self._pending: Sequence[OutgoingClip] = ()
        self._set_aside = SetAside(limits.refused_retry_s)
        self._tombstones = tombstones_of(outbox)
        self._pulls = PullInbox(NoPulls() if pulls is None else pulls)
        self._paused_until_ns = 0
        self._refresh_ns = 0
        self._hello_sent_ns: int | None = None
        self._hello_due_ns = 0
        self.made_progress = False  # in this session: then the link is worth reconnecting to at once

    def begin_session(self, now_ns: int) -> None:
        """A new connection: say HELLO, offer everything again."""
        self.statistics.sessions += 1
        self._exchange.begin_session()
        self._window.begin_session()
        self._patience.heard(now_ns)
        self._tombstones.begin_session()
        self._pulls.results.begin_session()
        self.welcome = None
        self._transfers.clear()
        self._hello_sent_ns = None
        self._hello_due_ns = now_ns
        self._refresh_ns = now_ns
        self.made_progress = False

    def is_overdue(self, now_ns: int) -> bool:
        """True when some answer has been due for too long: the link, or the peer behind it, is dead."""
        waits = [t.waiting_since_ns for t in self._transfers.values()]
        waits += [self._hello_sent_ns, self._tombstones.waiting_since_ns, self._pulls.results.waiting_since_ns]
        return self._patience.is_over(waits, self._window.delay_ns, now_ns)

    def permit(self, permissions: Permissions) -> None:
        """What the policy lets go over the network of now; a clip under way stops at its next chunk."""
        self.permissions = permissions
        self._exchange.hold_back(permissions.reasons.get("campaigns", ""))

    # -- sending ------------------------------------------------------------------------------------------------

    def next_message(self, now_ns: int) -> Outgoing | None:
        """The most urgent message, or None when everything waits."""
        if now_ns >= self._hello_due_ns and self._hello_sent_ns is None:
            self._hello_sent_ns = now_ns
            return Hello(PROTOCOL_VERSION, self._software), b""
        if self.welcome is None:
            return None
        if now_ns >= self._refresh_ns:
            self._refresh(now_ns)
        notice = self._tombstones.next_message(now_ns) or self._pulls.results.next_message(now_ns)
        if notice is not None:
            return notice, b""
        return self._exchange.next_message() or self._next_of_clips(now_ns, self.welcome)

    def _refresh(self, now_ns: int) -> None:
        self._refresh_ns = now_ns + int(self._limits.refresh_s * NANOSECONDS_PER_SECOND)
        self._set_aside.release(now_ns)
        self._pending = self._outbox.pending(limit=2 * MAX_OPEN_TRANSFERS, without=self._set_aside.numbers)
        known = {clip.n for clip in self._pending}
        self._transfers = {n: t for n, t in self._transfers.items() if n in known}
        self._tombstones.refresh(now_ns)
        self._pulls.results.refresh(now_ns)

    def _next_of_clips(self, now_ns: int, welcome: Welcome) -> Outgoing | None:
        if now_ns < self._paused_until_ns or not self._pace.is_open(now_ns):
            return None
        under_way_bytes = sum(transfer.under_way_bytes for transfer in self._transfers.values())
        room_bytes = min(welcome.credit_bytes, self._window.size_bytes) - under_way_bytes
        chunk_bytes = min(welcome.chunk_bytes, MAX_PAYLOAD_BYTES, self._window.chunk_bytes, self._limits.chunk_bytes)
        for clip in self._most_urgent():
            transfer = self._transfers.setdefault(clip.n, Transfer(clip))
            try:
                outgoing = transfer.next_message(now_ns, chunk_bytes, room_bytes)
            except ClipReadError as error:
                self._on_read_error(clip, error, now_ns)
                return None
            if outgoing is not None:
                self._count_sent(outgoing)
                return outgoing
            if transfer.waits_for_room:
                return None
        return None

    def _most_urgent(self) -> Iterator[OutgoingClip]:
        allowed = self.permissions.priorities
        eligible = (clip for clip in self._pending if clip.n not in self._set_aside and clip.priority in allowed)
        return (clip for _, clip in zip(range(MAX_OPEN_TRANSFERS), eligible, strict=False))

    def _count_sent(self, outgoing: Outgoing) -> None:
        message, payload = outgoing
        self._pace.spend(len(payload))
        if isinstance(message, Chunk):
            self.statistics.chunks_sent += 1
            self.statistics.bytes_sent += len(payload)

    def _on_read_error(self, clip: OutgoingClip, error: ClipReadError, now_ns: int) -> None:
        """Set aside what is not what was sealed (an evicted clip has its tombstone already); try the rest later."""
        if isinstance(error, UnreadableClipError):
            self.statistics.clips_unreadable += 1
            self.statistics.last_unreadable = str(error)
            self._put_aside(clip.n, now_ns)
            return
        self._forget(clip.n)
        if self._outbox.set_damaged_aside(clip.n, f"damaged on the vehicle: {error}"):
            self.statistics.clips_damaged += 1

    def _forget(self, n: int) -> None:
        self._transfers.pop(n, None)
        self._pending = [clip for clip in self._pending if clip.n != n]

    # -- receiving ----------------------------------------------------------------------------------------------

    def on_message(self, frames: Sequence[bytes], now_ns: int) -> None:
        """Take in one reply. Raises SessionError when the session is of no more use."""
        try:
            message, payload = decode(frames, FROM_RECEIVER)
        except WireError as error:
            raise SessionError(f"the receiver does not speak our protocol: {error}") from error
        self._patience.heard(now_ns)
        is_about_pull = isinstance(message, Nack) and self._pulls.results.may_be_refused_by(message)
        if not is_about_pull and self._exchange.on_message(message, bytes(payload)):
            return
        if isinstance(message, Welcome):
            self._on_welcome(message, now_ns)
        elif isinstance(message, TombstoneNotice):
            self._on_recorded(self._tombstones, message.n)
            self.statistics.tombstones_reported = self._tombstones.settled
        elif isinstance(message, Pull):
            self._pulls.take(message)
            self.statistics.pulls_taken = self._pulls.taken
            self._refresh_ns = now_ns
        elif isinstance(message, PullResult):
            self._on_recorded(self._pulls.results, message.id)
            self.statistics.pulls_answered = self._pulls.results.settled
        else:
            self._on_clip_message(message, now_ns)

    def _on_recorded(self, notices: Notices[Any], key: int | str) -> None:
        self.made_progress = True
        notices.on_echo(key)

    def _on_welcome(self, message: Welcome, now_ns: int) -> None:
        if message.version != PROTOCOL_VERSION:
            raise SessionError(f"the receiver speaks version {message.version}, this vehicle {PROTOCOL_VERSION}")
        self.welcome = message
        self._hello_sent_ns = None
        self._hello_due_ns = now_ns + int(self._limits.keep_alive_s * NANOSECONDS_PER_SECOND)

    def _on_clip_message(self, message: Any, now_ns: int) -> None:
        if isinstance(message, Nack):
            self.statistics.nacks[message.code] += 1
            if message.code == "too_fast":  # leave it in peace for a moment, then go on there
                self._paused_until_ns = now_ns + int(TOO_FAST_PAUSE_S * NANOSECONDS_PER_SECOND)
            if message.n == 0 and message.code in ENDING_CODES:
                raise SessionError(f"the receiver answered {message.code}: {message.detail}")
            if not message.sha256 and self._is_about_notices(message, now_ns):
                return
        transfer = self._transfers.get(message.n)
        if transfer is None or not transfer.is_meant(message):
            self.statistics.messages_ignored += 1
        elif isinstance(message, Ack):
            self.made_progress = True
            self._on_ack(transfer, message, now_ns)
        elif isinstance(message, State):
            self._on_state(transfer, message, now_ns)
        elif isinstance(message, Done):
            self._on_done(transfer)
        else:
            self._on_nack(transfer, message, now_ns)

    def _is_about_notices(self, nack: Nack, now_ns: int) -> bool:
        """True when notices are refused: those are told again in a while."""
        wait_s = TOO_FAST_PAUSE_S if nack.code == "too_fast" else self._limits.refused_retry_s
        until_ns = now_ns + int(wait_s * NANOSECONDS_PER_SECOND)
        refused = sum(kind.on_refusal(nack.n, until_ns) for kind in (self._tombstones, self._pulls.results))
        self.statistics.notices_refused += refused
        return refused > 0

    def _on_ack(self, transfer: Transfer, message: Ack, now_ns: int) -> None:
        credit_bytes = MAX_PAYLOAD_BYTES if self.welcome is None else self.welcome.credit_bytes
        for chunk in transfer.on_ack(message.ranges, now_ns):
            self._window.on_ack(chunk.size_bytes, chunk.sent_ns, now_ns, credit_bytes)

    def _on_state(self, transfer: Transfer, message: State, now_ns: int) -> None:
        if message.state == "done":
            self._on_done(transfer)
        elif message.state == "refused":
            self.statistics.refused[message.code] += 1
            self._put_aside(transfer.clip.n, now_ns)
        elif message.ranges and message.ranges[-1][1] > transfer.clip.size_bytes:
            raise SessionError(f"the receiver holds more of clip {message.n} than there is")
        elif transfer.phase in (Phase.OFFERED, Phase.COMMITTED):
            transfer.on_state(message.ranges)

    def _on_done(self, transfer: Transfer) -> None:
        clip = transfer.clip
        self.made_progress = True
        self._forget(clip.n)
        if self._outbox.mark_delivered(clip.n):
            self.statistics.clips_delivered += 1
            self.statistics.bytes_delivered += clip.size_bytes

    def _on_nack(self, transfer: Transfer, message: Nack, now_ns: int) -> None:
        if message.code == "too_fast":
            transfer.restart(is_failure=False)
        elif message.code == "bad_chunk_hash":
            transfer.on_bad_chunk(message.offset)
        elif message.code == "bad_file_hash":
            try:
                check_intact(transfer.clip.path, transfer.clip.sha256)
            except ClipReadError as error:
                self._on_read_error(transfer.clip, error, now_ns)
                return
            transfer.restart()
        elif message.code not in LATER_CODES:
            transfer.restart()
        if message.code in LATER_CODES or transfer.failures > MAX_FAILURES:
            self._put_aside(transfer.clip.n, now_ns)

    def _put_aside(self, n: int, now_ns: int) -> None:
        """Leave a clip alone for a while; others go on."""
        self._transfers.pop(n, None)
        self._set_aside.add(n, now_ns)
