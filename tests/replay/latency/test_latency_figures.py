"""The bench's figures come from every tick, and say what was not there."""

from __future__ import annotations

import numpy as np
import pytest

from replay.latency.figures import Spell, dropped, figures_of, percentiles
from replay.latency.picture import write_picture
from replay.latency.usage import slope_mb_per_h
from runtime.health.telemetry import TickResult

MS = 1_000_000


def tick(instant: int, latency_ms: float = 30.0, cameras: int = 2) -> TickResult:
    captured_ns = instant * 28 * MS
    result_ns = captured_ns + round(latency_ms * MS)
    frames = {f"camera{number}": captured_ns for number in range(cameras)}
    return TickResult(
        instant, captured_ns, captured_ns + 10 * MS, result_ns, 13 * MS, {"infer": 14.0, "rules": 0.5}, frames, []
    )


def test_instants_without_a_tick_are_dropped_framesets() -> None:
    assert dropped([tick(3), tick(4), tick(7)]) == 2
    assert dropped([]) == 0


def test_frames_that_a_tick_went_without_are_missing() -> None:
    figures = figures_of(Spell([tick(0), tick(1, cameras=1), tick(2, cameras=0)], 2, 0.1))
    assert figures["frames_missing"] == 3
    assert figures["frames_missing_share"] == 0.5
    assert figures["framesets"] == 2


def test_the_tail_is_not_averaged_away() -> None:
    ticks = [tick(number, 40.0 if number == 500 else 30.0) for number in range(1000)]
    latency = figures_of(Spell(ticks, 2, 28.0))["latency_ms"]
    assert (latency["p50"], latency["p99"], latency["p99_9"], latency["max"]) == (30.0, 30.0, 30.0, 40.0)
    assert percentiles(np.arange(1.0, 2001.0))["p99_9"] == 1998.0
    assert figures_of(Spell(ticks[:999], 2, 28.0))["latency_ms"]["p99_9"] == 40.0  # one in 999 is more than 0.1 %


def test_stages_and_the_ratio_to_the_bare_model() -> None:
    spell = Spell([tick(0), tick(1)], 2, 0.1, cores={"runtime": 1.2, "recorder": 0.1}, bare_model_ms={"p50": 16.0})
    figures = figures_of(spell)
    assert figures["stages_ms"]["wait"]["p50"] == 10.0
    assert figures["stages_ms"]["decode"]["p50"] == 1.0
    assert figures["tick_over_bare_model"] == 1.25  # from the tick's begin to its result are 20 ms
    assert figures["cpu_cores"] == 1.2


def test_a_spell_without_frames_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(ValueError, match="cameras did not reach"):
        figures_of(Spell([tick(0, cameras=0)], 2, 0.1))


def test_memory_that_grows_by_a_megabyte_a_minute_is_sixty_an_hour() -> None:
    seconds = [float(second) for second in range(120)]
    assert slope_mb_per_h(seconds, [round(5e8 + second * 1e6 / 60) for second in seconds]) == pytest.approx(60.0, 0.01)
    assert slope_mb_per_h([0.0], [1]) == 0.0


def test_the_picture_shows_a_single_tick_in_the_tail(tmp_path) -> None:
    import cv2

    steady = np.full(1000, 30.0)
    tail = np.append(steady, 45.0)
    for name, values in (("steady", steady), ("tail", tail)):
        write_picture(tmp_path / f"{name}.png", {"alone": values, "loaded": tail})
    pictures = [cv2.imread(str(tmp_path / f"{name}.png")) for name in ("steady", "tail")]
    assert pictures[0].shape == pictures[1].shape
    foot = pictures[1][250:298, 1100:1260].astype(int) - pictures[0][250:298, 1100:1260]
    assert np.abs(foot).max() > 50  # the one tick at 45 ms is a bar of its own
