"""The format of rule files. Unknown keys are problems, and so is every value that is not what a key needs.

rules:
  - name: hard_braking            # unique, small letters, digits, _
    description: …                # one sentence
    why: …                        # why the seconds are worth sending home
    when: vehicle.accel_mps2 < -4 # a condition of the rule language
    operands: {speed: vehicle.speed_mps}  # values to keep with the firing, beside the signals of the condition
    hold_s: 0.2                   # must stay true this long
    cooldown_s: 30                # then rests this long
    rearm: edge                   # edge: one firing while the condition stays true; level: again once it has cooled
    capture: {pre_s: 10, post_s: 5, cameras: [], topics: []}
    priority: normal              # safety > high > normal > low > background
    budget: {firings_per_hour: 20, bytes_per_day: 500MB}
    sample: 1.0                   # keep a firing with this probability; written into the clip
let: {name: expression}           # optional: names for all expressions of the file; may use those above
category: interventions           # optional: else the file's name
tests: …                          # see `testing`
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from runtime.formats.documents import Mistake
from runtime.messages import Priority

MAX_RULES = 10_000
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(B|kB|MB|GB)")
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


class Section(BaseModel):
    """What all parts of a rule file share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CaptureSection(Section):
    """What a firing keeps."""

    pre_s: float = Field(default=10.0, ge=0, le=300)
    post_s: float = Field(default=5.0, ge=0, le=300)
    cameras: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


class BudgetSection(Section):
    """How much a rule may send."""

    firings_per_hour: int | None = Field(default=None, ge=1, le=100_000)
    bytes_per_day: int | None = Field(default=None, ge=1, le=10**15)

    @field_validator("bytes_per_day", mode="before")
    @classmethod
    def _read_size(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value


class RuleSection(Section):
    """One rule as it is written."""

    name: str = Field(pattern=NAME_PATTERN)
    description: str = Field(min_length=1, max_length=1000)
    why: str = Field(default="", max_length=2000)
    when: str
    operands: dict[str, str] = Field(default_factory=dict, max_length=32)
    hold_s: float = Field(default=0.0, ge=0, le=600)
    cooldown_s: float = Field(default=30.0, ge=0, le=86_400)
    rearm: Literal["edge", "level"] = "edge"
    capture: CaptureSection = CaptureSection()
    priority: Priority = Priority.NORMAL
    budget: BudgetSection = BudgetSection()
    sample: float = Field(default=1.0, gt=0, le=1)


class RuleFile(Section):
    """A whole rule file."""

    category: str = ""
    let: dict[str, str] = Field(default_factory=dict, max_length=256)
    rules: tuple[RuleSection, ...] = Field(min_length=1, max_length=MAX_RULES)
    tests: tuple[dict[str, Any], ...] = ()


def parse_size(text: str) -> int:
    """`500MB` -> bytes (powers of ten)."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise Mistake("is not a size", "write a number and B, kB, MB or GB, such as 500MB")
    return round(float(found[1]) * _BYTES[found[2]])
