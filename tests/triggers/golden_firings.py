"""What the shipped rules say of made-up scenes: recorded once, before evaluation was made fast, and held ever since.

    python tests/triggers/golden_firings.py     # records anew: only after rules changed, never to make a test pass

The scenes are those of `replay.rule_bench` with every field of tracks and cameras known, some of them unknown again at
random, and all signals at random. Rules neither hold nor cool for long, so that as many as can go off. Of each tick it
keeps what went off with its operands, and the values of all conditions as one text: `T`, `F` or `-` for unknown.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay.rule_bench import IMAGE_SIZES, _with_all_fields, scenes
from runtime.messages import CameraView, SignalSample, SignalValue, Track
from triggers import RuleEngine, library_path, load_rules
from triggers.language.expressions import SignalRead, walk
from triggers.language.types import Type
from triggers.rules.rule import RuleSet

GOLDEN = Path(__file__).with_name("golden_firings.json.gz")
TICKS, TRACKS, SEED = 180, 25, 5
OPTIONAL = ("distance_m", "lateral_m", "speed_mps", "lane", "state", "closing_speed_mps", "predicted_distance_m")


class Scene:
    """All signals of one tick: a `SignalReader`."""

    def __init__(self, values: dict[str, SignalValue], samples: dict[str, list[SignalSample]]) -> None:
        self._values, self._samples = values, samples

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return self._samples.get(name, ())

    def names(self) -> Sequence[str]:
        return list(self._values)


def library() -> RuleSet:
    """The shipped rules, without the patience that they have on the road."""
    rules = load_rules([library_path()])
    return replace(rules, rules=tuple(replace(rule, hold_s=0.0, cooldown_s=0.5) for rule in rules.rules))


def play(rules: RuleSet, looks_ahead: bool) -> list[dict[str, Any]]:
    """Every tick: its conditions and its firings."""
    engine, told = RuleEngine(rules, seed=SEED, image_sizes=IMAGE_SIZES), []
    for tracks, signals, views, time_ns in drive(rules):
        if looks_ahead:
            engine.look_ahead(signals, time_ns, None, views)
        firings = engine.evaluate(tracks, signals, time_ns, time_ns, None, views)
        values = [engine._now.program.value(running.slot) for running in engine._running]
        told.append(
            {
                "conditions": "".join({True: "T", False: "F", None: "-"}[value] for value in values),  # type: ignore[index]
                "firings": {firing.rule: [dict(firing.operands), firing.score] for firing in firings},
            }
        )
    return told


def drive(rules: RuleSet) -> Iterator[tuple[list[Track], Scene, list[CameraView], int]]:
    """Made-up scenes, the same every time."""
    chance = random.Random(SEED)
    types = {node.name: node.type for rule in rules.rules for node in walk(rule.when) if isinstance(node, SignalRead)}
    state: dict[str, SignalValue] = {}
    for tracks, _, views, time_ns in map(_with_all_fields, scenes(TICKS, TRACKS)):
        samples: dict[str, list[SignalSample]] = {}
        for name, kind in sorted(types.items()):
            if name not in state or chance.random() < (0.5 if kind is Type.NUMBER else 0.03):
                state[name] = _any(kind, chance)
                samples[name] = [
                    SignalSample(name, time_ns + at, _any(kind, chance)) for at in (-9_000_000, -8_000_000)
                ]
                samples[name].append(SignalSample(name, time_ns, state[name]))
        known = {name: value for name, value in state.items() if chance.random() > 0.02}
        yield [_changed(track, chance) for track in tracks], Scene(known, samples), _views(views, chance), time_ns


def _any(kind: Type, chance: random.Random) -> SignalValue:
    if kind is Type.BOOLEAN:
        return chance.random() < 0.5
    if kind is Type.TEXT:
        return chance.choice(["a", "b", "a,b", "drive", "reverse", "car"])
    return round(chance.choice([chance.uniform(0, 1), chance.uniform(-5, 5), chance.uniform(0, 40)]), 3)


def _changed(track: Track, chance: random.Random) -> Track:
    changes: dict[str, Any] = {name: None for name in OPTIONAL if chance.random() < 0.04}
    if chance.random() < 0.1:
        changes["class_name"] = chance.choice(["car", "bus", "pedestrian", "cyclist", "traffic_light", "never named"])
    if chance.random() < 0.1:
        changes["state"] = chance.choice(["red", "green", "parked"])
    if chance.random() < 0.1:
        changes["score"] = round(chance.random(), 3)
    return replace(track, **changes)


def _views(views: list[CameraView], chance: random.Random) -> list[CameraView]:
    return [
        replace(
            view,
            state=chance.choice(["ok", "ok", "ok", "frozen", "dropping"]),
            is_missing=chance.random() < 0.05,
            luma=None if chance.random() < 0.05 else round(chance.uniform(0, 255), 2),
            dark_share=round(chance.random(), 4),
            bright_share=round(chance.random(), 4),
            sharpness=None if chance.random() < 0.05 else round(chance.uniform(0, 500), 1),
        )
        for view in views
    ]


if __name__ == "__main__":
    GOLDEN.write_bytes(gzip.compress(json.dumps(play(library(), False)).encode(), mtime=0))
