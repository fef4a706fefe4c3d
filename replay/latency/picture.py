"""The latency histogram as a picture: one panel for each spell, on one scale.

Across: capture→result in milliseconds, linear. Up: how many ticks, logarithmic, because what matters is the tail: a bar
one dot high is a single tick. Lines mark p50, p99 and p99.9; the limit (p50 times 1.05 or 1.10) is drawn dashed. A flat
foot to the right of it is the tail that the figures speak of; two humps mean two different courses of events.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from replay.latency.figures import percentiles
from replay.latency.report import RATIO_LIMITS
from runtime.recording.drawing import ACCENT, MUTED, TEXT, Color, Image, canvas, write_png

WIDTH, PANEL_HEIGHT = 1280, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 46, 40
_BAR: Color = (96, 165, 250)
_LIMIT: Color = (248, 113, 113)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BINS = 240
_TICK_STEPS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


def write_picture(path: Path, spells_ms: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw the spells (`alone`, `loaded`) below one another. OSError when the file cannot be written."""
    low_ms = min(float(values.min()) for values in spells_ms.values())
    high_ms = max(float(values.max()) for values in spells_ms.values())
    margin_ms = max(0.5, 0.05 * (high_ms - low_ms))
    span = (max(0.0, low_ms - margin_ms), high_ms + margin_ms)
    panels = [_panel(name, values, span) for name, values in spells_ms.items()]
    write_png(path, np.vstack(panels))


def _panel(name: str, values: NDArray[np.float64], span: tuple[float, float]) -> Image:
    image = canvas(WIDTH, PANEL_HEIGHT)
    counts, _ = np.histogram(values, bins=_BINS, range=span)
    tallest = max(10, int(counts.max()))
    _grid(image, span, tallest)
    for index in np.flatnonzero(counts):
        left, right = (_x(span[0] + (span[1] - span[0]) * step / _BINS, span) for step in (index, index + 1))
        top = _y(int(counts[index]), tallest)
        cv2.rectangle(image, (left, top), (max(left, right - 2), PANEL_HEIGHT - _BOTTOM - 1), _BAR, cv2.FILLED)
    found = percentiles(values)
    limit_ms = found["p50"] * RATIO_LIMITS[name]
    _dashed(image, _x(limit_ms, span))
    for step, key in enumerate(("p50", "p99", "p99_9")):
        x = _x(found[key], span)
        cv2.line(image, (x, _TOP), (x, PANEL_HEIGHT - _BOTTOM), ACCENT, 1, cv2.LINE_AA)
        name_at = (min(x + 4, WIDTH - 50), _TOP + 12 + 14 * step)  # below one another: the lines may be close
        cv2.putText(image, key.replace("_", "."), name_at, _FONT, 0.4, ACCENT, 1, cv2.LINE_AA)
    limit = f"p99.9/p50 {found['p99_9'] / found['p50']:.3f} (limit {RATIO_LIMITS[name]:.2f}, red)"
    title = (
        f"{name}: capture to result of {len(values)} ticks   p50 {found['p50']:.2f}  p99 {found['p99']:.2f}  "
        f"p99.9 {found['p99_9']:.2f}  max {found['max']:.2f} ms   {limit}"
    )
    cv2.putText(image, title, (_LEFT, 28), _FONT, 0.5, TEXT, 1, cv2.LINE_AA)
    return image


def _grid(image: Image, span: tuple[float, float], tallest: int) -> None:
    step_ms = next((step for step in _TICK_STEPS_MS if (span[1] - span[0]) / step <= 14), _TICK_STEPS_MS[-1])
    for mark_ms in np.arange(np.ceil(span[0] / step_ms) * step_ms, span[1], step_ms):
        x = _x(float(mark_ms), span)
        cv2.line(image, (x, PANEL_HEIGHT - _BOTTOM), (x, PANEL_HEIGHT - _BOTTOM + 5), MUTED, 1)
        cv2.putText(image, f"{mark_ms:g} ms", (x - 18, PANEL_HEIGHT - 16), _FONT, 0.4, MUTED, 1, cv2.LINE_AA)
    count = 1
    while count <= tallest:
        y = _y(count, tallest)
        cv2.line(image, (_LEFT, y), (WIDTH - _RIGHT, y), (40, 44, 52), 1)
        cv2.putText(image, str(count), (12, y + 4), _FONT, 0.4, MUTED, 1, cv2.LINE_AA)
        count *= 10


def _dashed(image: Image, x: int) -> None:
    for y in range(_TOP, PANEL_HEIGHT - _BOTTOM, 10):
        cv2.line(image, (x, y), (x, y + 5), _LIMIT, 1, cv2.LINE_AA)


def _x(value_ms: float, span: tuple[float, float]) -> int:
    return _LEFT + round((value_ms - span[0]) / (span[1] - span[0]) * (WIDTH - _LEFT - _RIGHT))


def _y(count: int, tallest: int) -> int:
    """A single tick stands out from none: the axis begins at half a tick."""
    share = np.log(count / 0.5) / np.log(tallest / 0.5)
    return PANEL_HEIGHT - _BOTTOM - round(float(share) * (PANEL_HEIGHT - _TOP - _BOTTOM))
