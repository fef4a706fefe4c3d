"""Learned triggers of a campaign, looked at by its author: with the embedding of the network that will run them."""

from __future__ import annotations

from pathlib import Path

from runtime.formats.documents import DocumentError, Problem
from triggers.rules.rule import RuleSet


def check_learned(rules: RuleSet, bundle: Path) -> None:
    """Open every query and classifier for the network in `bundle`. Raises DocumentError with every problem."""
    if not rules.queries and not rules.classifiers:
        return
    # Networks are opened only where a campaign brings something for them.
    from runtime.inference.bundle import load_bundle
    from runtime.inference.calibration_feed import stand_in_cameras, stand_in_rig
    from runtime.inference.learned import LearnedTriggers
    from runtime.inference.network import Network

    manifest = load_bundle(bundle).manifest
    cameras = stand_in_cameras(manifest)
    network = Network.open(bundle, cameras, rig=stand_in_rig(cameras))
    try:
        if network.embedding is None:
            text = "has no embedding that queries and classifiers could read"
            raise DocumentError([Problem(str(bundle), 0, 0, text, None, "name another with --model")])
        LearnedTriggers.open(rules, network.embedding)
    finally:
        network.close()
