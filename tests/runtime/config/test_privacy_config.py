from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.config import parse_config
from runtime.formats.documents import DocumentError, load_document
from runtime.preflight import check_parts
from runtime.privacy.clip_keys import new_clip_keys
from runtime.privacy.doctor import probe_lock, probe_privacy
from runtime.privacy.opening import check_privacy, privacy_rules

MINIMAL = "vehicle: {id: a}\ncameras:\n  front: {source: {kind: v4l2, device: /dev/video0}}\n"
WHOLE = """\
privacy:
  zones: [zones.yaml]
  zone_margin_m: 50
  without_fix: keep
  fix_timeout_s: 3s
  location: round
  location_decimals: 1
  location_signals: [gps.north_m]
  blur: {bundle: hydra_mini, classes: [pedestrian], cameras: [front], hold_s: 0.3}
  encryption: {recipients: [fleet.clips.public]}
  campaigns_may_lift: [video]
  keep_s: 30d
"""


def parse(folder: Path, text: str):
    path = folder / "rig.yaml"
    path.write_text(MINIMAL + text)
    document = load_document(path)
    return parse_config(document), document


def problems(folder: Path, text: str, check: bool = False) -> list[str]:
    def look() -> None:
        config, document = parse(folder, text)
        if check:
            check_privacy(config, document)

    with pytest.raises(DocumentError) as caught:
        look()
    return [f"{Path(problem.file).name}:{problem.line}: {problem.message}" for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    circle = "{latitude_deg: 56, longitude_deg: 18.5, radius_m: 100}"
    (tmp_path / "zones.yaml").write_text(f"zones:\n  clinic: {{circle: {circle}}}\n")
    new_clip_keys(tmp_path, "fleet")
    return tmp_path


def test_a_whole_section_becomes_the_rules(folder: Path) -> None:
    config, document = parse(folder, WHOLE)
    check_privacy(config, document)
    rules = privacy_rules(config)
    assert rules.zone_files == (folder / "zones.yaml",)
    assert (rules.zone_margin_m, rules.needs_fix, rules.fix_timeout_s) == (50.0, False, 3.0)
    assert (rules.location.mode, rules.location.decimals, rules.location.signals) == ("round", 1, ("gps.north_m",))
    assert rules.blur is not None
    assert (rules.blur.classes, rules.blur.settings.cameras, rules.blur.settings.hold_s) == (
        ("pedestrian",),
        ("front",),
        0.3,
    )
    assert (rules.recipients, rules.liftable) == ((folder / "fleet.clips.public",), ("video",))
    assert config.privacy.keep_s == 30 * 86_400
    found = probe_privacy(config)
    for part in (
        "1 excluded zones, keep without a fix",
        "location: round",
        "pedestrian blurred by",
        "locked for 1 key",
    ):
        assert part in found


def test_nothing_asked_for_means_that_clips_stay_as_they_are(folder: Path) -> None:
    rules = privacy_rules(parse(folder, "")[0])
    assert (rules.zone_files, rules.location.mode, rules.blur, rules.recipients) == ((), "keep", None, ())
    assert rules.needs_fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("privacy: {zones: [zone.yaml]}\n", "rig.yaml:4: .*zone.yaml cannot be used"),
        ("privacy: {location: coarse}\n", "rig.yaml:4: .*location"),
        ("privacy: {without_fix: ignore}\n", "rig.yaml:4: .*without_fix"),
        ("privacy: {zone_margin_m: -1}\n", "rig.yaml:4: .*zone_margin_m"),
        ("privacy: {blurr: null}\n", "rig.yaml:4: .*blur"),
        ("privacy: {blur: {bundle: faces}}\n", "rig.yaml:4: .*no bundled model is called 'faces'"),
        ("privacy:\n  blur: {bundle: hydra_mini, cameras: [frnt]}\n", "rig.yaml:5: the camera to blur is not one"),
        ("privacy: {encryption: {recipients: []}}\n", "rig.yaml:4: .*at least 1"),
        ("privacy: {encryption: {recipients: [gone.public]}}\n", "rig.yaml:4: .*gone.public cannot be used"),
        ("privacy: {campaigns_may_lift: [zones]}\n", "rig.yaml:4: .*campaigns_may_lift"),
        ("privacy: {location_signals: [north]}\n", "rig.yaml:4: .*location_signals"),
    ],
)
def test_a_mistake_is_told_at_its_line(folder: Path, text: str, expected: str) -> None:

    found = problems(folder, text)
    assert any(re.match(expected, line) for line in found), found


def test_what_the_files_hold_is_checked_before_anything_starts(folder: Path) -> None:
    (folder / "zones.yaml").write_text(
        "zones:\n  clinic: {circle: {latitude_deg: 560, longitude_deg: 18, radius_m: 1}}\n"
    )
    text = WHOLE.replace("[pedestrian]", "[pedestrain]").replace("fleet.clips.public", "fleet.clips.secret")
    found = "\n".join(problems(folder, text, check=True))
    assert "zones.yaml:2:" in found
    assert "rig.yaml:13: " in found  # the secret key
    assert "holds a secret key" in found
    assert "rig.yaml:12: nothing can be blurred" in found
    config, document = parse(folder, text)
    with pytest.raises(DocumentError) as caught:
        check_parts(config, document, SystemClock())
    assert "zones.yaml" in str(caught.value)
    with pytest.raises(ValueError, match="nothing can be blurred"):
        probe_privacy(config)


@pytest.mark.parametrize("name", ["WVWZZZ1JZXW000010", "1hgbh41jxmn109186", "5YJSA1E26HF000337"])
def test_a_vehicle_identification_number_is_no_pseudonym(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(MINIMAL.replace("id: a", f"id: {name}"))
    with pytest.raises(DocumentError, match="looks like a vehicle identification number") as caught:
        parse_config(load_document(path))
    assert caught.value.problems[0].line == 1


@pytest.mark.parametrize("name", ["car-17", "vehicle-7f3a", "fleet-a-berlin-0007", "testvehicleabcdef"])
def test_other_names_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(MINIMAL.replace("id: a", f"id: {name}"))
    assert parse_config(load_document(path)).vehicle.id == name


def test_the_doctor_locks_and_opens() -> None:
    assert "AES-256-GCM at" in probe_lock()
