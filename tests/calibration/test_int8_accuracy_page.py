from __future__ import annotations

import re
from pathlib import Path

from calibration.int8.limits import RULES

PAGE = Path(__file__).resolve().parents[2] / "calibration" / "ACCURACY.md"
ROW = re.compile(r"^\| `(\w+)` \| at (least|most) ([\d.]+) \|", re.MULTILINE)


def test_the_page_tells_every_limit_as_it_is() -> None:
    told = {name: (side == "least", float(limit)) for name, side, limit in ROW.findall(PAGE.read_text("utf-8"))}
    assert told == {name: (rule.is_likeness, rule.limit) for name, rule in RULES.items()}
