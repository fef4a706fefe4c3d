"""The commented examples are accepted as they are, and they show every setting there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from runtime.config import ReceiverConfig, RigConfig, load_config, load_receiver_config
from runtime.formats.documents import load_document

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_the_rig_example_is_accepted_as_it_is():
    config = load_config(DEPLOY / "rig.example.yaml")
    assert config.model is not None
    assert config.model.bundle.name == "hydra_mini"
    assert config.rules.files == ("library",)
    assert set(config.cameras) == {"front_main", "rear"}


def test_the_receiver_example_is_accepted_as_it_is():
    assert load_receiver_config(DEPLOY / "receiver.example.yaml").bind == "tcp://127.0.0.1:5588"


def sections(model: BaseModel) -> dict[str, BaseModel]:
    values = {name: getattr(model, name) for name in type(model).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, BaseModel)}


@pytest.mark.parametrize("section", ["", *sections(RigConfig.model_validate({"vehicle": {"id": "a"}}))])
def test_the_rig_example_shows_every_setting_with_its_default(section):
    defaults = RigConfig.model_validate({"vehicle": {"id": "dev-vehicle"}})
    shown = load_document(DEPLOY / "rig.example.yaml").data
    part = shown[section] if section else shown
    model = sections(defaults)[section] if section else defaults
    assert set(part) == set(type(model).model_fields)


def test_defaults_in_the_rig_example_are_the_real_ones():
    example = load_config(DEPLOY / "rig.example.yaml")
    defaults = RigConfig.model_validate({"vehicle": {"id": "dev-vehicle"}})
    for section in ("history", "recorder", "spool", "uplink", "realtime", "health", "rules"):
        assert getattr(example, section) == getattr(defaults, section), section


def test_the_receiver_example_shows_every_setting():
    assert set(load_document(DEPLOY / "receiver.example.yaml").data) == set(ReceiverConfig.model_fields)
