"""A network that takes matrices is refused before the start when the rig file does not hold its cameras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.config.rig_config import RigConfig, parse_config
from runtime.formats.documents import Document, DocumentError, load_document
from runtime.preflight import check_parts
from runtime.processes.runtime_openings import open_live_network
from runtime.rig import save_rig
from tests.runtime.inference.input_networks import calibrated_manifest, calibrated_network, rig_of
from tests.runtime.inference.tiny_networks import write_bundle

CAMERAS = ("front", "rear")


def _config(folder: Path, **more: object) -> tuple[RigConfig, Document]:
    write_bundle(folder / "model", calibrated_manifest(2), {"fp32": calibrated_network(2)})
    cameras = {
        name: {"source": {"kind": "zeromq", "address": f"tcp://127.0.0.1:{5571 + index}"}}
        for index, name in enumerate(CAMERAS)
    }
    path = folder / "config.yaml"
    path.write_text(
        json.dumps({"vehicle": {"id": "car"}, "cameras": cameras, "model": {"bundle": "./model"}, **more}, indent=1)
    )
    document = load_document(path)
    return parse_config(document), document


def test_without_a_rig_it_is_told_at_the_model(tmp_path: Path) -> None:
    config, document = _config(tmp_path)
    with pytest.raises(DocumentError, match=r"takes calibration .* no rig file") as caught:
        check_parts(config, document, ManualClock(0))
    line = document.path.read_text().splitlines().index(' "model": {') + 1
    assert caught.value.problems[0].line == line


def test_with_a_rig_that_lacks_a_camera_it_is_named(tmp_path: Path) -> None:
    save_rig(rig_of(CAMERAS[:1]), tmp_path / "rig.yaml")
    config, document = _config(tmp_path, rig="rig.yaml")
    with pytest.raises(DocumentError, match="does not know rear"):
        check_parts(config, document, ManualClock(0))


def test_with_its_cameras_it_runs(tmp_path: Path) -> None:
    save_rig(rig_of(CAMERAS), tmp_path / "rig.yaml")
    config, document = _config(tmp_path, rig="rig.yaml")
    check_parts(config, document, ManualClock(0))
    network = open_live_network(config, CAMERAS, None)
    assert network is not None
    assert network.description.threads_because.startswith("measured on")
    network.close()
