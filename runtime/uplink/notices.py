"""Small facts that the vehicle tells once a session and forgets when the receiver echoes them.

Tombstones and answers to range pulls travel this way: the spool holds them until the echo, so neither a lost message
nor a lost echo loses the fact.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from runtime.uplink.wire import Message

Key = TypeVar("Key", bound=Hashable)


class Notices(Generic[Key]):
    """`fetch` reads what is to be told, by key; `settle` notes that the receiver has it."""

    def __init__(self, fetch: Callable[[], Mapping[Key, Message]], settle: Callable[[Key], None]) -> None:
        self.waiting_since_ns: int | None = None
        self.settled = 0
        self._fetch = fetch
        self._settle = settle
        self._to_tell: dict[Key, Message] = {}
        self._told: dict[Key, Message] = {}

    def begin_session(self) -> None:
        """A new connection: tell everything again."""
        self._told.clear()
        self.waiting_since_ns = None

    def refresh(self) -> None:
        """Look for new facts."""
        self._to_tell = {key: message for key, message in self._fetch().items() if self._told.get(key) != message}

    def next_message(self, now_ns: int) -> Message | None:
        """A fact that was not told in this session."""
        for key, message in self._to_tell.items():
            del self._to_tell[key]
            self._told[key] = message
            if self.waiting_since_ns is None:
                self.waiting_since_ns = now_ns
            return message
        return None

    def on_echo(self, key: Key) -> None:
        """The receiver has recorded it. An echo of something that was never told says nothing."""
        if self._told.pop(key, None) is not None:
            self._settle(key)
            self.settled += 1
        if not self._told:
            self.waiting_since_ns = None
