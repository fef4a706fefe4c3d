"""Sizes and durations mean what they say, and nothing else is guessed."""

from __future__ import annotations

import pytest

from runtime.config.quantities import parse_bytes, parse_duration_s
from runtime.formats.documents import Mistake


@pytest.mark.parametrize(
    ("written", "meant"),
    [(0, 0), (4096, 4096), ("500MB", 500_000_000), ("512 MiB", 512 * 2**20), ("1.5GB", 1_500_000_000), ("7", 7)],
)
def test_sizes(written, meant):
    assert parse_bytes(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [(0.5, 0.5), (3, 3.0), ("250ms", 0.25), ("90s", 90.0), ("15min", 900.0), ("2h", 7200.0), ("1d", 86400)],
)
def test_durations(written, meant):
    assert parse_duration_s(written) == pytest.approx(meant)


@pytest.mark.parametrize(
    "written", ["5zb", "MB", "-5MB", -1, True, None, [], "1.0001kB0", "0.5B", float("nan"), "5mb", "1e9"]
)
def test_what_is_not_a_size_is_refused_with_a_fix(written):
    with pytest.raises(Mistake) as caught:
        parse_bytes(written)
    assert caught.value.fix


@pytest.mark.parametrize("written", ["5m", "five", -0.1, False, {}, float("inf"), "1h30"])
def test_what_is_not_a_duration_is_refused_with_a_fix(written):
    with pytest.raises(Mistake) as caught:
        parse_duration_s(written)
    assert caught.value.fix
