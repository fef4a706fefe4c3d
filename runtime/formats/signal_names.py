"""The canonical signals: what each is called, which type its values have, and how soon one is stale.

A recorded column of 0 and 1 cannot say by itself whether it means false and true; the canonical name can. Names
outside this table are allowed: their values keep the type that the source gives them.

`vehicle.bookmark` is a button: true while it is held. A sender that only knows presses sends true and, right after,
false. However short the pulse, rules see it: samples between two ticks are latched, silence after a release does not
make it unknown, and the very first press counts (`BUTTONS`). `controller.objects` is a JSON list (see
`runtime.controller_objects`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runtime.messages import SignalValue

SignalType = Literal["bool", "float", "str"]
#: The same in the words of people who declare signals of their own.
SignalKind = Literal["boolean", "number", "text"]
#: What is known of a signal that nobody declared: a recorded 0 or 1 may be a number or a boolean.
RecordedKind = Literal["boolean", "number", "text", "any"]
TYPE_OF_KIND: Mapping[SignalKind, SignalType] = {"boolean": "bool", "number": "float", "text": "str"}
KIND_OF_TYPE: Mapping[SignalType, SignalKind] = {word: kind for kind, word in TYPE_OF_KIND.items()}

#: A vehicle's slow messages come at 1 to 10 Hz; longer silence than this means that the source is gone.
DEFAULT_TIMEOUT_S = 1.0
#: A button says nothing until it is pressed again.
BUTTON_TIMEOUT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class CanonicalSignal:
    """The type of a signal's values and after how many seconds without a sample it is unknown."""

    type: SignalType
    timeout_s: float = DEFAULT_TIMEOUT_S


def _bools(*names: str) -> dict[str, CanonicalSignal]:
    return {name: CanonicalSignal("bool") for name in names}


def _floats(*names: str) -> dict[str, CanonicalSignal]:
    return {name: CanonicalSignal("float") for name in names}


CANONICAL_SIGNALS: Mapping[str, CanonicalSignal] = {
    **_floats(
        "vehicle.speed_mps",
        "vehicle.accel_mps2",
        "vehicle.steering_angle_deg",
        "vehicle.steering_torque_nm",
        "vehicle.yaw_rate_radps",
        "vehicle.lateral_accel_mps2",
        "vehicle.pitch_deg",
        "vehicle.latitude_deg",
        "vehicle.longitude_deg",
        "vehicle.altitude_m",
    ),
    **_bools(
        "vehicle.gas_pressed",
        "vehicle.brake_pressed",
        "vehicle.steering_pressed",
        "vehicle.left_blinker",
        "vehicle.right_blinker",
        "vehicle.standstill",
    ),
    "vehicle.bookmark": CanonicalSignal("bool", timeout_s=BUTTON_TIMEOUT_S),
    "vehicle.gear": CanonicalSignal("str"),
    "vehicle.wiper": CanonicalSignal("bool", timeout_s=2.0),
    "vehicle.rain": CanonicalSignal("bool", timeout_s=2.0),
    **_bools("controller.enabled", "controller.lateral_active", "controller.longitudinal_active"),
    **_floats(
        "controller.accel_command_mps2",
        "controller.curvature_command_1pm",
        "controller.steering_angle_command_deg",
        "controller.set_speed_mps",
    ),
    "controller.state": CanonicalSignal("str"),
    "controller.objects": CanonicalSignal("str"),
    **_bools("lead.present"),
    **_floats("lead.distance_m", "lead.relative_speed_mps", "lead.accel_mps2", "lead.lateral_speed_mps"),
    "lead.class_name": CanonicalSignal("str"),
}

#: Signals that are events: nobody sends that they are not pressed before they first are.
BUTTONS = frozenset({"vehicle.bookmark"})


def kind_of(name: str, value: SignalValue) -> SignalKind:
    """The kind of a signal of which this value was seen; a canonical name says it itself."""
    known = CANONICAL_SIGNALS.get(name)
    if known is not None:
        return KIND_OF_TYPE[known.type]
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


_TRUE_WORDS = frozenset({"1", "1.0", "true", "yes", "on"})
_FALSE_WORDS = frozenset({"0", "0.0", "false", "no", "off"})


def parse_signal_text(name: str, text: str) -> SignalValue | None:
    """The value that `text` (a CSV cell) has for the signal `name`; None where the cell is empty or not a number.

    Raises:
        ValueError: the text does not fit the type of a canonical signal.
    """
    text = text.strip()
    if not text:
        return None
    known = CANONICAL_SIGNALS.get(name)
    if known is None:
        return _guess(text)
    if known.type == "str":
        return text
    if known.type == "bool":
        return _bool(text)
    return _finite(float(text))


def coerce_signal_value(name: str, value: object) -> SignalValue | None:
    """A value from a typed source (CAN, ZeroMQ) as the type its canonical name asks for; None where it is unknown.

    Raises:
        ValueError: the value cannot be one of this signal's.
    """
    if value is None:
        return None
    known = CANONICAL_SIGNALS.get(name)
    if known is None or known.type == "str":
        return str(value) if known is not None else _plain(value)
    if isinstance(value, str):
        raise ValueError(f"signal {name!r} is a {known.type}, not the text {value!r}")
    number = _plain(value)
    if number is None or isinstance(number, str):
        return None
    return bool(number) if known.type == "bool" else float(number)


def _plain(value: object) -> SignalValue | None:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return _finite(float(value))
    raise ValueError(f"a signal's value is a number, a boolean or text, not {type(value).__name__}")


def _bool(text: str) -> bool:
    word = text.lower()
    if word in _TRUE_WORDS:
        return True
    if word in _FALSE_WORDS:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _guess(text: str) -> SignalValue | None:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return _finite(float(text))
    except ValueError:
        return text


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
