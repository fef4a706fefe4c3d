"""CAN frames into canonical signals, for a recorded log and for a live bus alike.

A signal is taken from one message *on one bus*: the same identifier on another bus is another message. The value is
`raw * scale + offset` in the unit of the canonical name; for a boolean signal it is "not zero", turned round by
`invert`; for a text signal it is the name that the database gives to the number.

Each signal is decoded by itself: real databases hold signals that overlap, and one that is not mapped must not spoil
one that is. Frames in which a mapped signal cannot be decoded (too short, a multiplexer that is not in the database)
are counted, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cantools
from cantools.database import DecodeError
from cantools.database.can import Message
from cantools.database.errors import Error as DatabaseError
from pydantic import BaseModel, ConfigDict, Field

from runtime.formats.documents import suggest
from runtime.formats.signal_names import (
    CANONICAL_SIGNALS,
    TYPE_OF_KIND,
    SignalKind,
    SignalType,
    coerce_signal_value,
)
from runtime.messages import SignalSample, SignalValue


class CanPlace(Protocol):
    """Where a canonical signal comes from, as any configuration may say it. `bus` None: the decoder's default bus."""

    @property
    def bus(self) -> str | None: ...
    @property
    def message(self) -> str: ...
    @property
    def signal(self) -> str: ...
    @property
    def scale(self) -> float: ...
    @property
    def offset(self) -> float: ...
    @property
    def invert(self) -> bool: ...


class CanSignalSource(BaseModel):
    """A `CanPlace` as a drive writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bus: str = Field(min_length=1, description="the bus as the log or the interface names it", examples=["can0"])
    message: str = Field(min_length=1, description="message name in the DBC", examples=["SPEED"])
    signal: str = Field(min_length=1, description="signal name in the DBC", examples=["SPEED"])
    scale: float = Field(default=1.0, strict=False)
    offset: float = Field(default=0.0, strict=False)
    invert: bool = False


@dataclass(frozen=True, slots=True)
class _Route:
    name: str
    message: Any  # cantools' message with this signal alone, or all of them where they are multiplexed
    signal: str
    scale: float
    offset: float
    invert: bool
    as_text: bool
    as_bool: bool

    def decode(self, data: bytes) -> SignalValue | None:
        """The signal's value; None where this frame does not hold it (multiplexed). Raises for damaged frames."""
        values = self.message.decode(data, self.as_text, True)
        return self.value(values[self.signal]) if self.signal in values else None

    def value(self, raw: Any) -> SignalValue | None:
        """What the database's value is in our terms."""
        if self.as_text:
            return str(raw)
        number = float(getattr(raw, "value", raw))
        if self.as_bool:
            return (number != 0.0) != self.invert
        return coerce_signal_value(self.name, number * self.scale + self.offset)


@dataclass(frozen=True, slots=True)
class MappingProblem:
    """A mapping that the database does not support: for which signal, at which of its keys, and what to write."""

    signal_name: str
    key: str
    message: str
    fix: str


@dataclass(slots=True)
class CanDecoder:
    """Decodes the frames that carry mapped signals and ignores all others."""

    routes: Mapping[tuple[str, int], tuple[_Route, ...]] = field(repr=False)
    undecodable: int = 0

    def wants(self, bus: str, arbitration_id: int) -> bool:
        """True when a frame with this identifier on this bus carries a mapped signal."""
        return (bus, arbitration_id) in self.routes

    def decode(self, bus: str, arbitration_id: int, data: bytes, time_ns: int) -> list[SignalSample]:
        """The mapped signals of one frame; empty for other frames, and for those that cannot be decoded (counted)."""
        samples = []
        for route in self.routes.get((bus, arbitration_id), ()):
            try:
                value = route.decode(data)
            except (DecodeError, ValueError, KeyError):
                self.undecodable += 1
                continue
            if value is not None:
                samples.append(SignalSample(route.name, time_ns, value))
        return samples


def bus_name(channel: object) -> str:
    """The bus of a python-can channel: numbered channels are `can<number>`."""
    return f"can{channel}" if isinstance(channel, int) else str(channel)


def load_database(path: Path, *, strict: bool) -> Any:
    """A CAN database. Raises ValueError with what is wrong with it, OSError when it cannot be read."""
    try:
        return cantools.database.load_file(str(path), strict=strict)
    except DatabaseError as error:
        raise ValueError(f"is not a sound CAN database: {error}") from error


def build_decoder(
    database: Any,
    sources: Mapping[str, CanPlace],
    default_bus: str = "",
    declared: Mapping[str, SignalKind] | None = None,
) -> tuple[CanDecoder, list[MappingProblem]]:
    """A decoder for `sources` (signal -> place on the bus), and every mapping that cannot be.

    `declared` says of which kind signals beyond the canonical ones are; of others a boolean is one that is inverted.
    """
    types = {name: TYPE_OF_KIND[kind] for name, kind in (declared or {}).items()}
    types |= {name: known.type for name, known in CANONICAL_SIGNALS.items()}
    messages = {message.name: message for message in database.messages}
    routes: dict[tuple[str, int], list[_Route]] = {}
    problems: list[MappingProblem] = []
    for name, source in sources.items():
        found = _check(name, source, messages, types.get(name))
        problems += found
        if not found:
            message = messages[source.message]
            place = (source.bus or default_bus, message.frame_id)
            routes.setdefault(place, []).append(_route(name, source, message, types.get(name)))
    return CanDecoder({place: tuple(listed) for place, listed in routes.items()}), problems


def _check(
    name: str, source: CanPlace, messages: Mapping[str, Any], signal_type: SignalType | None
) -> list[MappingProblem]:
    problems = []
    if source.invert and signal_type is not None and signal_type != "bool":
        problems.append(
            MappingProblem(name, "invert", f"{name!r} is not a boolean signal", "remove invert, or use a scale of -1")
        )
    message = messages.get(source.message)
    if message is None:
        text = f"the database has no message {source.message!r}"
        return [*problems, MappingProblem(name, "message", text, suggest(source.message, messages))]
    signals = [signal.name for signal in message.signals]
    if source.signal not in signals:
        text = f"message {source.message!r} has no signal {source.signal!r}"
        problems.append(MappingProblem(name, "signal", text, suggest(source.signal, signals)))
    return problems


def _route(name: str, source: CanPlace, message: Any, signal_type: SignalType | None) -> _Route:
    as_bool = source.invert if signal_type is None else signal_type == "bool"
    as_text = signal_type == "str"
    return _Route(
        name,
        _alone(message, source.signal),
        source.signal,
        source.scale,
        source.offset,
        source.invert,
        as_text,
        as_bool,
    )


def _alone(message: Any, signal_name: str) -> Any:
    """The message reduced to one signal; a multiplexed one stays whole, because its selectors are needed."""
    if message.is_multiplexed() or message.is_container:
        return message
    return Message(
        frame_id=message.frame_id,
        name=message.name,
        length=message.length,
        signals=[signal for signal in message.signals if signal.name == signal_name],
        is_extended_frame=message.is_extended_frame,
        strict=False,
    )
