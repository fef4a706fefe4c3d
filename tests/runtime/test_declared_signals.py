"""Signals that a configuration declares may be read wherever rules are loaded for it; others are mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.composition import open_rules
from runtime.config.rig_config import RigConfig, parse_config
from runtime.formats.documents import Document, DocumentError, load_document
from runtime.preflight import check_parts
from runtime.processes.campaign_pull import own_rules

RULES = "rules:\n  - {name: towing, description: T., when: trailer.is_attached and trailer.mass_kg > 750}\n"


def _config(tmp_path: Path, declared: dict[str, str]) -> tuple[RigConfig, Document]:
    (tmp_path / "rules.yaml").write_text(RULES)
    bench = {"kind": "zeromq", "address": "tcp://127.0.0.1:5571"}
    sections = {"signals": {"sources": [bench], "declared": declared}, "rules": {"files": ["rules.yaml"]}}
    path = tmp_path / "rig.yaml"
    path.write_text(json.dumps({"vehicle": {"id": "car"}, **sections}))
    document = load_document(path)
    return parse_config(document), document


def test_declared_signals_are_known_before_the_start_in_the_runtime_and_to_the_uploader(tmp_path: Path) -> None:
    config, document = _config(tmp_path, {"trailer.is_attached": "boolean", "trailer.mass_kg": "number"})
    check_parts(config, document, ManualClock(0))
    assert [rule.name for rule in own_rules(config).rules] == ["towing"]
    assert [rule.name for rule in open_rules(config.rules.files, config.signals.declared).rules] == ["towing"]


@pytest.mark.parametrize(
    ("declared", "words"),
    [({"trailer.is_attached": "boolean"}, "trailer.mass_kg"), ({"trailer.mass_kg": "text"}, "trailer.is_attached")],
)
def test_what_is_not_declared_or_of_another_kind_is_a_mistake(
    tmp_path: Path, declared: dict[str, str], words: str
) -> None:
    config, document = _config(tmp_path, declared)
    with pytest.raises(DocumentError, match=words):
        check_parts(config, document, ManualClock(0))
