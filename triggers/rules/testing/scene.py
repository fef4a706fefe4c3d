"""What a test says of one instant, as the engine gets it in the car: signals, tracks, objects, cameras.

Values between two ticks are latched: `{2.01: true, 2.02: false}` is a pulse that `rising` sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.messages import (
    NANOSECONDS_PER_SECOND,
    CameraView,
    ControllerObject,
    SignalSample,
    SignalValue,
    Track,
)
from triggers.rules.testing.format import CameraSection, ObjectSection, TestSection, TrackSection


@dataclass(frozen=True, slots=True)
class Scene:
    """One tick's input. None: unknown (nothing looked, nothing is published)."""

    time_ns: int
    signals: SceneSignals
    tracks: Sequence[Track] | None
    objects: Sequence[ControllerObject] | None
    cameras: Sequence[CameraView] | None


class SceneSignals:
    """The signals of a test at one tick."""

    def __init__(self, values: Mapping[str, SignalValue | None], new: Mapping[str, Sequence[SignalSample]]) -> None:
        self._values = values
        self._new = new

    def value(self, name: str) -> SignalValue | None:
        """See SignalReader."""
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        """See SignalReader."""
        return self._new.get(name, ())

    def names(self) -> Sequence[str]:
        """See SignalReader."""
        return sorted(self._values)


def scene_at(test: TestSection, tick: int) -> Scene:
    """What the test says at its tick of that number."""
    now_s = tick / test.rate_hz
    return Scene(
        to_ns(now_s),
        _signals(test, (tick - 1) / test.rate_hz if tick else -1.0, now_s),
        None if test.tracks is None else _tracks(test.tracks, tick, now_s),
        None if test.objects is None else _objects(test.objects, now_s),
        None if test.cameras is None else [_view(name, view, now_s) for name, view in test.cameras.items()],
    )


def to_ns(seconds: float) -> int:
    """Seconds as the engine counts time."""
    return round(seconds * NANOSECONDS_PER_SECOND)


def _signals(test: TestSection, previous_s: float, now_s: float) -> SceneSignals:
    values = {name: series.at(now_s) for name, series in test.signals.items()}
    new = {
        name: [SignalSample(name, to_ns(at_s), value) for at_s, value in series.steps_between(previous_s, now_s)]
        for name, series in test.signals.items()
    }
    return SceneSignals(values, new)


def _tracks(sections: Sequence[TrackSection], tick: int, now_s: float) -> list[Track]:
    numbered = enumerate(sections, start=1)
    return [
        _track(number, section, tick, now_s) for number, section in numbered if section.from_s <= now_s <= section.to_s
    ]


def _track(number: int, section: TrackSection, tick: int, now_s: float) -> Track:
    hidden_since_s = next((start_s for start_s, end_s in section.hidden_s if start_s <= now_s < end_s), None)
    score, overlapping, confirming = (
        series.at(now_s) for series in (section.score, section.overlapping_cameras, section.confirming_cameras)
    )
    return Track(
        track_id=number,
        camera=section.camera,
        class_name=section.class_name.at(now_s) or "",
        score=0.0 if score is None else score,
        box_px=_box(section, tick, now_s),
        first_seen_ns=to_ns(section.from_s),
        last_seen_ns=to_ns(now_s if hidden_since_s is None else hidden_since_s),
        visible=hidden_since_s is None,
        state=section.state.at(now_s),
        distance_m=section.distance_m.at(now_s),
        lateral_m=section.lateral_m.at(now_s),
        speed_mps=section.speed_mps.at(now_s),
        bearing_deg=section.bearing_deg.at(now_s),
        lane=section.lane.at(now_s),
        predicted_speed_mps=section.predicted_speed_mps.at(now_s),
        predicted_distance_m=section.predicted_distance_m.at(now_s),
        closing_speed_mps=section.closing_speed_mps.at(now_s),
        lateral_speed_mps=section.lateral_speed_mps.at(now_s),
        overlapping_cameras=None if overlapping is None else round(overlapping),
        confirming_cameras=None if confirming is None else round(confirming),
        confirming_gap_deg=section.confirming_gap_deg.at(now_s),
    )


def _box(section: TrackSection, tick: int, now_s: float) -> tuple[float, float, float, float]:
    """Where the box is: drift moves it evenly to the right, shake left and right from tick to tick."""
    left, top, right, bottom = section.box_px.at(now_s) or (0.0, 0.0, 0.0, 0.0)
    shake_px = (section.shake_px.at(now_s) or 0.0) * (0.5 if tick % 2 else -0.5)
    shift_px = section.drift_px_per_s * (now_s - section.from_s) + shake_px
    return left + shift_px, top, right + shift_px, bottom


def _objects(sections: Sequence[ObjectSection], now_s: float) -> list[ControllerObject]:
    return [
        ControllerObject(
            object_id=number,
            class_name=section.class_name.at(now_s) or "",
            score=section.score.at(now_s),
            first_seen_ns=to_ns(section.from_s),
            distance_m=section.distance_m.at(now_s),
            lateral_m=section.lateral_m.at(now_s),
            speed_mps=section.speed_mps.at(now_s),
            closing_speed_mps=section.closing_speed_mps.at(now_s),
            bearing_deg=section.bearing_deg.at(now_s),
            lane=section.lane.at(now_s),
        )
        for number, section in enumerate(sections, start=1)
        if section.from_s <= now_s <= section.to_s
    ]


def _view(name: str, section: CameraSection, now_s: float) -> CameraView:
    return CameraView(
        camera=name,
        state=section.state.at(now_s) or "ok",
        is_missing=section.is_missing.at(now_s) is True,
        latency_ms=section.latency_ms.at(now_s),
        luma=section.luma.at(now_s),
        luma_std=section.luma_std.at(now_s),
        dark_share=section.dark_share.at(now_s),
        bright_share=section.bright_share.at(now_s),
        sharpness=section.sharpness.at(now_s),
        misalignment_deg=section.misalignment_deg.at(now_s),
    )
