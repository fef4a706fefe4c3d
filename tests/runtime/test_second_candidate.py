"""A second network beside the first: what it says reaches rules, reports and recordings, and when it gives way."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS

from replay.backtest.runner import BacktestRequest, run_backtest
from replay.report import ReplayResult
from replay.session import ReplayRequest, replay_drive
from runtime.camera_views import Sight
from runtime.composition import ModelChoice, open_network, open_rules
from runtime.config.rig_config import load_config
from runtime.formats import topics
from runtime.formats.documents import DocumentError
from runtime.formats.mcap_files import McapTopicReader
from runtime.inference.network import Network
from runtime.inference.tracking import Tracker
from runtime.messages import Action, Comparison, Prediction, SecondLook
from runtime.recording.clip_file import open_clip, read_manifest
from runtime.recording.inspection import inspect_clip, print_summary
from runtime.recording.manifest import PROVENANCE_METADATA
from runtime.recording.verify import verify_clip
from runtime.second_candidate import BUDGET_SHARE, SecondCandidate, padding, why_it_does_not_fit
from runtime.signals.table import SignalTable

PERIOD_NS = 50_000_000
RULES = """rules:
  - {name: apart, description: A., when: abs(ab.accel_mps2) > 0.000001, cooldown_s: 100, capture: {pre_s: 1, post_s: 1}}
  - {name: both, description: B., when: known(shadow_b.accel_mps2) and known(diff_b.accel_mps2) and ab.lost_count == 0,
     cooldown_s: 100, capture: {pre_s: 1, post_s: 1}}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), len(CAMERAS))


def _replayed(drive: Path, folder: Path, model: Path, second: Path | None, **more: object) -> ReplayResult:
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    said = None if second is None else str(second)
    return replay_drive(ReplayRequest(drive, str(model), (str(rules),), second_model=said, **more))


def test_a_network_beside_itself_agrees_with_itself(tiny_drive: Path, tmp_path: Path, bundle: Path) -> None:
    result = _replayed(tiny_drive, tmp_path, bundle, bundle)
    assert [firing.rule for firing in result.firings] == ["both"]
    assert result.agreement["ab.accel_mps2"]["largest_absolute"] == 0.0
    assert result.agreement["diff_b.accel_mps2"] == result.agreement["diff.accel_mps2"]
    facts = result.to_json()
    assert facts["second_model"]["name"] == "tiny"
    assert facts["agreement"]["ab.accel_mps2"]["count"] > 0


def test_a_network_that_takes_other_images_gets_its_own(tiny_drive: Path, tmp_path: Path, bundle: Path) -> None:
    """The mean colour of a smaller image of the same scene is nearly, but not quite, the same."""
    small = write_tiny_bundle(tmp_path / "small", len(CAMERAS), height=12, width=20)
    result = _replayed(tiny_drive, tmp_path, bundle, small)
    apart = result.agreement["ab.accel_mps2"]
    assert apart["count"] == result.framesets
    assert 0.0 < apart["largest_absolute"] < 3.0
    assert {firing.rule for firing in result.firings} == {"both", "apart"}


def test_without_a_second_network_its_rules_are_told_and_not_run(
    tiny_drive: Path, tmp_path: Path, bundle: Path
) -> None:
    result = _replayed(tiny_drive, tmp_path, bundle, None)
    assert set(result.not_applicable) == {"apart", "both"}
    assert "no second network runs to give ab.accel_mps2" in result.not_applicable["apart"]
    lacking = open_rules(["library"])
    assert {"candidates_act_otherwise", "candidates_see_otherwise"} <= {rule.name for rule in lacking.rules}


def test_clips_hold_what_the_second_network_said(tiny_drive: Path, tmp_path: Path, bundle: Path) -> None:
    result = _replayed(tiny_drive, tmp_path, bundle, bundle, out_dir=tmp_path / "clips")
    (clip,) = set(result.clips.values())
    with McapTopicReader(clip) as reader:
        said = {
            message.topic: message.json() for message in reader.messages({topics.PREDICTION_B, topics.COMPARISON_B})
        }
        ticks = [message.json() for message in reader.messages({topics.TICK})]
    assert said[topics.PREDICTION_B]["control"]["accel_mps2"] is not None
    assert said[topics.COMPARISON_B]["values"]["ab.accel_mps2"] == 0.0
    assert any("diff_b.accel_mps2" in tick["signals"] for tick in ticks)
    with open_clip(clip) as manifest_reader:
        assert read_manifest(manifest_reader).provenance.second_model.name == "tiny"
        flat = manifest_reader.metadata()[PROVENANCE_METADATA]
    assert (flat["model_name"], flat["second_model_name"]) == ("tiny", "tiny")
    assert verify_clip(clip).problems == []
    shown = StringIO()
    print_summary(inspect_clip(clip), Console(file=shown, width=200))
    assert "beside it tiny" in shown.getvalue()


@pytest.mark.parametrize("source", ["run", "recorded"])
def test_a_backtest_finds_what_the_replay_found(tiny_drive: Path, tmp_path: Path, bundle: Path, source: str) -> None:
    """On the drive with both networks, and on a clip with what both are recorded to have said."""
    clips = _replayed(tiny_drive, tmp_path, bundle, bundle, out_dir=tmp_path / "clips").clips
    place = tiny_drive if source == "run" else next(iter(clips.values()))
    rules = (str(tmp_path / "rules.yaml"),)
    asked = BacktestRequest(rules, (place,), str(bundle), cache=tmp_path / "cache", predictions=source, jobs=1)
    with_both = run_backtest(replace(asked, second_model=str(bundle)))
    assert with_both.failures == []
    assert {rule.rule.name: rule.firings for rule in with_both.rules} == {"apart": 0, "both": 1}
    if source == "run":  # the cache keeps the ticks of one network apart from those of both
        alone = run_backtest(asked)
        assert {rule.rule.name: rule.firings for rule in alone.rules} == {"apart": 0, "both": 0}


def test_a_replay_with_two_networks_says_the_same_again(tiny_drive: Path, tmp_path: Path, bundle: Path) -> None:
    once, again = (_replayed(tiny_drive, tmp_path, bundle, bundle).to_json() for _ in range(2))
    for facts in (once, again):
        del facts["latency_ms"], facts["real_time_factor"]  # of this machine
    assert once == again
    assert once["firings"]


class _Asked:
    """A second candidate over a real network, with a stopwatch that the test turns."""

    def __init__(self, network: Network) -> None:
        self.now_ns = 0
        self.candidate = SecondCandidate(network, Tracker(network.cameras), PERIOD_NS, stopwatch=self._read)
        self._first = network.predict(padding(network), None, None)
        self._ticks = 0

    def _read(self) -> int:
        self.now_ns += 5_000_000
        return self.now_ns

    def look(self, spent_ns: int | None, first: Prediction | None = None) -> SecondLook | None:
        frameset = padding(self.candidate.network)
        self._ticks += 1
        frameset.time_ns = self._ticks * PERIOD_NS
        sight = Sight(frameset, np.ones(len(CAMERAS), np.bool_), (None,) * len(CAMERAS))
        signals = SignalTable({}).at(frameset.time_ns)
        comparison = Comparison(frameset.time_ns, Action(), Action(), {})
        return self.candidate.look(sight, first or self._first, comparison, signals, spent_ns)


def test_a_late_tick_goes_without_it_and_is_counted(bundle: Path) -> None:
    network = open_network(ModelChoice(bundle), tuple(CAMERAS))
    asked = _Asked(network)
    assert asked.look(spent_ns=0) is not None
    late_ns = round(BUDGET_SHARE * PERIOD_NS) - 4_000_000  # it took 5 ms the last time: no longer enough
    assert asked.look(spent_ns=late_ns) is None
    assert (asked.candidate.runs, asked.candidate.skipped) == (1, 1)
    assert asked.look(spent_ns=0) is not None
    assert asked.look(spent_ns=None) is not None  # a replay has no deadline
    network.close()


def test_two_networks_that_do_not_fit_into_a_period_are_refused_with_figures(bundle: Path) -> None:
    network = open_network(ModelChoice(bundle), tuple(CAMERAS))
    assert why_it_does_not_fit(network, network, period_ns=10_000_000_000) == ""
    reason = why_it_does_not_fit(network, network, period_ns=1)
    assert "tiny takes" in reason
    assert "lower tick.rate_hz" in reason
    network.close()


def test_a_second_model_needs_a_first(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("vehicle: {id: car}\nsecond_model: {bundle: hydra_mini}\nsignals: {sources: []}\n")
    with pytest.raises(DocumentError, match="there is a second model but no first one"):
        load_config(path)
