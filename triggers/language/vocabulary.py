"""The words of the language: signals and functions, each with its type. One table per kind.

A name outside these tables is an error with the nearest known word, unless a configuration declares it or its
namespace is open (`heads.`: whatever the model publishes). Words about tracks, controller objects and cameras stand
in `populations`.
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
    "vehicle.altitude_m": NUMBER,
    "vehicle.pitch_deg": NUMBER,  # nose up is positive
    "vehicle.yaw_rate_radps": NUMBER,  # to the left is positive
    "vehicle.lateral_accel_mps2": NUMBER,  # to the left is positive
    "vehicle.rain": BOOLEAN,  # the rain sensor
    "vehicle.bookmark": BOOLEAN,  # a button by which somebody in the car asks to keep this moment
    "controller.enabled": BOOLEAN,
    "controller.lateral_active": BOOLEAN,
    "controller.longitudinal_active": BOOLEAN,
    "controller.accel_command_mps2": NUMBER,
    "controller.curvature_command_1pm": NUMBER,
    "controller.steering_angle_command_deg": NUMBER,
    "controller.set_speed_mps": NUMBER,
    "controller.state": TEXT,
    "controller.objects": TEXT,  # the controller's own object list; ask with any_object(…)
    "lead.present": BOOLEAN,
    "lead.distance_m": NUMBER,
    "lead.relative_speed_mps": NUMBER,
    "lead.accel_mps2": NUMBER,
    "lead.lateral_speed_mps": NUMBER,
    "lead.class_name": TEXT,
    "shadow.accel_mps2": NUMBER,
    "shadow.curvature_1pm": NUMBER,
    "shadow.lead_distance_m": NUMBER,
    "diff.accel_mps2": NUMBER,  # shadow minus controller, as every diff.*
    "diff.curvature_1pm": NUMBER,
    "diff.lead_distance_m": NUMBER,
    # A second candidate network beside the first (A/B), and the first minus the second.
    "shadow_b.accel_mps2": NUMBER,
    "shadow_b.curvature_1pm": NUMBER,
    "shadow_b.lead_distance_m": NUMBER,
    "diff_b.accel_mps2": NUMBER,
    "diff_b.curvature_1pm": NUMBER,
    "diff_b.lead_distance_m": NUMBER,
    "ab.accel_mps2": NUMBER,
    "ab.curvature_1pm": NUMBER,
    "ab.lateral_accel_mps2": NUMBER,
    "ab.lead_distance_m": NUMBER,
    "ab.kept_count": NUMBER,  # objects that both see
    "ab.lost_count": NUMBER,  # that only the first sees
    "ab.extra_count": NUMBER,  # that only the second sees
    "health.cameras_missing": NUMBER,
    "health.faulty_cameras": TEXT,  # names, sorted, joined by commas; "" when all are well
    "health.camera_faults": TEXT,  # "name:fault", sorted, joined by commas
    "health.latency_ms": NUMBER,  # from the newest frame's capture until the last tick's result
    "health.tick_ms": NUMBER,  # how long the last tick took
    "health.framesets_skipped": NUMBER,  # since the start
}

#: Any name in these namespaces may be read: which exist depends on the model or the daemon's version.
OPEN_NAMESPACES = ("heads", "heads_b")


@dataclass(frozen=True, slots=True)
class Function:
    """How a function is called: typed operands, then perhaps a length of time in seconds (a literal)."""

    operands: tuple[Type, ...]
    result: Type  # ANY: the type of the first operand
    meaning: str
    has_seconds: bool = False
    is_variadic: bool = False  # two or more operands of the one type
    is_temporal: bool = False  # remembers earlier ticks
    follows_items: bool = False  # a temporal function that also follows each track, object or camera

    def usage(self, name: str) -> str:
        """How to write a call, for error messages."""
        words = {NUMBER: "number", BOOLEAN: "condition", TEXT: "text", ANY: "value"}
        inside = [words[operand] for operand in self.operands] + ([words[self.operands[0]]] if self.is_variadic else [])
        return f"{name}({', '.join(inside + (['seconds'] if self.has_seconds else []))})"


def _window(operand: Type, result: Type, meaning: str, follows_items: bool = True) -> Function:
    return Function((operand,), result, meaning, has_seconds=True, is_temporal=True, follows_items=follows_items)


def _edge(operand: Type, result: Type, meaning: str, follows_items: bool = True) -> Function:
    return Function((operand,), result, meaning, is_temporal=True, follows_items=follows_items)


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
    "added": _edge(TEXT, TEXT, "entries of a comma-joined list that were not in it before; at first, all", False),
    "since_s": _edge(BOOLEAN, NUMBER, "seconds since it was last true, 0 while it is; unknown if never"),
    "any_within": _window(BOOLEAN, BOOLEAN, "true at some tick of the window"),
    "all_within": _window(BOOLEAN, BOOLEAN, "true at every tick of the window"),
    "count_within": _window(BOOLEAN, NUMBER, "how often it became true in the window"),
    "flips": _window(ANY, NUMBER, "how often it changed in the window"),
    "min_within": _window(NUMBER, NUMBER, "smallest in the window"),
    "max_within": _window(NUMBER, NUMBER, "largest in the window"),
    "mean_within": _window(NUMBER, NUMBER, "mean over the ticks of the window"),
    "std_within": _window(NUMBER, NUMBER, "standard deviation over the ticks of the window"),
    "delta": _window(NUMBER, NUMBER, "now minus that many seconds ago"),
    "rate": _window(NUMBER, NUMBER, "change per second over the window"),
    "lag": _window(ANY, ANY, "the value that many seconds ago"),
    "at_random": Function((), BOOLEAN, "true at random ticks, once in that many seconds on average", True, False, True),
}

#: Functions whose one argument is a name in quotes, and what it names.
NAMED: Mapping[str, Function] = {
    "inside": Function((TEXT,), BOOLEAN, "the car is inside that zone of the file"),
    "embedding_distance": Function((TEXT,), NUMBER, "cosine distance (0 to 2) of the scene to that query"),
    "classifier": Function((TEXT,), NUMBER, "probability (0 to 1) that that learned trigger gives"),
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
MAX_ITEM_WINDOW_S = 60.0  # of a window that follows each track, object or camera
MAX_NUMBER = 1e300
