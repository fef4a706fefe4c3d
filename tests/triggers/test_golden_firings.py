"""However evaluation is arranged, the shipped rules say of the same scenes what they always said."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
from golden_firings import GOLDEN, library, play


@pytest.mark.parametrize("looks_ahead", [False, True])
def test_the_library_fires_as_it_was_recorded(looks_ahead: bool) -> None:
    recorded: list[dict[str, Any]] = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    played = play(library(), looks_ahead)
    assert len(played) == len(recorded)
    for tick, (now, then) in enumerate(zip(played, recorded, strict=True)):
        assert now["conditions"] == then["conditions"], f"tick {tick}"
        assert now["firings"].keys() == then["firings"].keys(), f"tick {tick}"
        for rule, (operands, score) in now["firings"].items():
            others, other_score = then["firings"][rule]
            assert operands.keys() == others.keys()
            for name, value in {**operands, "score": score}.items():
                assert is_same(value, {**others, "score": other_score}[name]), (tick, rule, name)


def test_the_recording_says_something() -> None:
    recorded = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    assert len({rule for tick in recorded for rule in tick["firings"]}) > 30
    assert sum(tick["conditions"].count("T") for tick in recorded) > 1000
    assert sum(tick["conditions"].count("-") for tick in recorded) > 1000


def is_same(one: object, other: object) -> bool:
    """Numbers to the last digits: another processor's square root or sine may differ there."""
    if isinstance(one, float) and isinstance(other, (int, float)) and not isinstance(other, bool):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return one == other
