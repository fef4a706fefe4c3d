"""The controller's own object list: read once a sample, bounded, and never believed when it is malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.controller_objects import MAX_OBJECTS, MAX_TEXT_LENGTH, SIGNAL, ControllerObjects, parse_objects
from runtime.messages import ControllerObject, SignalSample
from runtime.signals.table import SignalTable

SECOND = 1_000_000_000
CAR = {"id": 7, "class_name": "car"}


class Bus:
    """A table and its reader, ticked by hand."""

    def __init__(self) -> None:
        self.table = SignalTable({}, 1.0)
        self.objects = ControllerObjects()

    def send(self, entries: Any, at_s: float) -> None:
        text = entries if isinstance(entries, str) else json.dumps(entries)
        self.table.offer(SignalSample(SIGNAL, round(at_s * SECOND), text))

    def at(self, at_s: float) -> list[ControllerObject] | None:
        time_ns = round(at_s * SECOND)
        listed = self.objects.at(self.table.at(time_ns), time_ns)
        return None if listed is None else list(listed)

    def one(self, at_s: float) -> ControllerObject:
        (found,) = self.at(at_s) or ()
        return found


def test_fields_come_as_they_were_sent() -> None:
    bus = Bus()
    sent = {"score": 0.5, "age_s": 2.0, "distance_m": 30.0, "lateral_m": -1.0, "speed_mps": 22.0,
            "closing_speed_mps": 1.5, "bearing_deg": -2.0, "lane": "right"}  # fmt: skip
    bus.send([{**CAR, **sent, "colour": "red"}], 5.0)
    assert bus.one(5.0) == ControllerObject(7, "car", 0.5, 3 * SECOND, 30.0, -1.0, 22.0, 1.5, -2.0, "right")


def test_empty_list_is_known_and_silence_is_not() -> None:
    bus = Bus()
    assert bus.at(0.0) is None
    bus.send([], 1.0)
    assert bus.at(1.0) == []
    assert bus.at(1.9) == []
    assert bus.at(2.5) is None  # older than its timeout


def test_age_counts_from_the_first_sample_and_starts_anew_after_a_gap() -> None:
    bus = Bus()
    bus.send([CAR], 1.0)
    assert bus.one(1.0).first_seen_ns == SECOND
    bus.send([CAR], 1.5)
    assert bus.one(1.5).first_seen_ns == SECOND
    bus.send([], 2.0)
    bus.send([CAR], 2.5)
    assert bus.one(2.5).first_seen_ns == round(2.5 * SECOND)
    assert bus.at(4.0) is None
    bus.send([CAR], 5.0)
    assert bus.one(5.0).first_seen_ns == 5 * SECOND


def test_closing_speed_is_the_slope_of_the_distance() -> None:
    bus, told = Bus(), []
    for step in range(12):
        bus.send([{**CAR, "distance_m": 50.0 - 0.4 * step}], 1.0 + 0.05 * step)
        told.append(bus.one(1.0 + 0.05 * step).closing_speed_mps)
    assert told[:3] == [None, None, None]  # too short a stretch
    assert told[3:] == pytest.approx([8.0] * 9)


def test_every_sample_between_two_ticks_counts_for_the_slope() -> None:
    bus = Bus()
    for step in range(6):
        bus.send([{**CAR, "distance_m": 50.0 - 0.4 * step}], 1.0 + 0.05 * step)
    assert bus.one(1.3).closing_speed_mps == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("distance_m", "lateral_m", "bearing_deg", "lane"),
    [
        (20.0, 0.5, 1.4325, "ego"),
        (20.0, 3.5, 10.0787, "left"),
        (20.0, -3.5, -10.0787, "right"),
        (20.0, 9.0, 26.7437, "other"),
        (5.0, 6.0, None, None),
    ],
)
def test_bearing_and_lane_follow_from_distance_and_lateral(
    distance_m: float, lateral_m: float, bearing_deg: float | None, lane: str | None
) -> None:
    bus = Bus()
    bus.send([{**CAR, "distance_m": distance_m, "lateral_m": lateral_m}], 1.0)
    found = bus.one(1.0)
    assert found.bearing_deg == (None if bearing_deg is None else pytest.approx(bearing_deg, abs=1e-4))
    assert found.lane == lane


def test_lane_follows_the_path_that_is_driven() -> None:
    bus = Bus()
    for name, value in (("vehicle.yaw_rate_radps", 0.2), ("vehicle.speed_mps", 10.0)):
        bus.table.offer(SignalSample(name, SECOND, value))
    bus.send([{**CAR, "distance_m": 20.0, "lateral_m": 3.5}], 1.0)  # the path is 3.9 m to the left by then
    assert bus.one(1.0).lane == "ego"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "it is not JSON"),
        ("[" * 60_000, "it is not JSON"),
        ('[{"id": 1, "class_name": "car", "distance_m": NaN}]', "it is not JSON"),
        ('[{"id": 1, "class_name": "car", "distance_m": 1e999}]', "distance_m is not a number"),
        ('[{"id": 1, "class_name": "car", "score": true}]', "score is not a number"),
        ('[{"id": 1, "class_name": "car", "score": "0.5"}]', "score is not a number"),
        ("{}", "it is not a list"),
        ("[3]", "an object is not a mapping"),
        ('[{"class_name": "car"}]', "id is missing"),
        ('[{"id": true, "class_name": "car"}]', "id is missing"),
        ('[{"id": 1}]', "class_name is missing"),
        ('[{"id": 1, "class_name": ""}]', "class_name is missing"),
        ('[{"id": 1, "class_name": "car", "lane": "middle"}]', "lane is not"),
        ('[{"id": 1, "class_name": "car"}, {"id": 1, "class_name": "bus"}]', "two objects have one id"),
        (json.dumps([{"id": i, "class_name": "car"} for i in range(MAX_OBJECTS + 1)]), "more than 256 objects"),
        ("[" + " " * MAX_TEXT_LENGTH + "]", "more than 65536 characters"),
    ],
)
def test_malformed_list_is_counted_and_unknown_until_a_good_one_comes(text: str, reason: str) -> None:
    bus = Bus()
    bus.send([CAR], 1.0)
    assert bus.at(1.0)
    bus.send(text, 1.1)
    assert bus.at(1.1) is None
    assert bus.at(1.2) is None
    ((counted, times),) = bus.objects.malformed.items()
    assert reason in counted
    assert times == 1
    bus.send([CAR], 1.3)
    assert [found.object_id for found in bus.at(1.3) or ()] == [7]


def test_value_that_is_no_text_is_malformed() -> None:
    bus = Bus()
    bus.table.offer(SignalSample(SIGNAL, SECOND, 3.0))
    assert bus.at(1.0) is None
    assert bus.objects.malformed == {"it is not text": 1}


def test_null_is_the_same_as_leaving_a_key_out() -> None:
    assert parse_objects('[{"id": 1, "class_name": "car", "score": null, "lane": null}]') == [
        {"id": 1, "class_name": "car"}
    ]
