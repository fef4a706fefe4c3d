"""systemd's notification protocol, and a watchdog that only progress can pet.

The protocol (sd_notify(3)): one datagram of `KEY=value` lines to the Unix socket named by `NOTIFY_SOCKET`; a leading
`@` means Linux' abstract namespace. With `WATCHDOG_USEC` set, systemd kills the process when `WATCHDOG=1` stays away
for that long. A timer that pets on its own would hide every hang: here each worker reports its progress and the
watchdog is petted only while all of them have made some. Outside systemd everything here does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from runtime.messages import NANOSECONDS_PER_SECOND

_LONGEST_STATUS = 500


class SystemdNotifier:
    """Tells systemd about this process. A datagram that is refused is counted, never waited for."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.refused = 0
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._socket = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @staticmethod
    def from_environment(environment: Mapping[str, str], process_id: int | None = None) -> SystemdNotifier:
        """The notifier that systemd asks for; `WATCHDOG_PID` names another process when it is not for us."""
        own_id = os.getpid() if process_id is None else process_id
        meant_for = environment.get("WATCHDOG_PID")
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_ours = meant_for is None or meant_for == str(own_id)
        watchdog_s = int(microseconds) / 1e6 if is_ours and microseconds.isdigit() else None
        return SystemdNotifier(environment.get("NOTIFY_SOCKET") or None, watchdog_s)

    @property
    def is_active(self) -> bool:
        """True under a service manager that wants to hear from us."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """Start-up is over: dependents may start."""
        self._send("READY=1", status)

    def stopping(self, status: str = "") -> None:
        """Leaving on purpose: a slow end is not a hang."""
        self._send("STOPPING=1", status)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("", text)

    def pet(self) -> None:
        """Push the watchdog's deadline back."""
        self._send("WATCHDOG=1", "")

    def extend(self, seconds: float) -> None:
        """Starting or leaving takes long, and goes on: wait so much longer for the next such message."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}", "")

    def close(self) -> None:
        """Close the socket; later messages go nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str, status: str) -> None:
        if self._socket is None or self._address is None:
            return
        line = status.replace("\n", " ")[:_LONGEST_STATUS]
        message = "\n".join(part for part in (state, f"STATUS={line}" if line else "") if part)
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            self.refused += 1


class ProgressWatchdog:
    """Pets the notifier as long as every worker has made progress within `timeout_s`.

    A worker that has not reported yet counts from `started_ns`, so that a worker that never starts is a hang too.
    """

    def __init__(self, notifier: SystemdNotifier, workers: Sequence[str], timeout_s: float, started_ns: int) -> None:
        if not workers:
            raise ValueError("a watchdog without workers would be petted by nothing: name at least one")
        self._notifier = notifier
        self._timeout_ns = round(timeout_s * NANOSECONDS_PER_SECOND)
        self._last_ns = dict.fromkeys(workers, started_ns)

    @property
    def interval_s(self) -> float:
        """How often to call `check`: a third of systemd's deadline, at least every second."""
        deadline_s = self._notifier.watchdog_s
        return min(1.0, deadline_s / 3) if deadline_s else 1.0

    def progress(self, worker: str, now_ns: int) -> None:
        """`worker` has finished a piece of real work. Callable from any thread."""
        if worker not in self._last_ns:
            raise ValueError(f"worker {worker!r} is unknown to the watchdog; it knows {', '.join(self._last_ns)}")
        self._last_ns[worker] = now_ns

    def stalled(self, now_ns: int) -> tuple[str, ...]:
        """The workers without progress for longer than the timeout."""
        return tuple(worker for worker, last_ns in self._last_ns.items() if now_ns - last_ns > self._timeout_ns)

    def check(self, now_ns: int) -> tuple[str, ...]:
        """Pet the watchdog unless a worker is stalled; returns the stalled ones."""
        stalled = self.stalled(now_ns)
        if stalled:
            self._notifier.status(f"no progress: {', '.join(stalled)}")
        else:
            self._notifier.pet()
        return stalled
