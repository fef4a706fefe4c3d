"""What is computed before the network has spoken changes nothing: not a value, not a state, not a firing."""

from __future__ import annotations

from dataclasses import replace

from replay.rule_bench import IMAGE_SIZES, _with_all_fields, scenes
from runtime.messages import Firing, SignalReader, SignalSample, SignalValue
from triggers import RuleEngine, library_path, load_rules
from triggers.evaluation.ahead import NETWORK_NAMESPACES

TICKS = 240


class _WithoutNetwork:
    """The signals of a tick before the network has spoken; asking for one of the network's is a mistake."""

    def __init__(self, signals: SignalReader) -> None:
        self._signals = signals

    def value(self, name: str) -> SignalValue | None:
        assert name.partition(".")[0] not in NETWORK_NAMESPACES, name
        return self._signals.value(name)

    def samples(self, name: str) -> tuple[SignalSample, ...]:
        assert name.partition(".")[0] not in NETWORK_NAMESPACES, name
        return tuple(self._signals.samples(name))

    def names(self) -> tuple[str, ...]:
        return tuple(self._signals.names())


def _played(ahead: bool) -> tuple[list[Firing], list[object]]:
    engine = RuleEngine(load_rules([library_path()]), seed=3, image_sizes=IMAGE_SIZES)
    firings: list[Firing] = []
    states: list[object] = []
    for number, scene in enumerate(scenes(TICKS, 12)):
        tracks, signals, cameras, time_ns = _with_all_fields(scene)
        cameras = [replace(view, luma=view.luma + 60 * (number % 50 > 25)) for view in cameras]
        if ahead:
            early = [replace(view, misalignment_deg=None) for view in cameras]
            engine.look_ahead(_WithoutNetwork(signals), time_ns, None, early)
        firings += engine.evaluate(tracks, signals, time_ns, time_ns, None, cameras)
        states.append(engine.status())
    return firings, states


def test_looking_ahead_changes_no_state_and_no_firing() -> None:
    firings, states = _played(ahead=False)
    firings_ahead, states_ahead = _played(ahead=True)
    assert len({firing.rule for firing in firings}) >= 4
    assert firings_ahead == firings
    assert states_ahead == states
