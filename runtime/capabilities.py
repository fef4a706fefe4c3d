"""What the running model, rig, cameras and sources can tell rules: a rule that can never fire is named at load.

A rule asks for signals, heads, classes, states and track fields; what nothing here computes is missing, by name. A
network says for itself what it publishes (`Network`); places on the road need a calibrated camera, speeds over ground
the car's own speed, lateral ones its yaw rate, and a second opinion a second calibrated camera.

Which signals the sources give is known for recorded tables and CAN mappings and unknown for a bench that may send any;
where one source is unknown, no signal from outside is held against a rule. What the tick itself gives is known always:
without a network nothing of `shadow.*` and `diff.*`, in a replay nothing that the machine alone decides (how long a
tick took, how late a camera's frame came).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtime.camera_views import IMAGE_FIELDS
from runtime.controller_objects import SIGNAL as OBJECTS_SIGNAL
from runtime.inference.network import Network
from runtime.rig import Rig
from triggers import OPTIONAL_TRACK_FIELDS, Capabilities, RuleSet
from triggers.language.expressions import ItemField, walk
from triggers.language.populations import Population
from triggers.language.vocabulary import SIGNALS

#: Fields of tracks that the network has to tell of each object.
TOLD_FIELDS = frozenset({"predicted_distance_m", "predicted_speed_mps"})
#: Fields of tracks that need to know where the camera is and how it looks.
PLACE_FIELDS = frozenset(
    {
        "distance_m", "lateral_m", "lateral_speed_mps", "speed_mps", "closing_speed_mps", "bearing_deg", "lane",
        "overlapping_cameras", "confirming_cameras", "confirming_gap_deg",
    }
)  # fmt: skip
#: Signals from outside without which a field is never known.
_NEEDED_SIGNALS: Mapping[str, frozenset[str]] = {
    "speed_mps": frozenset({"vehicle.speed_mps"}),
    "lateral_speed_mps": frozenset({"vehicle.speed_mps", "vehicle.yaw_rate_radps"}),
}
_MACHINE_SIGNALS = ("health.latency_ms", "health.tick_ms", "health.framesets_skipped")
_NO_MACHINE = "a replay says nothing of the machine that recorded:"
_SHADOW_SIGNALS = tuple(name for name in SIGNALS if name.startswith(("shadow.", "diff.")))
_SECOND_SIGNALS = tuple(name for name in SIGNALS if name.startswith(("shadow_b.", "diff_b.", "ab.")))
#: The tick's own signals; the namespaces of what a network or a rule set adds to them are open.
_OWN_SIGNALS = frozenset(name for name in SIGNALS if name.startswith("health.")) | {*_SHADOW_SIGNALS, *_SECOND_SIGNALS}


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of the signal sources."""

    signals: frozenset[str] | None = None  # that they can give; None: a source may send any
    is_replay: bool = False
    has_objects: bool | None = None  # the controller's list may be among them; None: as `signals` say


def capabilities_of(
    network: Network | None,
    published: Iterable[str],
    cameras: Sequence[str],
    rig: Rig | None,
    sources: SourceFacts,
    second_published: Iterable[str] | None = None,
) -> Capabilities:
    """For a network (None: no images are looked at) that publishes these scalars, on a rig with these cameras.

    `second_published` are those of a second network beside it; None: there is none.
    """
    outside = sources.signals
    return Capabilities(
        heads=frozenset(published),
        classes=None if network is None else frozenset(network.class_names),
        states=None if network is None else network.states,
        track_fields=OPTIONAL_TRACK_FIELDS if network is None else _track_fields(network, cameras, rig, outside),
        cameras=len(cameras),
        camera_names=frozenset(cameras),
        signals=None if outside is None else outside | _OWN_SIGNALS,
        objects=_has_objects(sources),
        embedding_model=None if network is None or network.embedding is None else network.embedding.model,
        has_images=network is not None,
        heads_b=frozenset(second_published or ()),
        absent=_absent(network is not None, sources.is_replay, second_published is not None),
        absent_camera_fields=_absent_camera_fields(network is not None, sources.is_replay),
    )


def _has_objects(sources: SourceFacts) -> bool:
    if sources.has_objects is not None:
        return sources.has_objects
    return sources.signals is None or OBJECTS_SIGNAL in sources.signals


def _track_fields(
    network: Network, cameras: Sequence[str], rig: Rig | None, outside: frozenset[str] | None
) -> frozenset[str]:
    fields = OPTIONAL_TRACK_FIELDS - TOLD_FIELDS | network.object_fields
    calibrated = set() if rig is None else set(cameras) & set(rig.names)
    if not calibrated:
        fields -= PLACE_FIELDS
    if len(calibrated) < 2:
        fields -= {"confirming_gap_deg"}
    if not network.states:
        fields -= {"state"}
    if outside is not None:
        fields -= {field for field, needed in _NEEDED_SIGNALS.items() if not needed <= outside}
    return frozenset(fields)


def _absent(has_network: bool, is_replay: bool, has_second: bool) -> dict[str, str]:
    """The tick's own signals that can never be known here, with the reason."""
    absent: dict[str, str] = {} if has_second else dict.fromkeys(_SECOND_SIGNALS, "no second network runs to give")
    if not has_network:
        absent |= dict.fromkeys((*_SHADOW_SIGNALS, "health.cameras_missing"), "no network runs to give")
    if is_replay:
        absent |= dict.fromkeys(_MACHINE_SIGNALS, _NO_MACHINE)
    return absent


def _absent_camera_fields(has_network: bool, is_replay: bool) -> dict[str, str]:
    """The same for fields of cameras: how late a frame came is known where one is taken, and never afterwards."""
    if is_replay:
        return {"latency_ms": _NO_MACHINE}
    return {} if has_network else {"latency_ms": "no network runs, so no frames are taken to give"}


def reads_images(rules: RuleSet) -> bool:
    """Whether a rule asks what a camera's image is like."""
    return any(
        isinstance(node, ItemField) and node.population is Population.CAMERAS and node.name in IMAGE_FIELDS
        for rule in rules.rules
        for expression in (rule.when, *rule.operands.values(), *((rule.score,) if rule.score is not None else ()))
        for node in walk(expression)
    )
