"""A session that was recorded on the wire and is sent again: CURVE refuses every byte of it."""

from __future__ import annotations

import socket
import threading

import pytest
from impaired_link import ImpairedLink


class RecordingLink(ImpairedLink):
    """Keeps every byte that the vehicle sent."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.recorded = b""

    def _passing_up(self, data: bytes) -> bytes:
        self.recorded += data
        return data


@pytest.mark.sweep
def test_the_recorded_bytes_of_a_session_replayed_are_refused_by_curve(bench):
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, RecordingLink(bench.receiver_port) as link:
        bench.seal(spool, 1000)
        uploader = bench.start_uploader(link.address)
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
        before = dict(bench.settled_figures())
        assert before["received"]["COMMIT"] == 1
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", bench.receiver_port)) as replay:
                replay.settimeout(10)
                sender = threading.Thread(target=send_all, args=(replay, link.recorded))
                sender.start()
                while read_some(replay):
                    pass  # until the receiver hangs up
                sender.join()
        after = bench.settled_figures()
        assert after["received"] == before["received"]
        assert after["handshakes_admitted"] == before["handshakes_admitted"]
    assert receiver.stop() == 0
    bench.check_both_ends()


def send_all(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        pass  # it was hung up on, as it should be


def read_some(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""
