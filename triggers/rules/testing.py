"""Runs the truth tables that rule files ship: time series in, expected firing times out.

tests:
  - name: fires when the brake ends it
    rule: driver_takeover
    rate_hz: 20                            # ticks a second; default 20
    duration_s: 4
    signals:                               # a value holds from its time until the next one; null: unknown
      controller.enabled: {0: true, 2: false}
      vehicle.brake_pressed: {0: false, 1.9: true}
    tracks:                                # optional; a track is there from `from_s` to `to_s`
      - {class_name: car, camera: front, box_px: [0, 0, 40, 40], from_s: 0, to_s: 4}
    fires_at_s: [2.0]                      # expected firings, each within one tick
    fires: {at_least: 1, at_most: 3}       # or, where chance decides, how many
    operands: {cause: brake}               # optional: what the first firing must say

A test asks what the condition finds, so sampling and budgets are off. Values between two ticks are latched as in the
car: `{2.01: true, 2.02: false}` is a pulse that `rising` sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.formats.documents import Document, DocumentError, Mistake, Problem, load_document, validate
from runtime.messages import NANOSECONDS_PER_SECOND, Firing, SignalSample, SignalValue, Track
from triggers.engine import RuleEngine
from triggers.rules.loading import load_rules, rule_files
from triggers.rules.rule import Budget, RuleSet


class TrackSection(BaseModel):
    """A track of a test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_name: str
    camera: str = "front"
    box_px: tuple[float, float, float, float] = (100.0, 100.0, 140.0, 140.0)
    score: float = 0.9
    from_s: float = 0.0
    to_s: float = 1e9
    hidden_s: tuple[tuple[float, float], ...] = ()
    drift_px_per_s: float = 0.0
    state: str | None = None
    lane: str | None = None
    distance_m: float | None = None
    speed_mps: float | None = None
    predicted_speed_mps: float | None = None


class CountSection(BaseModel):
    """How many firings are expected, both ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_least: int = Field(default=0, ge=0)
    at_most: int = Field(ge=0)


class TestSection(BaseModel):
    """One test as it is written."""

    __test__ = False  # not a test class of pytest's
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    rule: str
    rate_hz: float = Field(default=20.0, gt=0, le=1000)
    duration_s: float = Field(gt=0, le=3600)
    signals: dict[str, dict[float, bool | float | str | None]] = Field(default_factory=dict)
    tracks: tuple[TrackSection, ...] = ()
    fires_at_s: tuple[float, ...] | None = None
    fires: CountSection | None = None
    operands: dict[str, bool | float | str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _expects_one_thing(self) -> TestSection:
        if (self.fires_at_s is None) == (self.fires is None):
            raise Mistake("must say either 'fires_at_s' or 'fires'", "add 'fires_at_s: []' if it must not fire")
        return self


@dataclass(frozen=True, slots=True)
class RuleTestResult:
    """What became of one test."""

    file: Path
    line: int
    name: str
    rule: str
    fired_s: tuple[float, ...]
    difference: str  # empty when the test passed

    @property
    def passed(self) -> bool:
        """True when firings and operands are as expected."""
        return not self.difference

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        place = f"\n      {self.file}:{self.line}: {self.difference}" if self.difference else ""
        return f"{verdict}  {self.rule}: {self.name}{place}"


@dataclass(frozen=True, slots=True)
class RuleTestReport:
    """All results."""

    results: tuple[RuleTestResult, ...]

    @property
    def passed(self) -> bool:
        """True when every test passed."""
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        failed = sum(not result.passed for result in self.results)
        return f"{len(self.results) - failed} passed, {failed} failed"


class _Signals:
    """The signals of a test at one tick."""

    def __init__(self, values: Mapping[str, SignalValue | None], new: Mapping[str, list[SignalSample]]) -> None:
        self._values = values
        self._new = new

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return self._new.get(name, ())

    def names(self) -> Sequence[str]:
        return sorted(self._values)


def run_rule_tests(places: Sequence[Path | str]) -> RuleTestReport:
    """Run the tests of every rule file in `places`. Raises DocumentError with every problem of every file."""
    files = rule_files(places)
    load_rules(files)  # all files together first, so that all their problems are told at once
    results: list[RuleTestResult] = []
    problems: list[Problem] = []
    for path in files:
        document, rules = load_document(path), load_rules([path])
        try:
            tests = _tests(document, rules)
        except DocumentError as error:
            problems += error.problems
            continue
        results += [_run(document, index, rules, test) for index, test in enumerate(tests)]
    if problems:
        raise DocumentError(problems)
    return RuleTestReport(tuple(results))


def _tests(document: Document, rules: RuleSet) -> list[TestSection]:
    written: list[dict[str, Any]] = document.data.get("tests") or []
    tests: list[TestSection] = []
    problems: list[Problem] = []
    names = {rule.name for rule in rules.rules}
    for index in range(len(written)):
        try:
            test = validate(document, TestSection, at=("tests", index))
        except DocumentError as error:
            problems += error.problems
            continue
        if test.rule not in names:
            message = f"no rule of this file is called {test.rule!r}"
            problems.append(document.problem(("tests", index, "rule"), message, "name a rule of this file"))
        tests.append(test)
    if problems:
        raise DocumentError(problems)
    return tests


def _run(document: Document, index: int, rules: RuleSet, test: TestSection) -> RuleTestResult:
    rule = next(rule for rule in rules.rules if rule.name == test.rule)
    engine = RuleEngine(RuleSet((replace(rule, sample=1.0, budget=Budget()),)), seed=0)
    firings: list[Firing] = []
    previous_s = -1.0
    for tick in range(round(test.duration_s * test.rate_hz) + 1):
        now_s = tick / test.rate_hz
        firings += engine.evaluate(_tracks(test, now_s), _signals(test, previous_s, now_s), _ns(now_s), _ns(now_s))
        previous_s = now_s
    fired_s = tuple(firing.time_ns / NANOSECONDS_PER_SECOND for firing in firings)
    line, _ = document.locate(("tests", index))
    return RuleTestResult(document.path, line, test.name, test.rule, fired_s, _difference(test, firings, fired_s))


def _signals(test: TestSection, previous_s: float, now_s: float) -> _Signals:
    values: dict[str, SignalValue | None] = {}
    new: dict[str, list[SignalSample]] = {}
    for name, series in test.signals.items():
        for at_s in sorted(at_s for at_s in series if at_s <= now_s):
            value = values[name] = series[at_s]
            if at_s > previous_s and value is not None:
                new.setdefault(name, []).append(SignalSample(name, _ns(at_s), value))
    return _Signals(values, new)


def _tracks(test: TestSection, now_s: float) -> list[Track]:
    tracks = []
    for number, section in enumerate(test.tracks, start=1):
        if not section.from_s <= now_s <= section.to_s:
            continue
        hidden = any(start_s <= now_s < end_s for start_s, end_s in section.hidden_s)
        shift_px = section.drift_px_per_s * (now_s - section.from_s)
        x0, y0, x1, y1 = section.box_px
        track = Track(
            number, section.camera, section.class_name, section.score, (x0 + shift_px, y0, x1 + shift_px, y1),
            _ns(section.from_s), _ns(now_s), not hidden, state=section.state, lane=section.lane,
            distance_m=section.distance_m, speed_mps=section.speed_mps,
            predicted_speed_mps=section.predicted_speed_mps,
        )  # fmt: skip
        tracks.append(track)
    return tracks


def _difference(test: TestSection, firings: Sequence[Firing], fired_s: Sequence[float]) -> str:
    shown = [round(at_s, 3) for at_s in fired_s]
    if test.fires is not None and not test.fires.at_least <= len(fired_s) <= test.fires.at_most:
        return f"expected {test.fires.at_least} to {test.fires.at_most} firings, got {len(fired_s)}: {shown[:20]} s"
    if test.fires_at_s is not None and not _are_near(test.fires_at_s, fired_s, 1.001 / test.rate_hz):
        return f"expected firings at {list(test.fires_at_s)} s, fired at {shown} s"
    for name, expected in test.operands.items():
        found = firings[0].operands.get(name) if firings else None
        if found != expected or not firings:
            return f"expected operand {name} to be {expected!r}, the first firing has {found!r}"
    return ""


def _are_near(expected_s: Sequence[float], found_s: Sequence[float], tolerance_s: float) -> bool:
    if len(expected_s) != len(found_s):
        return False
    return all(abs(expected - found) <= tolerance_s for expected, found in zip(expected_s, found_s, strict=True))


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS_PER_SECOND)
