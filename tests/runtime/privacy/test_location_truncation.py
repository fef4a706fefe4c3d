from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix
from foxglove_schemas_protobuf.Log_pb2 import Log

from runtime.formats import topics
from runtime.formats.bitstream import nal_unit_type, nal_units
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.topics import ChannelSpec
from runtime.messages import SignalSample
from runtime.privacy.location import LocationRule, Truncation, without_user_data
from runtime.privacy.policy import PrivacyRules
from runtime.privacy.treatment import ClipTreatment
from runtime.recording.clip_file import decode, read_manifest
from runtime.recording.privacy_promises import LocationPromise
from runtime.recording.sealing_policy import SealingRefusedError
from runtime.recording.verify import verify_clip
from tests.runtime.privacy.private_history import (
    LATITUDE_DEG,
    LONGITUDE_DEG,
    everything_in,
    north_of,
    placed_firing,
    seal,
    video_messages,
    write_history,
)
from tests.runtime.recording.recorded_rig import START_NS, encode_camera, rewrite

#: Anything within 100 m of the drive, however it is written.
EXACT = re.compile(rb"(?<![0-9])(56\.01[12]|18\.51[12]|37\.02[45])")
EXTRA = [
    SignalSample("gps.altitude_m", START_NS + 6_000_000_000, 41.25),
    SignalSample("gps.north_of_home_m", START_NS + 6_000_000_000, 1234.5),
]


def sealed(tmp_path: Path, rule: LocationRule) -> Path:
    history = write_history(tmp_path / "history", north_of(0, 1), [placed_firing(6.0)], extra=EXTRA)
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules(location=rule))
    return clip.path


def test_without_truncation_the_place_is_all_over_the_clip(tmp_path: Path) -> None:
    """What the other tests look for is there to be found."""
    said = everything_in(sealed(tmp_path, LocationRule()))
    assert len(EXACT.findall(said)) > 100
    assert b"41.25" in said
    assert b"1234.5" in said


def test_a_removed_place_is_nowhere_in_the_clip(tmp_path: Path) -> None:
    clip = sealed(tmp_path, LocationRule("remove", signals=("gps.north_of_home_m",)))
    said = everything_in(clip)
    assert not EXACT.findall(said)
    assert b"41.25" not in said
    assert b"1234.5" not in said
    assert b"latitude" not in said.lower()
    assert verify_clip(clip).problems == []
    with McapTopicReader(clip) as reader:
        manifest = read_manifest(reader)
        (firing,) = [message.json() for message in reader.messages({topics.FIRING})]
    assert manifest.privacy == {"location": {"mode": "remove"}}
    assert manifest.firings[0].operands == firing["operands"] == {"vehicle.speed_mps": 12.5}
    assert manifest.firings[0].score is None
    assert firing["score"] is None


def test_a_rounded_place_is_on_the_grid_wherever_it_is_told(tmp_path: Path) -> None:
    clip = sealed(tmp_path, LocationRule("round", 1, ("gps.north_of_home_m",)))
    said = everything_in(clip)
    assert not EXACT.findall(said)
    assert b"41.25" not in said
    assert b"1234.5" not in said
    with McapTopicReader(clip) as reader:
        samples = {(s.name, s.value) for s in reader.signal_samples() if s.name.startswith("vehicle.l")}
        (firing,) = [message.json() for message in reader.messages({topics.FIRING})]
    assert samples == {("vehicle.latitude_deg", 56.0), ("vehicle.longitude_deg", 18.5)}
    assert firing["operands"] == {
        "vehicle.latitude_deg": 56.0,
        "vehicle.longitude_deg": 18.5,
        "vehicle.speed_mps": 12.5,
    }
    assert verify_clip(clip).problems == []


def test_a_clip_that_tells_finer_places_than_it_promises_is_broken(tmp_path: Path) -> None:
    def promising(clip: Path, **location: object) -> set[str]:
        bad = rewrite(clip, manifest=lambda said: said["privacy"].update(location=location))
        told = [(problem.code, problem.message) for problem in verify_clip(bad).problems]
        assert {code for code, _ in told} <= {"privacy"}
        return {re.sub(r"the message at \d+ ns|driver_takeover 0", "it", text) for _, text in told}

    places = "vehicle.latitude_deg, vehicle.longitude_deg"
    for location in ({"mode": "remove"}, {"mode": "round", "decimals": 5}):
        assert promising(sealed(tmp_path / location["mode"], LocationRule()), **location) == {
            f"/vehicle: it tells a place: {places}",
            "/gps: it tells a place: gps.altitude_m",
            f"/firing: it tells a place: {places}, lat, twice, score",
            f"firing it still tells a place: {places}, lat, twice, score",
        }  # fmt: skip
    coarse = sealed(tmp_path / "coarse", LocationRule("round", 1))
    assert promising(coarse, mode="round", decimals=2) == set()
    assert "/vehicle: it tells a place: vehicle.longitude_deg" in promising(coarse, mode="round", decimals=0)


def test_kinds_of_messages_that_a_promise_of_no_place_rules_out() -> None:
    exact = LocationFix(latitude=LATITUDE_DEG, longitude=18.5).SerializeToString()
    coarse = LocationFix(latitude=56.01, longitude=18.5).SerializeToString()
    removed, on_grid = LocationPromise(None), LocationPromise(2)
    for data, told in ((exact, "latitude"), (coarse, None), (b"\xff", None)):
        fix = message("foxglove.LocationFix", "protobuf", data)
        assert on_grid.broken_by(fix) == told
        assert removed.broken_by(fix) == "a message of kind foxglove.LocationFix"
    assert removed.broken_by(message(topics.LOG_SCHEMA, "protobuf", b"", topics.LOG)) is not None
    huge = message("shadowrig.Signals", "json", b'{"l\\u0061titude": 1' + b"0" * 400 + b"}")
    assert on_grid.broken_by(huge) == "gps.latitude"
    deep = message("shadowrig.Tick", "json", b'{"latitude": ' + b"[" * 100_000)
    assert on_grid.broken_by(deep) is None


def test_the_bookkeeping_of_delivery_does_not_tell_the_place(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [placed_firing(6.0)])
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules(location=LocationRule("remove")))
    assert not EXACT.findall(json.dumps(dict(clip.metadata)).encode())


def message(schema: str, encoding: str, data: bytes, topic: str = "/gps") -> RawMessage:
    return RawMessage(ChannelSpec(topic, schema, encoding, b"", encoding), START_NS, START_NS, 0, data)


def passed(rule: LocationRule, *messages: RawMessage) -> tuple[list[RawMessage], dict[str, int]]:
    truncation = Truncation(rule)
    return list(truncation.transform(messages)), dict(truncation.dropped)


def test_a_location_fix_is_rounded_to_the_grid_without_altitude_and_covariance_or_dropped() -> None:
    exact = LocationFix(frame_id="gps", latitude=LATITUDE_DEG, longitude=LONGITUDE_DEG, altitude=41.25)
    exact.position_covariance.extend([0.5] * 9)
    raw = message("foxglove.LocationFix", "protobuf", exact.SerializeToString())
    (kept,), _ = passed(LocationRule("round", 2), raw)
    coarse = LocationFix.FromString(kept.data)
    assert (coarse.latitude, coarse.longitude, coarse.altitude) == (56.01, 18.51, 0.0)
    assert list(coarse.position_covariance) == []
    assert passed(LocationRule("remove"), raw) == ([], {"foxglove.LocationFix": 1})


def test_a_message_of_an_unknown_kind_is_dropped_and_counted() -> None:
    raw = message("foxglove.GeoJSON", "protobuf", b"\x01\x02")
    assert passed(LocationRule("round"), raw) == ([], {"foxglove.GeoJSON": 1})


def test_a_line_of_a_log_is_dropped_and_counted_for_it_may_say_anything() -> None:
    line = Log(message="left 56.0123, 18.5123 for the clinic")
    channel = ChannelSpec(topics.LOG, topics.LOG_SCHEMA, "protobuf", b"", "protobuf")
    truncation = Truncation(LocationRule("round"))
    assert list(truncation.transform([RawMessage(channel, 0, 0, 0, line.SerializeToString())])) == []
    assert truncation.dropped == {topics.LOG_SCHEMA: 1}


def test_places_are_found_at_any_depth_and_by_configured_names() -> None:
    fields = {"signals": {"gps.latitude_deg": 56.0123, "own.x": 3.5}, "rows": [{"longitude": 18.51}], "x": 3.5}
    raw = message("shadowrig.Tick", "json", json.dumps(fields).encode(), "/tick")
    (kept,), _ = passed(LocationRule("remove", signals=("own.x",)), raw)
    assert kept.json() == {"signals": {}, "rows": [{}], "x": 3.5}


@pytest.mark.parametrize("value", ["56.01234N", True, None, [56.01234]])
def test_a_place_that_is_no_number_is_not_rounded_but_removed(value: object) -> None:
    raw = message("shadowrig.Signals", "json", json.dumps({"latitude_deg": value}).encode(), "/vehicle")
    (kept,), _ = passed(LocationRule("round", 5), raw)
    assert kept.json() == {}


def test_user_data_leaves_the_bitstream_and_the_pictures_stay(tmp_path: Path) -> None:
    """Dash cameras write positions there; x264 its settings."""
    packets = encode_camera("front_main", 20)
    place = b"\x06\x05\x2a" + b"G" * 16 + b"56.01234567,18.51234567...\x80"
    told = [replace(packet, data=b"\x00\x00\x00\x01" + place + packet.data) for packet in packets]
    cleaned = [without_user_data(raw).packet() for raw in video_messages(told)]
    assert all(b"56.01" not in packet.data for packet in cleaned)
    kinds = {nal_unit_type("h264", p.data[start]) for p in cleaned for start, _ in nal_units(p.data)}
    assert 6 not in kinds
    before = [frame.rgb() for frame in decode(iter(packets))]
    after = [frame.rgb() for frame in decode(iter(cleaned))]
    assert len(before) == len(after) == 20
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_other_supplemental_information_stays() -> None:
    (packet,) = encode_camera("front_main", 1)
    timing = b"\x06\x01\x01\x00\x80"  # picture timing
    (raw,) = video_messages([replace(packet, data=b"\x00\x00\x00\x01" + timing + packet.data)])
    assert timing in without_user_data(raw).packet().data


@pytest.mark.parametrize(
    "broken",
    [
        message("shadowrig.Signals", "json", b'{"latitude_deg": 56.0'),
        message("shadowrig.Signals", "json", b'["latitude"]'),
        message("foxglove.LocationFix", "protobuf", b"\xff\xff\xff"),
        message("foxglove.CompressedVideo", "protobuf", b"\xff\xff\xff", "/camera/front/video"),
    ],
)
def test_a_message_that_cannot_be_understood_costs_its_clip_and_never_the_recorder(broken: RawMessage) -> None:
    treatment = ClipTreatment(random_bytes=bytes, location=LocationRule("round"))
    with pytest.raises(SealingRefusedError) as caught:
        list(treatment.transform([broken], lambda message: False))
    assert caught.value.refusal.reason == "treatment"
    assert not caught.value.refusal.is_final
