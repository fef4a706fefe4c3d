"""What a process tells systemd: the other end of its notification socket."""

from __future__ import annotations

import socket


def all_heard(manager: socket.socket) -> list[str]:
    """Every message that has come and was not read; does not wait."""
    manager.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(manager.recv(4096).decode())
    except BlockingIOError:
        return messages
