"""CAN logs through a DBC: buses kept apart, values scaled, damage counted."""

import itertools
from pathlib import Path

import cantools
import pytest

from runtime.drives import open_drive
from runtime.drives.can_decoding import CanSignalSource, build_decoder
from runtime.formats.documents import DocumentError

DBC = """\
VERSION ""
BO_ 180 SPEED: 8 XXX
 SG_ SPEED : 47|16@0+ (0.01,0) [0|250] "km/h" XXX
BO_ 548 BRAKE_MODULE: 8 XXX
 SG_ BRAKE_PRESSED : 5|1@0+ (1,0) [0|1] "" XXX
 SG_ BRAKE_OVERLAP : 5|2@0+ (1,0) [0|3] "" XXX
BO_ 705 GAS_PEDAL: 8 XXX
 SG_ GAS_RELEASED : 3|1@0+ (1,0) [0|1] "" XXX
BO_ 956 GEAR_PACKET: 8 XXX
 SG_ GEAR : 13|6@0+ (1,0) [0|63] "" XXX
VAL_ 956 GEAR 0 "drive" 32 "park" ;
"""
#: 72 km/h; the brake on the vehicle's bus stays off, the lookalike on the radar's bus is on.
LOG = """\
(100.000000) can0 0B4#00000000001C2000
(100.000500) can0 224#0000000000000000
(100.001000) can1 224#2000000000000000
(100.002000) can0 2C1#0000000000000000
(100.003000) can0 3BC#0020000000000000
(100.004000) can0 3BC#0000000000000000
(100.005000) can0 7FF#00
"""
TEXT = """\
name: d
can:
  log: drive.log
  dbc: car.dbc
  strict: false
  signals:
    vehicle.speed_mps: {bus: can0, message: SPEED, signal: SPEED, scale: 0.2777777778}
    vehicle.brake_pressed: {bus: can0, message: BRAKE_MODULE, signal: BRAKE_PRESSED}
    vehicle.gas_pressed: {bus: can0, message: GAS_PEDAL, signal: GAS_RELEASED, invert: true}
    vehicle.gear: {bus: can0, message: GEAR_PACKET, signal: GEAR}
truth: truth.csv
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drive.yaml").write_text(TEXT)
    (tmp_path / "car.dbc").write_text(DBC)
    (tmp_path / "drive.log").write_text(LOG)
    (tmp_path / "truth.csv").write_text("elapsed_s,event,detail\n0.5,engage,button\n")
    return tmp_path


def test_frames_become_signals_of_their_own_bus_only(folder: Path) -> None:
    samples = [(sample.name, sample.time_ns, sample.value) for sample in open_drive(folder).signal_samples()]
    assert samples == [
        ("vehicle.speed_mps", 100_000_000_000, pytest.approx(20.0)),
        ("vehicle.brake_pressed", 100_000_500_000, False),
        ("vehicle.gas_pressed", 100_002_000_000, True),
        ("vehicle.gear", 100_003_000_000, "park"),
        ("vehicle.gear", 100_004_000_000, "drive"),
    ]


def test_the_clock_runs_from_the_first_to_the_last_frame_of_any_message(folder: Path) -> None:
    drive = open_drive(folder)
    assert (drive.start_ns, drive.end_ns) == (100_000_000_000, 100_005_000_000)
    assert [event.time_ns for event in drive.truth or ()] == [100_500_000_000]


def test_a_strict_reading_refuses_overlapping_signals_and_names_the_way_out(folder: Path) -> None:
    (folder / "drive.yaml").write_text(TEXT.replace("strict: false", "strict: true"))
    with pytest.raises(DocumentError) as caught:
        open_drive(folder)
    (problem,) = caught.value.problems
    assert (problem.line, "strict: false" in problem.fix) == (4, True)


def test_every_wrong_mapping_is_reported_where_it_stands(folder: Path) -> None:
    text = TEXT.replace("message: SPEED,", "message: SPED,").replace("signal: GAS_RELEASED", "signal: GAS_RELEASD")
    (folder / "drive.yaml").write_text(text.replace("scale: 0.2777777778", "invert: true"))
    with pytest.raises(DocumentError) as caught:
        open_drive(folder)
    found = [(problem.line, problem.value, problem.fix) for problem in caught.value.problems]
    assert [(line, value) for line, value, _ in found] == [(7, "SPED"), (7, True), (9, "GAS_RELEASD")]
    assert "'SPEED'" in found[0][2]
    assert "'GAS_RELEASED'" in found[2][2]


def test_a_torn_last_line_costs_that_line_and_is_noted(folder: Path) -> None:
    (folder / "drive.log").write_text(LOG + "(100.006000) ca")
    drive = open_drive(folder)
    assert len(list(drive.signal_samples())) == 5
    (fault,) = drive.faults
    assert "beyond CAN frame 7" in fault


def test_a_file_that_is_no_log_is_refused(folder: Path) -> None:
    (folder / "drive.log").write_text("nothing of the kind\n")
    with pytest.raises(DocumentError, match="cannot be read beyond CAN frame 0"):
        open_drive(folder)


@pytest.mark.real
def test_the_real_highway_log_has_one_engagement_and_a_driver_who_does_not_brake(real_material: Path) -> None:
    drive = open_drive(real_material / "drives" / "rav4_highway")
    assert drive.start_ns == 46408584930000
    assert not drive.cameras
    values: dict[str, list[object]] = {}
    for sample in drive.signal_samples():
        values.setdefault(sample.name, []).append(sample.value)
    assert set(values["vehicle.brake_pressed"]) == {False}
    enabled = values["controller.enabled"]
    assert sum(earlier != later for earlier, later in itertools.pairwise(enabled)) == 1
    assert 5 < max(values["vehicle.speed_mps"]) < 40


def test_drive_says_which_signals_it_holds(folder: Path) -> None:
    drive = open_drive(folder)
    assert drive.signal_kinds["vehicle.gear"] == "text"
    assert set(drive.signal_kinds) == {
        "vehicle.speed_mps",
        "vehicle.brake_pressed",
        "vehicle.gas_pressed",
        "vehicle.gear",
    }
    assert drive.knows_all_signals
    assert drive.declared == {}


def test_declared_signal_takes_the_kind_that_was_declared() -> None:
    database = cantools.database.load_string(DBC, strict=False)
    places = {
        "trailer.mode": CanSignalSource(bus="can0", message="GEAR_PACKET", signal="GEAR"),
        "trailer.is_attached": CanSignalSource(bus="can0", message="BRAKE_MODULE", signal="BRAKE_PRESSED"),
        "trailer.is_braked": CanSignalSource(bus="can0", message="BRAKE_MODULE", signal="BRAKE_PRESSED"),
    }
    decoder, problems = build_decoder(
        database, places, declared={"trailer.mode": "text", "trailer.is_attached": "boolean"}
    )
    assert problems == []
    gear = decoder.decode("can0", 956, bytes.fromhex("0020000000000000"), 1)
    brake = decoder.decode("can0", 548, bytes.fromhex("2000000000000000"), 1)
    assert [sample.value for sample in gear] == ["park"]
    assert {sample.name: sample.value for sample in brake} == {"trailer.is_attached": True, "trailer.is_braked": 1.0}


def test_inversion_of_what_was_declared_a_number_is_a_mistake() -> None:
    database = cantools.database.load_string(DBC, strict=False)
    place = CanSignalSource(bus="can0", message="SPEED", signal="SPEED", invert=True)
    _, (problem,) = build_decoder(database, {"trailer.speed": place}, declared={"trailer.speed": "number"})
    assert "not a boolean" in problem.message
