"""Places on the map: what is inside, at the date line too, and what cannot be a place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_ticks import Signals

from runtime.formats.documents import DocumentError
from triggers import load_rules
from triggers.evaluation.program import Program
from triggers.language.checking import check
from triggers.language.mistakes import CheckError
from triggers.language.scope import Scope
from triggers.language.types import Type, Value
from triggers.language.zones import EARTH_RADIUS_M, Circle, Polygon, distance_m

SQUARE = ((48.0, 11.0), (48.0, 12.0), (49.0, 12.0), (49.0, 11.0))
BOWTIE = ((0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (2.0, 2.0))


@given(st.floats(47.5, 49.5), st.floats(10.5, 12.5))
def test_square_holds_what_lies_between_its_sides(latitude_deg: float, longitude_deg: float) -> None:
    expected = 48.0 < latitude_deg < 49.0 and 11.0 < longitude_deg < 12.0
    if min(abs(latitude_deg - 48), abs(latitude_deg - 49), abs(longitude_deg - 11), abs(longitude_deg - 12)) > 1e-9:
        for corners in (SQUARE, SQUARE[::-1]):
            assert Polygon(corners).contains(latitude_deg, longitude_deg) is expected


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.integers(-180, 180))
def test_polygon_is_the_same_wherever_on_earth_it_lies(north: float, east: float, longitude_deg: int) -> None:
    """A quarter turn of a diamond around any meridian, the 180th included."""

    def wrapped(degrees: float) -> float:
        return (degrees + 180.0) % 360.0 - 180.0

    around = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))
    diamond = Polygon(tuple((lat, wrapped(longitude_deg + lon)) for lat, lon in around))
    if abs(abs(north) + abs(east) - 1) > 1e-6:
        expected = abs(north) + abs(east) < 1
        assert diamond.contains(north, wrapped(longitude_deg + east)) is expected
        assert diamond.contains(north, wrapped(longitude_deg + east + 90)) is False


def test_line_that_crosses_itself_counts_crossings() -> None:
    assert Polygon(BOWTIE).contains(0.3, 1.0)
    assert not Polygon(BOWTIE).contains(1.0, 0.2)


def test_circle_is_measured_along_the_ground() -> None:
    depot = Circle(48.0, 11.0, 1000.0)
    degrees_per_m = math.degrees(1 / EARTH_RADIUS_M)
    for metres, expected in ((999.0, True), (1001.0, False)):
        assert depot.contains(48.0 + metres * degrees_per_m, 11.0) is expected
        assert depot.contains(48.0, 11.0 + metres * degrees_per_m / math.cos(math.radians(48.0))) is expected
    assert Circle(0.0, 179.999, 500.0).contains(0.0, -179.999)
    assert distance_m(0, 0, 0, 180) == pytest.approx(math.pi * EARTH_RADIUS_M)


def test_inside_is_unknown_while_the_position_is() -> None:
    scope = Scope(zones={"town": Polygon(SQUARE)})
    expression = check('inside("town")', scope, Type.BOOLEAN)
    program = Program([expression], 0, {})
    positions: list[tuple[Value, Value, Value]] = [
        (48.5, 11.5, True), (None, 11.5, None), (48.5, 12.5, False), (48.5, None, None), (48.5, 11.5, True),
    ]  # fmt: skip
    for tick, (latitude_deg, longitude_deg, expected) in enumerate(positions):
        signals = Signals({"vehicle.latitude_deg": latitude_deg, "vehicle.longitude_deg": longitude_deg})
        program.run([], signals, tick * 50_000_000)
        assert program.value(program.slot(expression)) is expected


def test_zone_that_nobody_declared_is_told_with_the_nearest_name() -> None:
    for text, fix in (('inside("twon")', "did you mean 'town'?"), ("inside(town)", 'write inside("name")')):
        with pytest.raises(CheckError) as caught:
            check(text, Scope(zones={"town": Polygon(SQUARE)}), Type.BOOLEAN)
        assert fix in caught.value.mistakes[0].fix
    with pytest.raises(CheckError, match="no zone is called 'town'"):
        check('inside("town")', Scope(), Type.BOOLEAN)


RULE = 'rules:\n  - name: probe\n    description: A probe.\n    when: inside("town")\n'


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("{}", "either 'circle' or 'polygon'"),
        ("{circle: {latitude_deg: 1, longitude_deg: 2, radius_m: 3}, polygon: [[0, 0], [0, 1], [1, 1]]}", "either"),
        ("{circle: {latitude_deg: 91, longitude_deg: 2, radius_m: 3}}", "latitude_deg"),
        ("{circle: {latitude_deg: .nan, longitude_deg: 2, radius_m: 3}}", "latitude_deg"),
        ("{circle: {latitude_deg: 1, longitude_deg: 2, radius_m: 0}}", "radius_m"),
        ("{polygon: [[0, 0], [0, 1]]}", "polygon"),
        ("{polygon: [[0, 0], [0, 1], [95, 1]]}", "is not a place on Earth"),
        ("{polygon: [[0, 0], [0, 1], [0, .inf]]}", "polygon"),
        ("{polygon: [[80, 0], [80, 120], [80, -120]]}", "goes around a pole"),
        ("{polygon: [[0, 0, 1], [0, 1], [1, 1]]}", "polygon"),
    ],
)
def test_zones_that_are_no_places_are_refused_where_they_stand(tmp_path: Path, zone: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(f"zones:\n  town: {zone}\n{RULE}")
    with pytest.raises(DocumentError) as caught:
        load_rules([path])
    assert any(message in str(problem) and problem.line == 2 for problem in caught.value.problems), caught.value


def test_zones_belong_to_their_file_and_to_the_version_of_the_rules_that_ask(tmp_path: Path) -> None:
    versions = set()
    for radius_m in (100, 200):
        path = tmp_path / "rules.yaml"
        zone = f"{{circle: {{latitude_deg: 1, longitude_deg: 2, radius_m: {radius_m}}}}}"
        path.write_text(f"zones:\n  town: {zone}\n{RULE}")
        versions.add(load_rules([path]).rules[0].version)
    assert len(versions) == 2
    (tmp_path / "other.yaml").write_text(RULE.replace("probe", "other"))
    with pytest.raises(DocumentError, match="no zone is called 'town'"):
        load_rules([tmp_path])
