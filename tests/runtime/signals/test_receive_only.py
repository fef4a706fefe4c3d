"""The proof that no signal source can act on the vehicle: nothing in the package can write to a bus or a socket."""

import ast
from pathlib import Path

import can
import pytest

import runtime.signals
from runtime.clock import SystemClock
from runtime.messages import SignalSample
from runtime.signals.can_bus import CanBusSource

PACKAGE = Path(runtime.signals.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))

#: Any attribute by which python-can, pyzmq, sockets or files write something.
WRITING = {
    "send", "send_periodic", "send_multipart", "send_string", "send_json", "send_pyobj", "send_serialized",
    "sendto", "sendall", "sendmsg", "write", "writelines", "transmit", "flush_tx_buffer", "put", "modify_data",
}  # fmt: skip
#: Sockets that can only receive.
RECEIVING_SOCKETS = {"SUB", "PULL"}
ALL_SOCKETS = {"PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH", "XPUB", "XSUB", "STREAM"}
#: Ways round a look at attributes.
INDIRECT = {"getattr", "eval", "exec", "__import__"}


def _violations(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            if node.attr in WRITING or node.attr.startswith("send"):
                found.append(f"line {node.lineno}: .{node.attr}")
            if node.attr in ALL_SOCKETS - RECEIVING_SOCKETS:
                found.append(f"line {node.lineno}: a {node.attr} socket")
        if isinstance(node, ast.Name) and node.id in INDIRECT:
            found.append(f"line {node.lineno}: {node.id}")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [
                f"line {node.lineno}: import {name}"
                for name in _imported(node)
                if name in {"socket", "subprocess", "os"}
            ]
    return found


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    return [alias.name.split(".")[0] for alias in node.names]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_signal_module_can_write_to_anything(module: Path) -> None:
    assert _violations(module.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "bus.send(message)",
        "bus.send_periodic(m, 1)",
        "zmq.Context().socket(zmq.PUB)",
        "getattr(bus, 'se' + 'nd')",
        "import socket",
    ],
)
def test_the_proof_would_see_a_write(source: str) -> None:
    assert _violations(source)


def test_a_running_can_source_puts_nothing_on_its_bus(tmp_path: Path) -> None:
    dbc = tmp_path / "car.dbc"
    dbc.write_text('VERSION ""\nBO_ 180 SPEED: 8 XXX\n SG_ SPEED : 47|16@0+ (0.01,0) [0|250] "km/h" XXX\n')
    place = {"vehicle.speed_mps": _Place()}
    source = CanBusSource("virtual", "receive-only", dbc, place, SystemClock())
    with can.Bus(interface="virtual", channel="receive-only") as witness:
        received: list[SignalSample] = []
        source.start(received.append)
        frame = can.Message(arbitration_id=180, data=bytes([0, 0, 0, 0, 0, 0x1C, 0x20, 0]), is_extended_id=False)
        for _ in range(100):
            witness.send(frame)
            if received:
                break
            assert witness.recv(0.05) is None
        source.stop()
        assert received[0].name == "vehicle.speed_mps"
        assert witness.recv(0.05) is None


class _Place:
    bus = None
    message = "SPEED"
    signal = "SPEED"
    scale = 1.0
    offset = 0.0
    invert = False
