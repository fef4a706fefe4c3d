"""The language: what is understood, what is refused, and what every mistake says."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from rule_ticks import make_track, value_of

from runtime.capture.camera_watch import Connection
from runtime.capture.monitor import FAULTS
from triggers.language.checking import check
from triggers.language.expressions import signals_read
from triggers.language.mistakes import CheckError, TextMistake
from triggers.language.populations import CAMERA_STATES
from triggers.language.scope import Scope
from triggers.language.types import Type


def mistakes_of(text: str, expected: Type = Type.BOOLEAN) -> list[TextMistake]:
    with pytest.raises(CheckError) as caught:
        check(text, Scope(), expected)
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("-7 // 2", -4.0),
        ("7 % 4 ** 1", 3.0),
        ("abs(-2) + sign(-3) + min(4, 2, 3) + max(1, 2)", 5.0),
        ("1 < 2 <= 2 < 3", True),
        ("1 < 3 < 2", False),
        ('"a" == "a" and "a" != "b"', True),
        ('"left" in ("left", "right")', True),
        ("3 not in (1, 2)", True),
        ('"yes" if 2 > 1 else "no"', "yes"),
        ("1 / 0", None),
        ("0 ** -1", None),
        ("(-1) ** 0.5", None),
        ("1e300 * 1e300", None),
    ],
)
def test_constant_expressions(text: str, expected: object) -> None:
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heads.u and False", False),
        ("heads.u and True", None),
        ("heads.u or True", True),
        ("heads.u or False", None),
        ("not heads.u", None),
        ("heads.u > 3", None),
        ("heads.u + 1", None),
        ("min(heads.u, 1)", None),
        ("heads.u in (1, 2)", None),
        ("1 if heads.u else 2", None),
        ("known(heads.u)", False),
        ("known(heads.u > 3) or is_true(heads.u > 3)", False),
        ("known(vehicle.speed_mps)", True),
    ],
)
def test_unknown_stays_unknown_unless_it_cannot_matter(text: str, expected: object) -> None:
    assert value_of(text, {"vehicle.speed_mps": 3.0}) is expected


@pytest.mark.parametrize("value", ["fast", math.nan, math.inf])
def test_what_is_not_a_number_is_an_unknown_number(value: float | str) -> None:
    assert value_of("vehicle.speed_mps > 3", {"vehicle.speed_mps": value}) is None


@pytest.mark.parametrize(("value", "expected"), [(1.0, True), (0, False), (True, True), (0.5, None), ("1", None)])
def test_booleans_are_understood_as_buses_write_them(value: object, expected: object) -> None:
    assert value_of("vehicle.brake_pressed", {"vehicle.brake_pressed": value}) is expected  # type: ignore[dict-item]


def test_quantifiers_over_no_tracks_one_track_and_no_look() -> None:
    text = ["any_track(score > 0.5)", "all_tracks(score > 0.5)", "count_tracks(score > 0.5)"]
    assert [value_of(part, tracks=[]) for part in text] == [False, True, 0.0]
    assert [value_of(part, tracks=[make_track()]) for part in text] == [True, True, 1.0]
    assert [value_of(part, tracks=None) for part in text] == [None, None, None]


def test_track_whose_distance_is_unknown_decides_nothing() -> None:
    near, unknown = make_track(1, distance_m=3.0), make_track(2)
    assert value_of("any_track(distance_m < 5)", tracks=[near, unknown]) is True
    assert value_of("any_track(distance_m < 2)", tracks=[near, unknown]) is None
    assert value_of("all_tracks(distance_m < 2)", tracks=[near, unknown]) is False
    assert value_of("all_tracks(distance_m < 5)", tracks=[near, unknown]) is None


def test_track_conditions_read_signals_too() -> None:
    tracks = [make_track(speed_mps=10.0, class_name="car")]
    text = 'any_track(class_name == heads.wanted and speed_mps < vehicle.speed_mps and not lane in ("ego", "left"))'
    signals = {"heads.wanted": "car", "vehicle.speed_mps": 12.0}
    assert value_of(text, signals, tracks) is None  # the lane is unknown
    tracks[0].lane = "right"
    assert value_of(text, signals, tracks) is True
    assert value_of(text, {**signals, "heads.wanted": "bus"}, tracks) is False


@pytest.mark.parametrize(
    ("text", "offset", "message", "fix"),
    [
        ("vehicle.sped_mps > 3", 0, "unknown signal 'vehicle.sped_mps'", "vehicle.speed_mps"),
        ("True and gas_pressed", 9, "unknown name 'gas_pressed'", "vehicle.gas_pressed"),
        ("risin(vehicle.gas_pressed)", 0, "unknown function 'risin'", "rising"),
        ("any_track(scor > 1)", 10, "unknown name 'scor'", "score"),
        ("score > 1", 0, "track field 'score' outside", "any_track(score"),
        ("rising > 1", 0, "rising is a function", "rising(condition)"),
        ("vehicle.gas_pressed > 0", 0, "is true or false, but a number", "write it alone"),
        ("vehicle.speed_mps", 0, "is a number, but true or false", "> 0"),
        ("vehicle.gear == 3", 16, "is a number, but text", "text with text"),
        ("abs(1, 2) > 0", 0, "abs is called with the wrong arguments", "abs(number)"),
        ("any_within(vehicle.gas_pressed, vehicle.speed_mps)", 32, "fixed number of seconds", "literal"),
        ("any_within(vehicle.gas_pressed, 1e6)", 32, "fixed number of seconds", "600"),
        ("any_track(added(class_name) != '')", 10, "cannot follow each item", "any_within"),
        ("any_track(any_track(visible))", 10, "inside each other", "and / or"),
        ("vehicle.speed_mps = 3", 18, "is not an expression", "=="),
        ("vehicle.speed_mps > 3 # fast", 22, "has a comment inside", "line of its own"),
        ("(lambda: True)()", 0, "only named functions", "name("),
        ("[x for x in (1, 2)] == 3", 0, "a comprehension is not part", "use signals"),
        ("'a'.upper() == 'A'", 0, "only named functions", "name("),
        ("vehicle.speed_mps.__class__ == 3", 0, "unknown signal", "vehicle.speed_mps"),
        ("lead.distance_m in lead.present", 19, "needs a list", "in ("),
        ("None", 0, "None is not a value", "known(x)"),
        ("", 0, "is empty", "vehicle.speed_mps > 3"),
        ("Ünknöwn and vehicle.sped_mps > 3", 12, "unknown signal", "vehicle.speed_mps"),
    ],
)
def test_mistakes_name_the_place_and_the_fix(text: str, offset: int, message: str, fix: str) -> None:
    found = [mistake for mistake in mistakes_of(text) if message in mistake.message]
    assert [mistake.offset for mistake in found] == [offset], mistakes_of(text)
    assert fix in found[0].fix


def test_all_mistakes_of_a_condition_are_told() -> None:
    assert len(mistakes_of("vehicle.sped_mps > 3 and foo(1) and any_track(scor > 1) and vehicle.gear > 3")) == 4


def test_signal_of_undeclared_type_cannot_be_two_things() -> None:
    assert (
        "is text, but a number is needed" in mistakes_of("heads.weather > 0.5 and heads.weather == 'rain'")[0].message
    )


def test_type_of_an_undeclared_signal_reaches_through_functions() -> None:
    assert value_of("lag(heads.weather, 1.0) == 'rain'", {"heads.weather": 3.0}) is None
    check("lag(heads.rain, 1.0) > 0.5 and delta(heads.rain, 1) > 0", Scope(), Type.BOOLEAN)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 3000 + "1" + ")" * 3000 + " > 0",
        "not " * 1000 + "True",
        "-" * 4000 + "1 > 0",
        "+".join(["1"] * 2000) + " > 0",
        " or ".join(["any_track(visible)"] * 300),
        "x" * 100_000,
        "9" * 4000 + " > 0",
        "vehicle" + ".a" * 2000 + " > 0",
        "1e999 > 0",
    ],
)
def test_hostile_conditions_are_refused(text: str) -> None:
    assert mistakes_of(text)


def test_let_names_that_explode_are_refused() -> None:
    scope = Scope(lets={"a0": check("vehicle.speed_mps > 3", Scope(), Type.BOOLEAN)})

    def double(levels: int) -> None:
        for level in range(1, levels):
            scope.lets[f"a{level}"] = check(f"a{level - 1} and a{level - 1}", scope, Type.BOOLEAN)

    double(8)
    with pytest.raises(CheckError, match="more than 1000 parts"):
        double(30)


def test_equal_conditions_are_the_same_expression() -> None:
    one = check("vehicle.speed_mps>3 and  not controller.enabled", Scope(), Type.BOOLEAN)
    other = check("vehicle.speed_mps > 3.0 and not (controller.enabled)", Scope(), Type.BOOLEAN)
    assert one == other
    assert signals_read(one) == ("controller.enabled", "vehicle.speed_mps")


def test_a_signal_under_known_keeps_its_own_type() -> None:
    signals = {"heads.lane": "ego", "heads.distance_m": -1.5, "heads.visible": False}
    text = 'not (heads.visible if heads.lane == "left" else known(heads.distance_m))'
    assert value_of(text, signals) is False


@pytest.mark.parametrize(
    ("text", "value", "fix"),
    [
        ('any_track(lane == "lef")', '"lef"', "did you mean 'left'?"),
        ('any_track(lane in ("left", "rigth"))', '"rigth"', "did you mean 'right'?"),
        ('any_object("egoo" != lane)', '"egoo"', "did you mean 'ego'?"),
        ('any_track(lag(lane, 1.5) == "midle")', '"midle"', "use one of ego, left, other, right"),
        ('any_camera(state == "frozn")', '"frozn"', "did you mean 'frozen'?"),
    ],
)
def test_a_text_that_a_field_can_never_be_is_a_mistake(text: str, value: str, fix: str) -> None:
    (mistake,) = mistakes_of(text)
    assert (mistake.value, mistake.fix) == (value, fix)


def test_every_camera_state_that_the_runtime_tells_may_be_asked_for() -> None:
    told = {"ok", *FAULTS, *get_args(Connection)} - {"streaming"}  # a streaming camera is told as ok, or at fault
    assert told == set(CAMERA_STATES)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("vehicle.brake_pressed && vehicle.gas_pressed", "write and"),
        ("vehicle.brake_pressed || vehicle.gas_pressed", "write or"),
        ("!vehicle.brake_pressed", "write not, or '!=' between two values"),
        ("vehicle.speed_mps \u2265 3", "write >="),
        ("vehicle.gear == \u201cdrive\u201d", 'use straight quotes: "…"'),
        ("vehicle.gear == drive", 'write "drive" if it is meant as text'),
        ("vehicle.brake_pressed == true", "write True"),
    ],
)
def test_habits_of_other_languages_are_told_what_to_write_here(text: str, fix: str) -> None:
    assert mistakes_of(text)[0].fix == fix
