"""Drive folders: what they say, what is wrong with them, and how a bad video leaves the others alone."""

import itertools
from pathlib import Path

import pytest
from video_samples import PERIOD_NS, scenes, write_video

from runtime.drives import DriveVideoError, open_drive
from runtime.formats.documents import DocumentError
from runtime.messages import NANOSECONDS_PER_SECOND

START_NS = 5_000_000_000


def write_folder(folder: Path, text: str, **tables: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "drive.yaml").write_text(text)
    for name, content in tables.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def frame_table(count: int, segments: int = 1) -> str:
    rows = ["segment,frame,start_of_frame_mono_ns"]
    for segment in range(segments):
        rows += [f"{segment},{frame},{START_NS + (segment * count + frame) * PERIOD_NS}" for frame in range(count)]
    return "\n".join(rows) + "\n"


VEHICLE = f"mono_ns,speed_mps,gas_pressed,gear\n{START_NS},1.5,0,drive\n{START_NS + 1_000_000_000},2.5,1,\n"


def test_signals_are_typed_by_their_canonical_names_and_merged_in_time(tmp_path: Path) -> None:
    controller = f"mono_ns,enabled,state\n{START_NS + 5},1,engaged\n"
    text = "name: d\nsignals: {vehicle: vehicle.csv, controller: controller.csv}\n"
    drive = open_drive(write_folder(tmp_path / "d", text, vehicle=VEHICLE, controller=controller))
    samples = [(sample.name, sample.time_ns - START_NS, sample.value) for sample in drive.signal_samples()]
    assert samples == [
        ("vehicle.speed_mps", 0, 1.5),
        ("vehicle.gas_pressed", 0, False),
        ("vehicle.gear", 0, "drive"),
        ("controller.enabled", 5, True),
        ("controller.state", 5, "engaged"),
        ("vehicle.speed_mps", 1_000_000_000, 2.5),
        ("vehicle.gas_pressed", 1_000_000_000, True),  # the empty gear cell is unknown, not ""
    ]
    assert (drive.start_ns, drive.end_ns) == (START_NS, START_NS + NANOSECONDS_PER_SECOND)
    assert drive.truth is None


def test_frames_have_the_capture_times_of_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for number in range(2):
        write_video(folder / f"front_{number}.mp4", scenes(10))
    text = "name: d\ncameras: {front: {video: [front_0.mp4, front_1.mp4], timestamps: frames.csv}}\n"
    drive = open_drive(write_folder(folder, text, frames=frame_table(10, segments=2)))
    packets = list(drive.cameras["front"].packets())
    assert [packet.time_ns for packet in packets] == [START_NS + index * PERIOD_NS for index in range(20)]
    assert [packet.sequence for packet in packets] == list(range(20))
    assert packets[0].is_key
    assert packets[10].is_key
    assert drive.cameras["front"].stream().rate_hz == pytest.approx(20.0)


def test_capture_times_follow_the_shown_order_when_pictures_are_reordered(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_video(folder / "front.mp4", scenes(12), b_frames=2)
    text = "name: d\ncameras: {front: {video: [front.mp4], timestamps: frames.csv}}\n"
    packets = list(open_drive(write_folder(folder, text, frames=frame_table(12))).cameras["front"].packets())
    times = [packet.time_ns for packet in packets]
    assert times != sorted(times)
    assert sorted(times) == [START_NS + index * PERIOD_NS for index in range(12)]


def test_a_filler_loops_on_the_drives_clock_until_the_drive_ends(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_video(folder / "filler.mp4", scenes(10), group=5)
    vehicle = f"mono_ns,speed_mps\n{START_NS},1\n{START_NS + 2 * NANOSECONDS_PER_SECOND},1\n"
    text = (
        "name: d\ncameras: {rear: {video: [filler.mp4], loop: true, offset_s: 0.3}}\nsignals: {vehicle: vehicle.csv}\n"
    )
    drive = open_drive(write_folder(folder, text, vehicle=vehicle))
    packets = list(drive.cameras["rear"].packets())
    assert [packet.time_ns for packet in packets] == [START_NS + index * PERIOD_NS for index in range(41)]
    keys = [index for index, packet in enumerate(packets) if packet.is_key]
    assert keys == list(range(0, 41, 5))  # it begins at the key frame before 0.3 s, which is the sixth picture
    assert drive.cameras["rear"].stream().free_running


def test_an_offset_beyond_the_end_of_a_loop_wraps_round(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_video(folder / "filler.mp4", scenes(10), group=5)
    base = (
        "name: d\nsignals: {vehicle: vehicle.csv}\ncameras: {rear: {video: [filler.mp4], loop: true, offset_s: %s}}\n"
    )
    wrapped = open_drive(write_folder(folder, base % "0.8", vehicle=VEHICLE))
    first = [packet.data for packet in wrapped.cameras["rear"].packets()]
    (folder / "drive.yaml").write_text(base % "0.3")
    assert first == [packet.data for packet in open_drive(folder).cameras["rear"].packets()]


def test_a_drive_of_videos_alone_starts_at_zero_and_lasts_as_long_as_the_longest(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_video(folder / "short.mp4", scenes(5))
    write_video(folder / "long.mp4", scenes(20))
    drive = open_drive(write_folder(folder, "name: d\ncameras: {a: {video: [short.mp4]}, b: {video: [long.mp4]}}\n"))
    assert (drive.start_ns, drive.duration_s) == (0, 1.0)
    assert len(list(drive.cameras["a"].packets())) == 5


def test_a_missing_video_is_a_fault_of_its_camera_only(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_video(folder / "good.mp4", scenes(5))
    text = "name: d\ncameras: {good: {video: [good.mp4]}, bad: {video: [gone.mp4]}}\nsignals: {vehicle: vehicle.csv}\n"
    drive = open_drive(write_folder(folder, text, vehicle=VEHICLE))
    assert len(list(drive.cameras["good"].packets())) == 5
    with pytest.raises(DriveVideoError, match=r"gone\.mp4.*missing"):
        drive.cameras["bad"].stream()
    with pytest.raises(DriveVideoError, match="missing"):
        list(drive.cameras["bad"].packets())


def test_a_truncated_video_gives_what_it_holds_and_then_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for number in range(2):
        write_video(folder / f"front_{number}.ts", scenes(10))
    first = folder / "front_0.ts"
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    text = "name: d\ncameras: {front: {video: [front_0.ts, front_1.ts], timestamps: frames.csv}}\n"
    drive = open_drive(write_folder(folder, text, frames=frame_table(10, segments=2)))
    with pytest.raises(DriveVideoError, match=r"front_0\.ts: holds \d frames, but 10 have capture times"):
        list(drive.cameras["front"].packets())
    packets = _until_error(drive.cameras["front"])
    times = [packet.time_ns for packet in packets]
    second_file = [START_NS + index * PERIOD_NS for index in range(10, 20)]
    assert times[-10:] == second_file  # what follows is in its right place
    assert 10 < len(times) < 20


def _until_error(camera: object) -> list[object]:
    packets = []
    try:
        for packet in camera.packets():
            packets.append(packet)
    except DriveVideoError:
        pass
    return packets


def test_a_file_that_is_no_video_is_a_fault(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "front.mp4").write_bytes(b"this is not a video" * 100)
    drive = open_drive(write_folder(folder, "name: d\ncameras: {front: {video: [front.mp4]}}\n"))
    with pytest.raises(DriveVideoError, match="is not a video"):
        list(drive.cameras["front"].packets())


def test_all_problems_of_a_bad_drive_are_reported_at_once_with_their_places(tmp_path: Path) -> None:
    text = """\
name: d
cameras:
  front: {video: [front.mp4], timestamps: frames.csv}
signals:
  vehicle: vehicle.csv
  controller: gone.csv
can:
  log: gone.log
  dbc: gone.dbc
  signals: {vehicle.speed_mps: {bus: can0, message: SPEED, signal: SPEED}}
truth: truth.csv
"""
    vehicle = "mono_ns,speed_mps,gas_pressed\n1,fast,0\nsoon,1,0\n3,1,perhaps\n"
    folder = write_folder(tmp_path / "d", text, vehicle=vehicle, frames="time\n1\n", truth="mono_ns,what\n1,x\n")
    with pytest.raises(DocumentError) as caught:
        open_drive(folder)
    found = {(Path(problem.file).name, problem.line) for problem in caught.value.problems}
    assert found == {
        ("frames.csv", 1),
        ("vehicle.csv", 2),
        ("vehicle.csv", 3),
        ("vehicle.csv", 4),
        ("gone.csv", 0),
        ("drive.yaml", 8),
        ("drive.yaml", 9),
        ("truth.csv", 1),
    }
    assert all(problem.fix for problem in caught.value.problems)


def test_unknown_keys_and_contradictions_are_located(tmp_path: Path) -> None:
    text = """\
name: d
cameras:
  front: {video: [a.mp4], timestamp: f.csv}
  rear: {video: [a.mp4], timestamps: f.csv, loop: true}
"""
    with pytest.raises(DocumentError) as caught:
        open_drive(write_folder(tmp_path / "d", text))
    assert [(problem.line, "timestamps" in problem.fix) for problem in caught.value.problems] == [(3, True), (4, True)]


def test_an_empty_folder_is_no_drive(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"drive\.yaml"):
        open_drive(tmp_path)


def test_a_table_with_many_bad_rows_reports_a_bounded_number(tmp_path: Path) -> None:
    vehicle = "mono_ns,speed_mps\n" + "x,1\n" * 1000
    with pytest.raises(DocumentError) as caught:
        open_drive(write_folder(tmp_path / "d", "name: d\nsignals: {vehicle: vehicle.csv}\n", vehicle=vehicle))
    assert len(caught.value.problems) == 20


def test_frames_that_the_table_skips_or_repeats_are_refused(tmp_path: Path) -> None:
    frames = f"segment,frame,start_of_frame_mono_ns\n0,0,{START_NS}\n0,2,{START_NS + 1}\n"
    text = "name: d\ncameras: {front: {video: [front.mp4], timestamps: frames.csv}}\n"
    with pytest.raises(DocumentError, match="not numbered"):
        open_drive(write_folder(tmp_path / "d", text, frames=frames))


@pytest.mark.real
def test_the_real_night_drive_is_read_whole(real_material: Path) -> None:
    drive = open_drive(real_material / "drives" / "model3_night")
    assert drive.duration_s == pytest.approx(178.0, abs=0.1)
    assert list(drive.cameras) == [
        "front", "front_wide", "front_left", "front_right", "left", "right", "rear_left", "rear",
    ]  # fmt: skip
    front = list(drive.cameras["front"].packets())
    assert len(front) == 3560
    assert front[0].time_ns == 524965559277
    truth = [(event.time_ns, event.event) for event in drive.truth or ()]
    assert truth[1] == (653969398395, "driver_takeover")
    enabled = {sample.value for sample in drive.signal_samples() if sample.name == "controller.enabled"}
    assert enabled == {True, False}
    for name in ("left", "rear", "front_wide"):
        times = [packet.time_ns for packet in drive.cameras[name].packets()]
        assert times[0] == drive.start_ns
        assert drive.end_ns - times[-1] < 200_000_000
        assert all(earlier < later for earlier, later in itertools.pairwise(times))
