"""What a rule can ask about one by one: tracks, the controller's own objects, cameras.

Each of these populations has fields and functions (names inside its quantifiers), quantifiers and aggregates:
`any_track(c) all_tracks(c) count_tracks(c)`, and `min_tracks(number, c) max_tracks(number, c) mean_tracks(number, c)`
over the tracks for which `c` is true. An expression over items has one value for each item of one population.

A quantifier is unknown where an item whose condition is unknown could change it. An aggregate is unknown when no item
is selected, when it is unknown whether one is, and when the number of one that is selected is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from triggers.language.types import Type
from triggers.language.vocabulary import Function

NUMBER, BOOLEAN, TEXT = Type.NUMBER, Type.BOOLEAN, Type.TEXT


class Population(Enum):
    """A kind of items that a rule can ask about one by one."""

    TRACKS = "track"
    OBJECTS = "object"
    CAMERAS = "camera"

    @property
    def title(self) -> str:
        """How messages call its items."""
        return {"track": "tracks", "object": "controller objects", "camera": "cameras"}[self.value]


FIELDS: Mapping[Population, Mapping[str, Type]] = {
    Population.TRACKS: {
        "track_id": NUMBER,
        "camera": TEXT,
        "class_name": TEXT,
        "score": NUMBER,
        "state": TEXT,
        "visible": BOOLEAN,
        "age_s": NUMBER,
        "left_px": NUMBER,
        "top_px": NUMBER,
        "right_px": NUMBER,
        "bottom_px": NUMBER,
        "width_px": NUMBER,
        "height_px": NUMBER,
        "border_px": NUMBER,  # from the box to the nearest edge of its image; unknown without the image's size
        "stands_on": TEXT,  # class of the track of this camera on whose upper part this box stands; "" for none
        "distance_m": NUMBER,  # from the box and the ground
        "predicted_distance_m": NUMBER,  # from a depth head
        "lateral_m": NUMBER,
        "lateral_speed_mps": NUMBER,
        "speed_mps": NUMBER,
        "predicted_speed_mps": NUMBER,
        "closing_speed_mps": NUMBER,
        "bearing_deg": NUMBER,
        "lane": TEXT,
        "overlapping_cameras": NUMBER,
        "confirming_cameras": NUMBER,
        "confirming_gap_deg": NUMBER,
    },
    Population.OBJECTS: {
        "object_id": NUMBER,
        "class_name": TEXT,
        "score": NUMBER,
        "age_s": NUMBER,
        "distance_m": NUMBER,
        "lateral_m": NUMBER,
        "speed_mps": NUMBER,
        "closing_speed_mps": NUMBER,
        "bearing_deg": NUMBER,
        "lane": TEXT,
    },
    Population.CAMERAS: {
        "camera": TEXT,
        "state": TEXT,  # "ok", or the fault
        "is_missing": BOOLEAN,
        "latency_ms": NUMBER,
        "luma": NUMBER,
        "luma_std": NUMBER,
        "dark_share": NUMBER,
        "bright_share": NUMBER,
        "sharpness": NUMBER,
        "misalignment_deg": NUMBER,
    },
}

LANES = ("ego", "left", "right", "other")
CAMERA_STATES = ("ok", "connecting", "failed", "ended", "wrong_size", "corrupt", "dropping", "late", "frozen")

#: Texts that fields of the runtime's own making can be: a comparison with any other would never be true.
DOMAINS: Mapping[Population, Mapping[str, tuple[str, ...]]] = {
    Population.TRACKS: {"lane": LANES},
    Population.OBJECTS: {"lane": LANES},
    Population.CAMERAS: {"state": CAMERA_STATES},
}

_CLASS_FLIPS = Function((), NUMBER, "how often its class changed", has_seconds=True)
_STATE_FLIPS = Function((), NUMBER, "how often its state changed", has_seconds=True)

#: History of each item; only inside a quantifier of its population.
ITEM_FUNCTIONS: Mapping[Population, Mapping[str, Function]] = {
    Population.TRACKS: {
        "displacement_px": Function((), NUMBER, "diagonal of the area its centre stayed in", has_seconds=True),
        "class_flips": _CLASS_FLIPS,
        "presence_flips": Function((), NUMBER, "how often it appeared or disappeared", has_seconds=True),
        "state_flips": _STATE_FLIPS,
        "box_jitter": Function(
            (), NUMBER, "mean jump of its centre against smooth motion, in box heights", has_seconds=True
        ),
    },
    Population.OBJECTS: {"class_flips": _CLASS_FLIPS},
    Population.CAMERAS: {"state_flips": _STATE_FLIPS},
}


@dataclass(frozen=True, slots=True)
class Quantifier:
    """A question to all items of a population: the condition stands last, the number of an aggregate before it."""

    population: Population
    kind: str  # "any", "all", "count", "min", "max", "mean"
    function: Function

    @property
    def is_aggregate(self) -> bool:
        """True for min, max and mean."""
        return len(self.function.operands) == 2


def _quantifiers(population: Population) -> dict[str, Quantifier]:
    one, many = population.value, f"{population.value}s"
    functions = {
        f"any_{one}": Function((BOOLEAN,), BOOLEAN, f"true for at least one {one}"),
        f"all_{many}": Function((BOOLEAN,), BOOLEAN, f"true for every {one} (also when there is none)"),
        f"count_{many}": Function((BOOLEAN,), NUMBER, f"number of {many} for which it is true"),
        f"min_{many}": Function((NUMBER, BOOLEAN), NUMBER, f"smallest over the {many} for which it is true"),
        f"max_{many}": Function((NUMBER, BOOLEAN), NUMBER, f"largest over the {many} for which it is true"),
        f"mean_{many}": Function((NUMBER, BOOLEAN), NUMBER, f"mean over the {many} for which it is true"),
    }
    return {name: Quantifier(population, name.partition("_")[0], function) for name, function in functions.items()}


QUANTIFIERS: Mapping[str, Quantifier] = {
    name: quantifier for population in Population for name, quantifier in _quantifiers(population).items()
}


def populations_of(word: str) -> tuple[Population, ...]:
    """The populations of which `word` is a field or a function."""
    return tuple(each for each in Population if word in FIELDS[each] or word in ITEM_FUNCTIONS[each])
