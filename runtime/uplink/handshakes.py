"""How often one key may connect, and how many of its connections may wait for their first word.

A connection has no vehicle before its first message: libzmq names the key when the handshake is admitted, and the
descriptor only with a message. Till then it holds memory, a descriptor and a routing id that it may have chosen
(`routes`). So handshakes are counted by key where they are admitted. One is *silent* until a connection of its key
says its first word, or until the table of connections has cut it for its silence; which of them has ended meanwhile
nobody tells, so one that broke off counts as long.

An honest vehicle has one connection, says HELLO at once and backs off, and every key has its own account: a fleet that
comes back at once meets none of this. Used by the doorkeeper's thread and the receiver's loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.connections import CONNECTIONS_A_VEHICLE, SILENCE_LIMIT_S
from runtime.uplink.pace import Pace

HANDSHAKES_PER_S = 1.0
HANDSHAKES_AT_ONCE = 20
SILENT_A_KEY = CONNECTIONS_A_VEHICLE
#: An account is as good as new after this: its pace is full again, and none of its connections is silent.
IDLE_NS = int(max(HANDSHAKES_AT_ONCE / HANDSHAKES_PER_S, SILENCE_LIMIT_S) * NANOSECONDS_PER_SECOND) + 1
TOO_MANY_HANDSHAKES = "too many handshakes"
TOO_MANY_SILENT = "too many silent connections"


@dataclass(slots=True)
class _Account:
    """One key's; times are monotonic."""

    pace: Pace = field(default_factory=lambda: Pace(HANDSHAKES_PER_S, HANDSHAKES_AT_ONCE))
    silent_since_ns: deque[int] = field(default_factory=deque)
    admitted_ns: int = 0


class Handshakes:
    """The accounts of the keys that connected lately: those enrolled at most. `now_ns` tells the monotonic time."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._accounts: dict[str, _Account] = {}
        self._pruned_ns = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._accounts)

    def refusal(self, key: str) -> str:
        """Count a handshake of an enrolled key, and return ""; or why it is refused, which counts for nothing."""
        now_ns = self._now_ns()
        with self._lock:
            self._prune(now_ns)
            account = self._accounts.setdefault(key, _Account(admitted_ns=now_ns))
            if not account.pace.is_open(now_ns):
                return TOO_MANY_HANDSHAKES
            oldest_ns = now_ns - int(SILENCE_LIMIT_S * NANOSECONDS_PER_SECOND)
            while account.silent_since_ns and account.silent_since_ns[0] < oldest_ns:
                account.silent_since_ns.popleft()
            if len(account.silent_since_ns) >= SILENT_A_KEY:
                return TOO_MANY_SILENT
            account.pace.spend(1.0)
            account.silent_since_ns.append(now_ns)
            account.admitted_ns = now_ns
            return ""

    def spoke(self, key: str) -> None:
        """A connection of this key said its first word."""
        with self._lock:
            account = self._accounts.get(key)
            if account is not None and account.silent_since_ns:
                account.silent_since_ns.popleft()

    def _prune(self, now_ns: int) -> None:
        if now_ns - self._pruned_ns < IDLE_NS:
            return
        self._pruned_ns = now_ns
        self._accounts = {
            key: account for key, account in self._accounts.items() if now_ns - account.admitted_ns < IDLE_NS
        }
