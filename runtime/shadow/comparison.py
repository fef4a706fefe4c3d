"""Shadow against controller, signal by signal, on one tick.

`diff.*` is always shadow minus controller. While the controller is engaged it is judged by its commands; otherwise
the human drives, and the car's own motion stands for what was done. A side that is unknown leaves its difference
out: a missing value is never read as agreement.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.messages import Action, Comparison, Prediction, SignalReader, Track
from runtime.shadow.policy import ShadowPolicy

#: Under this speed the curvature of the path is not defined well enough to be compared.
MIN_SPEED_FOR_CURVATURE_MPS = 1.0


class Comparator:
    """Compares the shadow action with what the active controller, or the human, does."""

    def __init__(self, policy: ShadowPolicy | None = None) -> None:
        self._policy = policy or ShadowPolicy()

    def compare(
        self, tracks: Sequence[Track], prediction: Prediction | None, signals: SignalReader, time_ns: int
    ) -> Comparison:
        """The comparison at `time_ns`; `values` holds `shadow.*` and `diff.*` as far as they are known."""
        shadow = self._policy.decide(prediction, tracks, signals)
        controller = active_action(signals)
        values: dict[str, float] = {}
        _put(values, "shadow.accel_mps2", shadow.action.accel_mps2)
        _put(values, "shadow.curvature_1pm", shadow.action.curvature_1pm)
        _put(values, "shadow.lead_distance_m", shadow.lead_distance_m)
        _put_difference(values, "diff.accel_mps2", shadow.action.accel_mps2, controller.accel_mps2)
        _put_difference(values, "diff.curvature_1pm", shadow.action.curvature_1pm, controller.curvature_1pm)
        _put_difference(values, "diff.lead_distance_m", shadow.lead_distance_m, _controller_lead_m(signals))
        if "diff.curvature_1pm" in values and (speed_mps := number(signals, "vehicle.speed_mps")) is not None:
            values["diff.lateral_accel_mps2"] = values["diff.curvature_1pm"] * speed_mps * speed_mps
        return Comparison(time_ns, shadow.action, controller, values)


def number(signals: SignalReader, name: str) -> float | None:
    """A signal's value as a float; None while unknown or when it is text."""
    value = signals.value(name)
    return None if value is None or isinstance(value, str) else float(value)


def active_action(signals: SignalReader) -> Action:
    """What is being done now: the controller's command while it is engaged, else the car's motion."""
    enabled = signals.value("controller.enabled")
    if enabled is None:
        return Action()
    if enabled:
        return Action(
            number(signals, "controller.accel_command_mps2"), number(signals, "controller.curvature_command_1pm")
        )
    return Action(number(signals, "vehicle.accel_mps2"), driven_curvature_1pm(signals))


def driven_curvature_1pm(signals: SignalReader) -> float | None:
    """Curvature of the path from yaw rate and speed, where the car reports a yaw rate (left positive)."""
    yaw_rate_radps, speed_mps = number(signals, "vehicle.yaw_rate_radps"), number(signals, "vehicle.speed_mps")
    if yaw_rate_radps is None or speed_mps is None or speed_mps < MIN_SPEED_FOR_CURVATURE_MPS:
        return None
    return yaw_rate_radps / speed_mps


def _controller_lead_m(signals: SignalReader) -> float | None:
    return number(signals, "lead.distance_m") if signals.value("lead.present") else None


def _put(values: dict[str, float], name: str, value: float | None) -> None:
    if value is not None and value == value:  # NaN is a head's way of saying unknown
        values[name] = value


def _put_difference(values: dict[str, float], name: str, shadow: float | None, controller: float | None) -> None:
    if shadow is not None and controller is not None:
        _put(values, name, shadow - controller)
