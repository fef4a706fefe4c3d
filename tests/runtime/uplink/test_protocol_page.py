"""PROTOCOL.md says what the code does: every message with its fields, every code, every bound."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import runtime.uplink
from runtime.formats import offer_limits
from runtime.uplink import (
    connections,
    handshakes,
    incoming,
    limits,
    patience,
    reception,
    set_aside,
    sockets,
    window,
    wire,
)
from runtime.uplink.connection_guard import GUARD_PERIOD_S
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.limits import VehicleLimits
from runtime.uplink.receiver import ReceiverSettings
from runtime.uplink.storage.limits import SMALLEST_SEGMENT_BYTES
from runtime.uplink.storage.removal import GIVEN_UP_NS
from runtime.uplink.store import StoreLimits

HOUR_NS = 3600 * 1_000_000_000
FOLDER = Path(runtime.uplink.__file__).parent
RECEIVER = ReceiverSettings("x", FOLDER, FOLDER)
PAGE = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")
#: However the lines break.
WORDS = " ".join(PAGE.split())


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "classes"),
    [("Messages from the vehicle", wire.FROM_VEHICLE), ("Messages from the receiver", wire.FROM_RECEIVER)],
)
def test_every_message_stands_there_with_its_fields(title, classes):
    written = re.findall(r"^\| ([A-Z]+) \| ([a-z0-9_, ]+) \|", section(title), re.MULTILINE)
    assert sorted(written) == sorted((cls.TYPE, ", ".join(field.name for field in fields(cls))) for cls in classes)


def test_every_code_that_is_sent_is_explained():
    source = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py"))
    sent = set(re.findall(r'(?:RefusedError|_nack|WireError|Nack)\(\s*"([a-z_]+)"', source))
    explained = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"^\| ([a-z_, ]+) \|", section("Codes"), re.MULTILINE))))
    assert sent <= explained, "a code without an explanation"
    assert explained >= limits.FAULT_CODES


def test_the_figures_are_the_real_ones():
    vehicle, delivery = VehicleLimits(), DeliveryLimits()
    unfinished_bytes = RECEIVER.credit_bytes + connections.UNFINISHED_BESIDE_CREDIT_BYTES
    assert f"# Delivery protocol, version {wire.PROTOCOL_VERSION}\n" in PAGE
    for text in (
        f"header of at most {wire.MAX_HEADER_BYTES >> 10} KiB,",
        f"payload of at most {wire.MAX_PAYLOAD_BYTES >> 10} KiB",
        f"{vehicle.requests_per_s:g} requests/s ({vehicle.requests_at_once:,g} at once)",
        f"{vehicle.durable_per_s:g} OFFER, COMMIT, TOMBSTONE, RESULT a second ({vehicle.durable_at_once:,g} at once)",
        f"{vehicle.faults_per_s:g} a second ({vehicle.faults_at_once:,g} at once)",
        f"barred for {vehicle.barred_s:g} s",
        f"{StoreLimits().vehicle_partials} unfinished clips",
        f"hold connections | {connections.CONNECTIONS_A_VEHICLE} |",
        f"{handshakes.HANDSHAKES_PER_S:g} handshake/s ({handshakes.HANDSHAKES_AT_ONCE} at once) of one key",
        f"in silence | {connections.SILENCE_LIMIT_S:g} s, {handshakes.SILENT_A_KEY} such connections of one key |",
        f"first message without end | {connections.SILENT_LIMIT_BYTES >> 20} MiB: it is HELLO |",
        f"{unfinished_bytes >> 20} MiB beyond its last whole message",
        f"of many frames | {incoming.MOST_FRAMES}, two are honest |",
        f"looked at every {GUARD_PERIOD_S:g} s",
        f"{sockets.HANDSHAKE_INTERVAL_MS // 1000} s (ZMQ_HANDSHAKE_IVL)",
        f"| {sockets.QUEUE_MESSAGES} messages |",
        f"every {sockets.HEARTBEAT_INTERVAL_MS // 1000} s, {sockets.HEARTBEAT_TIMEOUT_MS // 1000} s",
        f"silence of {delivery.reply_timeout_s:g} s",
        f"waited for {patience.DELAYS_OF_AN_ANSWER} times as long as the last ACK took, at least"
        f" {delivery.reply_timeout_s:g} s and at most {patience.SILENCES_OF_AN_ANSWER * delivery.reply_timeout_s:g} s",
        f"less than {window.SMALLEST_BYTES >> 10} KiB in chunks of {window.SMALLEST_CHUNK_BYTES >> 10} KiB",
        f"more than {set_aside.OFFERS_A_WAIT} clips are refused",
        f"offered {set_aside.OFFERS_A_WAIT} times in {delivery.refused_retry_s:g} s",
        f"HELLO\n   every {delivery.keep_alive_s:g} s",
        f"alone for {delivery.refused_retry_s:g} s",
        f"repeated every {reception.PULL_REPEAT_S:g} s",
        f"read again every {RECEIVER.reload_s:g} s",
        f"JSON, at most {offer_limits.MAX_METADATA_BYTES >> 10} KiB and {offer_limits.MAX_METADATA_LEVELS} levels deep",
        "nothing of it has come\n   for an hour" if GIVEN_UP_NS == HOUR_NS else "GIVEN_UP_NS",
    ):
        assert " ".join(text.split()) in WORDS, text
    assert window.TARGET_DELAY_S == 2.0
    assert window.SMALLEST_CHUNK_BYTES >= SMALLEST_SEGMENT_BYTES, "an honest vehicle's pieces are no smaller"
