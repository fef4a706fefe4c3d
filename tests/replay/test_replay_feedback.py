"""Rules in a replay learn from its own recorder what became of their firings, as they do in the car."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.session import ReplayRequest, _Session

RULES = """rules:
  - name: moving
    description: The car moves.
    when: vehicle.speed_mps > 0
    rearm: level
    cooldown_s: 1
    capture: {pre_s: 0.5, post_s: 0.2}
    budget: {bytes_per_day: BUDGET}
"""


@pytest.mark.parametrize(("budget", "is_short"), [("1GB", False), ("20kB", True)])
def test_a_replays_clips_count_against_the_budget(
    tiny_drive: Path, tmp_path: Path, budget: str, is_short: bool
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES.replace("BUDGET", budget))
    session = _Session(ReplayRequest(tiny_drive, None, (str(rules),), out_dir=tmp_path / "clips"))
    try:
        result = session.run(show_progress=False)
        engine = session._player.parts.engine
    finally:
        session.close()
    assert engine.firings_in_flight == 0
    assert engine.unknown_answers == 0
    assert engine.bytes_per_s > 0
    assert engine.ledger["moving"]["kept"] == len(result.firings) > 0
    assert ("budget" in engine.ledger["moving"]) is is_short
