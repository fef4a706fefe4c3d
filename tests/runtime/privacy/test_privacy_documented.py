"""deploy/PRIVACY.md names every reason and every setting that there is, and every test file that it leans on."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.config.privacy_config import BlurConfig, PrivacyConfig
from runtime.privacy.zones import load_zones

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "deploy" / "PRIVACY.md").read_text(encoding="utf-8")


def test_every_reason_of_a_refusal_is_in_the_table_and_no_other() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "runtime" / "privacy").glob("*.py"))
    used = set(re.findall(r'(?:_refused\(|SealingRefusal\(|ForbiddenTime\([^")]*)\s*"([a-z_]+)"', sources))
    table = TEXT.split("| reason |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) == used
    assert len(used) == 10


def test_every_setting_is_explained() -> None:
    example = (ROOT / "deploy" / "rig.example.yaml").read_text(encoding="utf-8")
    for name in (*PrivacyConfig.model_fields, *BlurConfig.model_fields):
        assert name in TEXT or f"{name}:" in example.split("privacy:")[1], name


def test_the_tests_that_hold_the_promises_are_there() -> None:
    named = set(re.findall(r"`(test_[a-z_]+\.py)`", TEXT))
    assert len(named) == 11
    for name in named:
        assert list((ROOT / "tests").rglob(name)), name


def test_the_example_of_zones_is_accepted_as_it_is() -> None:
    assert [zone.name for zone in load_zones(ROOT / "deploy" / "privacy_zones.example.yaml")] == ["home", "clinic"]
