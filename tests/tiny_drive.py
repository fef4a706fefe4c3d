"""A small real drive for tests: three H.264 cameras, signals at 20 Hz, a truth file, and rules with short clips.

Six seconds, with the controller engaged from 0.5 s on. The driver presses the gas at 2.0 s while it stays engaged, and
takes over with the brake at 3.0 s. The front and rear cameras run at 20 Hz, 4 ms apart; the side camera at 10 Hz.
"""

from __future__ import annotations

from pathlib import Path

from video_samples import scenes, write_video

START_NS = 100_000_000_000
SECOND_NS = 1_000_000_000
PERIOD_NS = SECOND_NS // 20
DURATION_S = 6.0
ENGAGED_S, GAS_S, TAKEOVER_S = 0.5, 2.0, 3.0
WIDTH, HEIGHT = 160, 120
#: Frames a second and nanoseconds after the drive's start, by camera.
CAMERAS = {"front": (20, 0), "rear": (20, 4_000_000), "side": (10, 9_000_000)}

DRIVE_YAML = """\
name: tiny
description: Six seconds with one takeover, made by a test.
cameras:
  front: {video: [front.mp4], timestamps: front.csv}
  rear: {video: [rear.mp4], timestamps: rear.csv}
  side: {video: [side.mp4], timestamps: side.csv}
signals:
  vehicle: vehicle.csv
  controller: controller.csv
truth: truth.csv
"""

RULES_YAML = """\
rules:
  - name: driver_takeover
    description: The controller was engaged and stops being engaged.
    when: falling(controller.enabled)
    operands: {braking: vehicle.brake_pressed}
    cooldown_s: 1
    capture: {pre_s: 1, post_s: 1}
    priority: high
  - name: gas_pressed
    description: The driver presses the gas while the controller stays engaged.
    when: rising(vehicle.gas_pressed) and controller.enabled
    cooldown_s: 1
    capture: {pre_s: 1, post_s: 0.5, cameras: [front]}
    priority: low
"""
FIRINGS = (("gas_pressed", GAS_S), ("driver_takeover", TAKEOVER_S))


def write_tiny_drive(folder: Path, *, with_cameras: bool = True) -> Path:
    """Write the drive; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        DRIVE_YAML if with_cameras else DRIVE_YAML.split("cameras:")[0] + "signals:" + DRIVE_YAML.split("signals:")[1]
    )
    (folder / "drive.yaml").write_text(text)
    _write_signals(folder)
    (folder / "truth.csv").write_text(f"elapsed_s,event,detail\n{TAKEOVER_S},driver_takeover,brake\n")
    if with_cameras:
        for camera, (rate_hz, offset_ns) in CAMERAS.items():
            write_camera(folder, camera, rate_hz, offset_ns)
    return folder


def write_rules(folder: Path) -> Path:
    """Write the rules that belong to the drive; returns their file."""
    path = folder / "rules.yaml"
    path.write_text(RULES_YAML)
    return path


def write_camera(folder: Path, camera: str, rate_hz: int, offset_ns: int) -> None:
    """One camera's video and capture times."""
    count = round(DURATION_S * rate_hz)
    write_video(folder / f"{camera}.mp4", scenes(count, WIDTH, HEIGHT), group=rate_hz // 2)
    times = (START_NS + offset_ns + index * SECOND_NS // rate_hz for index in range(count))
    (folder / f"{camera}.csv").write_text("mono_ns\n" + "".join(f"{time_ns}\n" for time_ns in times))


def _write_signals(folder: Path) -> None:
    vehicle = ["mono_ns,speed_mps,accel_mps2,steering_angle_deg,gas_pressed,brake_pressed,steering_pressed"]
    controller = ["mono_ns,enabled,lateral_active,longitudinal_active,accel_command_mps2,curvature_command_1pm"]
    for index in range(round(DURATION_S * 20) + 1):
        elapsed_s = index / 20
        time_ns = START_NS + index * PERIOD_NS
        gas = int(GAS_S <= elapsed_s < GAS_S + 0.4)
        brake = int(TAKEOVER_S - 0.1 <= elapsed_s < TAKEOVER_S + 1)
        engaged = int(ENGAGED_S <= elapsed_s < TAKEOVER_S)
        vehicle.append(f"{time_ns},15.0,0.0,0.0,{gas},{brake},0")
        controller.append(f"{time_ns},{engaged},{engaged},{engaged},0.0,0.0")
    (folder / "vehicle.csv").write_text("\n".join(vehicle) + "\n")
    (folder / "controller.csv").write_text("\n".join(controller) + "\n")
