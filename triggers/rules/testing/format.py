"""The format of the tests in rule files (told in the package's head), and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, model_validator

from runtime.formats.documents import Document, DocumentError, Mistake, Problem, suggest, validate
from triggers.language import vocabulary
from triggers.language.expressions import signals_read
from triggers.language.types import Type
from triggers.rules.format import Section
from triggers.rules.rule import Rule, RuleSet
from triggers.rules.testing.series import (
    BoxSeries,
    NumberSeries,
    Series,
    SignalSeries,
    TextSeries,
    TruthSeries,
)

LANES = ("ego", "left", "right", "other")
UNKNOWN_NUMBER: Series[float] = Series.always(None)
UNKNOWN_TEXT: Series[str] = Series.always(None)
MAX_TICKS = 200_000

#: What a firing says of the track, object or camera that its condition is true for.
WITNESS_PREFIXES = ("track.", "object.", "camera.")


class FollowedSection(Section):
    """What tracks and controller objects share: when they are there, and where."""

    class_name: TextSeries
    from_s: float = Field(default=0.0, ge=0)
    to_s: float = Field(default=1e9, ge=0)
    score: NumberSeries
    distance_m: NumberSeries = UNKNOWN_NUMBER
    lateral_m: NumberSeries = UNKNOWN_NUMBER
    speed_mps: NumberSeries = UNKNOWN_NUMBER
    closing_speed_mps: NumberSeries = UNKNOWN_NUMBER
    bearing_deg: NumberSeries = UNKNOWN_NUMBER
    lane: TextSeries = UNKNOWN_TEXT

    @model_validator(mode="after")
    def _is_possible(self) -> FollowedSection:
        if self.to_s <= self.from_s:
            raise Mistake("is not after 'from_s'", "write a later time", at=("to_s",))
        if self.class_name.times_s[0] > self.from_s or None in self.class_name.values:
            raise Mistake("must be known from the first instant on", "write {0: car, …}", at=("class_name",))
        wrong = next((lane for lane in self.lane.values if lane not in (*LANES, None)), None)
        if wrong is not None:
            raise Mistake(f"is no lane: {wrong!r}", suggest(wrong, LANES), at=("lane",))
        return self


class TrackSection(FollowedSection):
    """A track of a test."""

    camera: str = "front"
    box_px: BoxSeries = Series.always((100.0, 100.0, 140.0, 140.0))
    score: NumberSeries = Series.always(0.9)
    hidden_s: tuple[tuple[float, float], ...] = ()
    drift_px_per_s: float = 0.0
    shake_px: NumberSeries = Series.always(0.0)
    state: TextSeries = UNKNOWN_TEXT
    predicted_speed_mps: NumberSeries = UNKNOWN_NUMBER
    predicted_distance_m: NumberSeries = UNKNOWN_NUMBER
    lateral_speed_mps: NumberSeries = UNKNOWN_NUMBER
    overlapping_cameras: NumberSeries = UNKNOWN_NUMBER
    confirming_cameras: NumberSeries = UNKNOWN_NUMBER
    confirming_gap_deg: NumberSeries = UNKNOWN_NUMBER

    @model_validator(mode="after")
    def _is_seen(self) -> TrackSection:
        for name, series in (("box_px", self.box_px), ("score", self.score)):
            if series.times_s[0] > self.from_s or None in series.values:
                raise Mistake("must be known from the track's first instant on", "write {0: …}", at=(name,))
        return self


class ObjectSection(FollowedSection):
    """An entry of the controller's object list."""

    score: NumberSeries = UNKNOWN_NUMBER


class CameraSection(Section):
    """How one camera stands."""

    state: TextSeries = Series.always("ok")
    is_missing: TruthSeries = Series.always(False)
    latency_ms: NumberSeries = UNKNOWN_NUMBER
    luma: NumberSeries = UNKNOWN_NUMBER
    luma_std: NumberSeries = UNKNOWN_NUMBER
    dark_share: NumberSeries = UNKNOWN_NUMBER
    bright_share: NumberSeries = UNKNOWN_NUMBER
    sharpness: NumberSeries = UNKNOWN_NUMBER
    misalignment_deg: NumberSeries = UNKNOWN_NUMBER


class CountSection(Section):
    """How many firings are expected, both ends included."""

    at_least: int = Field(default=0, ge=0)
    at_most: int = Field(ge=0)


class TestSection(Section):
    """One test as it is written."""

    __test__ = False  # not a test class of pytest's

    name: str
    rule: str
    rate_hz: float = Field(default=20.0, gt=0, le=1000)
    duration_s: float = Field(gt=0, le=3600)
    signals: dict[str, SignalSeries] = Field(default_factory=dict)
    tracks: tuple[TrackSection, ...] | None = ()
    objects: tuple[ObjectSection, ...] | None = None
    cameras: dict[str, CameraSection] | None = None
    image_size_px: tuple[int, int] | None = None
    selection: bool = False
    fires_at_s: tuple[float, ...] | None = None
    fires: CountSection | None = None
    operands: dict[str, bool | float | str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _expects_one_thing(self) -> TestSection:
        if (self.fires_at_s is None) == (self.fires is None):
            raise Mistake("must say either 'fires_at_s' or 'fires'", "add 'fires_at_s: []' if it must not fire")
        if self.duration_s * self.rate_hz > MAX_TICKS:
            raise Mistake(f"has more than {MAX_TICKS} ticks", "lower rate_hz or duration_s", at=("duration_s",))
        late_s = next((at_s for at_s in self.fires_at_s or () if not 0 <= at_s <= self.duration_s), None)
        if late_s is not None:
            raise Mistake(f"has {late_s:g} s, which is outside the test", "lengthen duration_s", at=("fires_at_s",))
        if self.operands and self.fires_at_s == ():
            raise Mistake("can say nothing of a firing that must not be", "remove it", at=("operands",))
        return self


def read_tests(document: Document, rules: RuleSet, declared: Mapping[str, Type]) -> list[TestSection]:
    """The tests of a rule file. Raises DocumentError with everything that is wrong with any of them."""
    types = {**vocabulary.SIGNALS, **declared}
    tests: list[TestSection] = []
    problems: list[Problem] = []
    by_name = {rule.name: rule for rule in rules.rules}
    for index in range(len(document.data.get("tests") or [])):
        try:
            test = validate(document, TestSection, at=("tests", index))
        except DocumentError as error:
            problems += error.problems
            continue
        rule = by_name.get(test.rule)
        if rule is None:
            message = f"no rule of this file is called {test.rule!r}"
            problems.append(document.problem(("tests", index, "rule"), message, suggest(test.rule, by_name)))
        else:
            problems += _mistakes(document, index, test, rule, types)
        tests.append(test)
    if problems:
        raise DocumentError(problems)
    return tests


def _mistakes(
    document: Document, index: int, test: TestSection, rule: Rule, types: Mapping[str, Type]
) -> Iterator[Problem]:
    """What only shows when a test is held against its rule."""
    read = {name for expression in (rule.when, *rule.operands.values()) for name in signals_read(expression)}
    for name, series in test.signals.items():
        path = ("tests", index, "signals", name)
        if name not in read and name not in types and name.partition(".")[0] not in vocabulary.OPEN_NAMESPACES:
            message = f"unknown signal {name!r}, and the rule reads none of that name"
            yield document.problem(path, message, suggest(name, {*read, *types}), at_key=True)
        expected = types.get(name, Type.ANY)
        wrong = [value for value in series.values if value is not None and Type.of(value) is not expected]
        if expected is not Type.ANY and wrong:
            yield document.problem(path, f"{name!r} is {expected.value}, not {wrong[0]!r}", "write such values")
    known = {*rule.operands, *signals_read(rule.when)}
    for name in test.operands:
        if name not in known and not name.startswith(WITNESS_PREFIXES):
            path = ("tests", index, "operands", name)
            yield document.problem(path, f"the rule keeps no operand {name!r}", suggest(name, known), at_key=True)
