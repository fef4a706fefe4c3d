from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import random_feeds, residual_network

from calibration.int8.graph import prepare
from calibration.int8.ranges import Range, RangesError, RangesFile, collect_ranges

TENSORS = ("pixels", "a_relu", "sum")


def test_minmax_is_what_was_observed_with_zero_inside() -> None:
    ranges = collect_ranges(prepare(residual_network()), TENSORS, random_feeds(3), "minmax", 99.99)
    for span in ranges.values():
        assert span.high == max(0.0, span.observed_high)
        assert span.low == min(0.0, span.observed_low)
    assert ranges["pixels"].observed_high == pytest.approx(1.0)
    assert ranges["pixels"].observed_low == 0.0


def test_percentile_cuts_the_share_of_values_that_it_says() -> None:
    feeds = [{"images": np.zeros((2, 3, 32, 32), np.uint8)}]
    feeds[0]["images"].reshape(-1)[:30] = 255  # 30 of 6144 pixels, half a per cent
    model = prepare(residual_network())
    assert collect_ranges(model, ["pixels"], feeds, "percentile", 99.0)["pixels"].high < 0.01
    assert collect_ranges(model, ["pixels"], feeds, "percentile", 99.9)["pixels"].high == pytest.approx(1.0)


def test_ranges_are_the_same_every_time() -> None:
    model = prepare(residual_network())
    first, second = (collect_ranges(model, TENSORS, random_feeds(2), "percentile", 99.9) for _ in range(2))
    assert first == second


def test_progress_counts_every_run() -> None:
    seen: list[tuple[int, int]] = []
    feeds = random_feeds(3)
    collect_ranges(prepare(residual_network()), TENSORS, feeds, "percentile", 99.9, lambda d, t: seen.append((d, t)))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(("method", "percentile", "word"), [("median", 99.0, "median"), ("percentile", 12.0, "12")])
def test_wrong_settings_are_refused_with_their_value(method: str, percentile: float, word: str) -> None:
    with pytest.raises(RangesError, match=word):
        collect_ranges(prepare(residual_network()), TENSORS, random_feeds(1), method, percentile)


def test_no_samples_are_refused() -> None:
    with pytest.raises(RangesError, match="no samples"):
        collect_ranges(prepare(residual_network()), TENSORS, [], "minmax", 99.0)


def test_a_file_reads_back_as_written(tmp_path: Path) -> None:
    file = RangesFile("a" * 64, "percentile", 99.99, 3, "b" * 64, 5, {"x": Range(0.0, 1.5, -0.25, 2.0)})
    file.save(tmp_path / "ranges.json")
    assert RangesFile.load(tmp_path / "ranges.json") == file


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', '{"format": 1, "tensors": {}}'])
def test_something_else_is_not_read_as_ranges(tmp_path: Path, text: str) -> None:
    (tmp_path / "ranges.json").write_text(text)
    with pytest.raises(RangesError, match=r"ranges\.json"):
        RangesFile.load(tmp_path / "ranges.json")
