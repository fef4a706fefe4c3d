"""Signals of a drive as a small chart on the time axis: speed as a line, over stretches with the controller on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replay.backtest.evaluation import DriveOutcome
from replay.backtest.markup import Html, element
from runtime.messages import SignalValue

SPEED, ENABLED = "vehicle.speed_mps", "controller.enabled"
#: Height and width of the drawings' own space; the page stretches them.
HEIGHT, WIDTH = 100.0, 1000.0

Points = Sequence[tuple[float, SignalValue | None]]


def curve_lanes(outcome: DriveOutcome, length_s: float) -> Iterator[tuple[str, Html]]:
    """Label and drawing of each chart that there is anything to draw in."""
    speed = [(at_s, _number(value)) for at_s, value in outcome.curves.get(SPEED, ())]
    known = [value for _, value in speed if value is not None]
    engaged = list(_stretches(outcome.curves.get(ENABLED, ()), length_s))
    if not known and not engaged:
        return
    top = max([*known, 1.0]) * 1.08
    parts = [_band(start_s, end_s, length_s) for start_s, end_s in engaged]
    if known:
        path = " ".join(_path(speed, length_s, top))
        parts.append(element("path", d=path, fill="none", stroke="var(--speed)", stroke_width="1.6",
                             vector_effect="non-scaling-stroke", stroke_linejoin="round"))  # fmt: skip
    drawing = element("svg", *parts, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", preserveAspectRatio="none")
    words = [f"speed, up to {max(known):.0f} m/s"] if known else []
    words += ["green: controller on"] if engaged else []
    yield "; ".join(words), drawing


def _number(value: SignalValue | None) -> float | None:
    return None if value is None or isinstance(value, str) else float(value)


def _path(points: Sequence[tuple[float, float | None]], length_s: float, top: float) -> Iterator[str]:
    """A pen that is lifted where the value is unknown."""
    is_down = False
    for at_s, value in points:
        if value is None:
            is_down = False
            continue
        x, y = at_s / length_s * WIDTH, HEIGHT - max(value, 0.0) / top * HEIGHT
        yield f"{'L' if is_down else 'M'}{x:.1f} {y:.1f}"
        is_down = True


def _stretches(points: Points, length_s: float) -> Iterator[tuple[float, float]]:
    start_s: float | None = None
    for at_s, value in points:
        if value and start_s is None:
            start_s = at_s
        elif not value and start_s is not None:
            yield start_s, at_s
            start_s = None
    if start_s is not None:
        yield start_s, length_s


def _band(start_s: float, end_s: float, length_s: float) -> Html:
    x, width = start_s / length_s * WIDTH, (end_s - start_s) / length_s * WIDTH
    return element("rect", x=f"{x:.1f}", y="0", width=f"{width:.1f}", height=f"{HEIGHT:g}", fill="var(--engaged)")
