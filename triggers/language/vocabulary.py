"""The words of the language: signals, track fields and functions, each with its type. One table per kind.

A name outside these tables is an error with the nearest known word, unless a configuration declares it or its
namespace is open (`heads.`: whatever the model publishes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triggers.language.types import Type

NUMBER, BOOLEAN, TEXT, ANY = Type.NUMBER, Type.BOOLEAN, Type.TEXT, Type.ANY

SIGNALS: Mapping[str, Type] = {
    "vehicle.speed_mps": NUMBER,
    "vehicle.accel_mps2": NUMBER,
    "vehicle.steering_angle_deg": NUMBER,
    "vehicle.steering_torque_nm": NUMBER,
    "vehicle.gas_pressed": BOOLEAN,
    "vehicle.brake_pressed": BOOLEAN,
    "vehicle.steering_pressed": BOOLEAN,
    "vehicle.left_blinker": BOOLEAN,
    "vehicle.right_blinker": BOOLEAN,
    "vehicle.standstill": BOOLEAN,
    "vehicle.gear": TEXT,
    "vehicle.wiper": ANY,  # a switch in some cars, a speed step in others: the first use in a rule decides
    "vehicle.latitude_deg": NUMBER,
    "vehicle.longitude_deg": NUMBER,
    "controller.enabled": BOOLEAN,
    "controller.lateral_active": BOOLEAN,
    "controller.longitudinal_active": BOOLEAN,
    "controller.accel_command_mps2": NUMBER,
    "controller.curvature_command_1pm": NUMBER,
    "controller.steering_angle_command_deg": NUMBER,
    "controller.set_speed_mps": NUMBER,
    "controller.state": TEXT,
    "lead.present": BOOLEAN,
    "lead.distance_m": NUMBER,
    "lead.relative_speed_mps": NUMBER,
    "shadow.accel_mps2": NUMBER,
    "shadow.curvature_1pm": NUMBER,
    "shadow.lead_distance_m": NUMBER,
    "diff.accel_mps2": NUMBER,  # shadow minus controller, as every diff.*
    "diff.curvature_1pm": NUMBER,
    "diff.lead_distance_m": NUMBER,
    "health.cameras_missing": NUMBER,
    "health.faulty_cameras": TEXT,  # names, sorted, joined by commas; "" when all are well
    "health.camera_faults": TEXT,  # "name:fault", sorted, joined by commas
}

#: Any name in these namespaces may be read: which exist depends on the model or the daemon's version.
OPEN_NAMESPACES = ("heads",)

TRACK_FIELDS: Mapping[str, Type] = {
    "track_id": NUMBER,
    "camera": TEXT,
    "class_name": TEXT,
    "score": NUMBER,
    "state": TEXT,
    "visible": BOOLEAN,
    "age_s": NUMBER,
    "width_px": NUMBER,
    "height_px": NUMBER,
    "border_px": NUMBER,  # from the box to the nearest edge of its image; unknown without the image's size
    "distance_m": NUMBER,
    "lateral_m": NUMBER,
    "speed_mps": NUMBER,
    "predicted_speed_mps": NUMBER,
    "bearing_deg": NUMBER,
    "lane": TEXT,
}


@dataclass(frozen=True, slots=True)
class Function:
    """How a function is called: typed operands, then perhaps a length of time in seconds (a literal)."""

    operands: tuple[Type, ...]
    result: Type  # ANY: the type of the first operand
    meaning: str
    has_seconds: bool = False
    is_variadic: bool = False  # two or more operands of the one type
    is_temporal: bool = False  # remembers earlier ticks: one value for all tracks, so no track fields inside

    def usage(self, name: str) -> str:
        """How to write a call, for error messages."""
        words = {NUMBER: "number", BOOLEAN: "condition", TEXT: "text", ANY: "value"}
        inside = [words[operand] for operand in self.operands] + ([words[self.operands[0]]] if self.is_variadic else [])
        return f"{name}({', '.join(inside + (['seconds'] if self.has_seconds else []))})"


def _window(operand: Type, result: Type, meaning: str) -> Function:
    return Function((operand,), result, meaning, has_seconds=True, is_temporal=True)


def _edge(operand: Type, result: Type, meaning: str) -> Function:
    return Function((operand,), result, meaning, is_temporal=True)


FUNCTIONS: Mapping[str, Function] = {
    "abs": Function((NUMBER,), NUMBER, "distance from zero"),
    "sign": Function((NUMBER,), NUMBER, "-1, 0 or 1"),
    "min": Function((NUMBER,), NUMBER, "the smallest", is_variadic=True),
    "max": Function((NUMBER,), NUMBER, "the largest", is_variadic=True),
    "known": Function((ANY,), BOOLEAN, "true when the value is known; itself never unknown"),
    "is_true": Function((BOOLEAN,), BOOLEAN, "true when known to be true, false when false or unknown"),
    "rising": _edge(BOOLEAN, BOOLEAN, "became true since the last tick, even if it is false again"),
    "falling": _edge(BOOLEAN, BOOLEAN, "became false since the last tick, even if it is true again"),
    "changed": _edge(ANY, BOOLEAN, "took another value since the last tick, even if it changed back"),
    "added": _edge(TEXT, TEXT, "entries of a comma-joined list that were not in it before; at first, all"),
    "since_s": _edge(BOOLEAN, NUMBER, "seconds since it was last true, 0 while it is; unknown if never"),
    "any_within": _window(BOOLEAN, BOOLEAN, "true at some tick of the window"),
    "all_within": _window(BOOLEAN, BOOLEAN, "true at every tick of the window"),
    "count_within": _window(BOOLEAN, NUMBER, "how often it became true in the window"),
    "flips": _window(ANY, NUMBER, "how often it changed in the window"),
    "min_within": _window(NUMBER, NUMBER, "smallest in the window"),
    "max_within": _window(NUMBER, NUMBER, "largest in the window"),
    "mean_within": _window(NUMBER, NUMBER, "mean over the ticks of the window"),
    "delta": _window(NUMBER, NUMBER, "now minus that many seconds ago"),
    "rate": _window(NUMBER, NUMBER, "change per second over the window"),
    "lag": _window(ANY, ANY, "the value that many seconds ago"),
    "at_random": Function((), BOOLEAN, "true at random ticks, once in that many seconds on average", True, False, True),
}

QUANTIFIERS: Mapping[str, Function] = {
    "any_track": Function((BOOLEAN,), BOOLEAN, "true for at least one track"),
    "all_tracks": Function((BOOLEAN,), BOOLEAN, "true for every track (also when there is none)"),
    "count_tracks": Function((BOOLEAN,), NUMBER, "number of tracks for which it is true"),
}

#: History of each track; only inside a quantifier.
TRACK_FUNCTIONS: Mapping[str, Function] = {
    "displacement_px": Function((), NUMBER, "diagonal of the area its centre stayed in", True),
    "class_flips": Function((), NUMBER, "how often its class changed", True),
    "presence_flips": Function((), NUMBER, "how often it appeared or disappeared", True),
    "state_flips": Function((), NUMBER, "how often its state changed", True),
    "box_jitter": Function((), NUMBER, "mean jump of its centre against smooth motion, in box heights", True),
}

#: Python operators that the language knows, by the name of their `ast` class.
ARITHMETIC: Mapping[str, str] = {
    "Add": "+",
    "Sub": "-",
    "Mult": "*",
    "Div": "/",
    "FloorDiv": "//",
    "Mod": "%",
    "Pow": "**",
}
ORDERINGS: Mapping[str, str] = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">="}
EQUALITIES: Mapping[str, str] = {"Eq": "==", "NotEq": "!="}

MAX_TEXT_LENGTH = 4096
MAX_NODES = 1000  # of one expression, every use of a `let` name counted
MAX_DEPTH = 40
MIN_WINDOW_S = 0.01
MAX_WINDOW_S = 600.0
MAX_TRACK_WINDOW_S = 60.0
