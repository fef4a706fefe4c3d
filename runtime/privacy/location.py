"""Takes the vehicle's place out of a clip's messages, or makes it coarse.

A value is a place when its name says so: `latitude`, `longitude` or `altitude` in it, or one of the names configured.
That holds for signals on every topic, for what a tick says, and for a firing's operands. A firing's operands without a
namespace, and its score, are what a rule computed: nobody can tell whether from a position, so they go. Well-known
position messages (`foxglove.LocationFix`) are made coarse or dropped, user data inside video is dropped (dash cameras
write positions there), and a message of a kind that is not known here is dropped too. So is a line of a log: free text
may say anything.

Rounding to `decimals` places cuts to a grid: 2 are about 1.1 km north to south, 1 is 11 km. Altitude has no such grid
and is removed. Speed and steering stay: who knows where a drive began can follow them for a while (deploy/PRIVACY.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix

from runtime.formats import topics
from runtime.formats.bitstream import nal_unit_type, nal_units
from runtime.formats.foxglove_messages import encode_video
from runtime.formats.json_messages import encode_json
from runtime.formats.mcap_files import RawMessage
from runtime.messages import Firing, Packet, SignalValue
from runtime.recording.places import LOCATION_FIX_SCHEMA, PLACE_WORDS, PLACELESS_SCHEMAS, names_place, rounded

Mode = Literal["keep", "round", "remove"]
#: Supplemental enhancement information by codec (ITU-T H.264 table 7-1, H.265 table 7-1) and its kinds of user data
#: (H.264 D.1.6 and D.1.7: registered by T.35, unregistered).
_SEI_TYPES = {"h264": (6,), "h265": (39, 40)}
_USER_DATA = (4, 5)


@dataclass(frozen=True, slots=True)
class LocationRule:
    """What becomes of places."""

    mode: Mode = "keep"
    decimals: int = 2
    signals: tuple[str, ...] = ()  # names beyond those that say it themselves

    def is_place(self, name: str) -> bool:
        """Whether a signal of this canonical name tells where the vehicle is."""
        return name in self.signals or names_place(name)

    def shown(self, name: str, value: Any) -> SignalValue | None:
        """A place as the clip may show it; None: not at all."""
        return None if self.mode == "remove" else rounded(name, value, self.decimals)


class Truncation:
    """For one clip."""

    def __init__(self, rule: LocationRule) -> None:
        self._rule = rule
        #: Messages that were dropped, by schema.
        self.dropped: Counter[str] = Counter()

    def firing(self, firing: Firing) -> Firing:
        """Without operands that are a place, or may be computed from one."""
        operands = self._plain(firing.operands, "")
        return replace(firing, operands={name: value for name, value in operands.items() if "." in name}, score=None)

    def transform(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """What may enter the clip."""
        for message in messages:
            shown = self._shown(message)
            if shown is None:
                self.dropped[message.channel.schema_name] += 1
            else:
                yield shown

    def _shown(self, message: RawMessage) -> RawMessage | None:
        schema = message.channel.schema_name
        if schema == topics.VIDEO_SCHEMA:
            return without_user_data(message)
        if schema == LOCATION_FIX_SCHEMA:
            return self._location_fix(message)
        if message.channel.message_encoding == "json":
            return self._json(message)
        return message if schema in PLACELESS_SCHEMAS else None

    def _location_fix(self, message: RawMessage) -> RawMessage | None:
        if self._rule.mode == "remove":
            return None
        fix = LocationFix.FromString(message.data)
        coarse = LocationFix(
            frame_id=fix.frame_id,
            latitude=round(fix.latitude, self._rule.decimals),
            longitude=round(fix.longitude, self._rule.decimals),
        )
        coarse.timestamp.CopyFrom(fix.timestamp)
        return replace(message, data=coarse.SerializeToString())

    def _json(self, message: RawMessage) -> RawMessage:
        if not self._may_hold_places(message):
            return message
        fields: dict[str, Any] = json.loads(message.data)
        if message.topic == topics.FIRING:
            kept = self._plain(dict(fields.get("operands") or {}), "")
            fields["operands"] = {name: value for name, value in kept.items() if "." in name}
            fields["score"] = None
            return replace(message, data=encode_json(fields))
        return replace(message, data=encode_json(self._plain(fields, message.topic.lstrip("/"))))

    def _may_hold_places(self, message: RawMessage) -> bool:
        """Cheap: most messages are large and hold none."""
        text = message.data.lower()
        columns = (name.rpartition(".")[2].lower().encode() for name in self._rule.signals)
        return message.topic == topics.FIRING or any(word in text for word in (*PLACE_WORDS, *columns))

    def _plain(self, fields: Any, namespace: str) -> dict[str, Any]:
        """A copy of a mapping without places, at any depth; a name counts alone and with its namespace."""
        plain: dict[str, Any] = {}
        for name, value in fields.items():
            full = f"{namespace}.{name}" if namespace else name
            if self._rule.is_place(name) or self._rule.is_place(full):
                shown = self._rule.shown(full, value)
                plain |= {} if shown is None else {name: shown}
            else:
                plain[name] = self._nested(value, full)
        return plain

    def _nested(self, value: Any, namespace: str) -> Any:
        if isinstance(value, dict):
            return self._plain(value, namespace)
        return [self._nested(item, namespace) for item in value] if isinstance(value, list) else value


def without_user_data(message: RawMessage) -> RawMessage:
    """A video message without user data in its bitstream; pictures are not touched."""
    packet = message.packet()
    kinds = _SEI_TYPES.get(packet.codec, ())
    units = list(nal_units(packet.data))
    drop = {unit for unit in units if _is_user_data(packet, unit, kinds)}
    if not drop:
        return message
    data = b"".join(b"\x00\x00\x00\x01" + packet.data[start:end] for start, end in units if (start, end) not in drop)
    return replace(message, data=encode_video(replace(packet, data=data)))


def _is_user_data(packet: Packet, unit: tuple[int, int], kinds: Collection[int]) -> bool:
    start, end = unit
    if nal_unit_type(packet.codec, packet.data[start]) not in kinds:
        return False
    header_bytes = 1 if packet.codec == "h264" else 2
    return any(kind in _USER_DATA for kind in _sei_payloads(packet.data[start + header_bytes : end]))


def _sei_payloads(data: bytes) -> Iterator[int]:
    """Kinds of the payloads of one unit (H.264 7.3.2.3.1); one that runs out of its unit is taken for user data."""
    data = data.replace(b"\x00\x00\x03", b"\x00\x00")
    place = 0
    while place < len(data) - 1:  # the last byte ends the unit
        numbers = []
        for _ in range(2):
            number = 0
            while place < len(data) and data[place] == 0xFF:
                number, place = number + 255, place + 1
            if place >= len(data):
                yield _USER_DATA[1]
                return
            numbers.append(number + data[place])
            place += 1
        yield numbers[0]
        place += numbers[1]
