"""Small facts that the vehicle tells once a session and forgets when the receiver echoes them.

Tombstones and answers to range pulls travel this way: the spool holds them until the echo, so neither a lost message
nor a lost echo loses the fact. One that the receiver refuses is told again after a while, and waits for no echo until
then: the session and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from runtime.uplink.outbox import Outbox
from runtime.uplink.wire import Nack, PullResult, TombstoneNotice

Notice = TombstoneNotice | PullResult
Key = TypeVar("Key", bound=Hashable)

#: Told before the oldest of them is echoed.
MAX_AT_ONCE = 32
#: Refused ones that are remembered; while there are so many, nothing more of their kind is told.
MAX_REFUSED = 256
MAX_REASON_LENGTH = 500


class Notices(Generic[Key]):
    """`fetch` reads at most so many of what is to be told, by key; `settle` notes that the receiver has it."""

    def __init__(self, fetch: Callable[[int], Mapping[Key, Notice]], settle: Callable[[Key], None]) -> None:
        self.settled = 0
        self._fetch = fetch
        self._settle = settle
        self._to_tell: dict[Key, Notice] = {}
        self._told: dict[Key, tuple[Notice, int]] = {}  # and since when its echo is due
        self._refused: dict[Key, int] = {}  # key -> not before

    @property
    def waiting_since_ns(self) -> int | None:
        """Since when an echo is due; None when none is."""
        return min((since_ns for _, since_ns in self._told.values()), default=None)

    def begin_session(self) -> None:
        """A new connection: tell everything again, but what was refused a moment ago."""
        self._told.clear()

    def refresh(self, now_ns: int) -> None:
        """Look for new facts."""
        self._refused = {key: until_ns for key, until_ns in self._refused.items() if until_ns > now_ns}
        self._to_tell = {}
        if len(self._refused) >= MAX_REFUSED:
            return
        found = self._fetch(MAX_AT_ONCE + len(self._refused))
        self._to_tell = {key: message for key, message in found.items() if self._is_new(key, message)}

    def _is_new(self, key: Key, message: Notice) -> bool:
        return key not in self._refused and (key not in self._told or self._told[key][0] != message)

    def next_message(self, now_ns: int) -> Notice | None:
        """A fact that was not told in this session."""
        for key, message in self._to_tell.items():
            del self._to_tell[key]
            self._told[key] = message, now_ns
            return message
        return None

    def on_echo(self, key: Key) -> None:
        """The receiver has recorded it. An echo of something that was never told says nothing."""
        if self._told.pop(key, None) is not None:
            self._settle(key)
            self.settled += 1

    def may_be_refused_by(self, nack: Nack) -> bool:
        """True when something was told that this may be about: it names no hash, and the number of it."""
        return not nack.sha256 and any(message.n == nack.n for message, _ in self._told.values())

    def on_refusal(self, n: int, until_ns: int) -> int:
        """The receiver does not take what was told about this number now; how many facts that is.

        A pull that the vehicle refuses has no number: a refusal of 0 is about all of those.
        """
        meant = [key for key, (message, _) in self._told.items() if message.n == n]
        for key in meant:
            del self._told[key]
            self._refused[key] = until_ns
        return len(meant)


def tombstones_of(outbox: Outbox) -> Notices[int]:
    """The numbers that will never come, and why."""

    def unreported(limit: int) -> Mapping[int, TombstoneNotice]:
        rows = outbox.unreported_tombstones(limit=limit)
        return {row.n: TombstoneNotice(row.n, row.reason[:MAX_REASON_LENGTH]) for row in rows}

    return Notices(unreported, outbox.mark_tombstone_reported)
