"""What rule files call by name: queries and learned triggers, `let` names over items, scores and quotas."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from rule_ticks import SECOND, Signals, make_track

from runtime.formats.documents import DocumentError
from triggers import Rule, RuleEngine, RuleSet, load_rules
from triggers.language.expressions import signals_read

HEAD = "rules:\n  - name: probe\n    description: A probe.\n"


def loaded(tmp_path: Path, text: str) -> RuleSet:
    (tmp_path / "rules.yaml").write_text(text)
    return load_rules([tmp_path / "rules.yaml"])


def rule_of(tmp_path: Path, text: str) -> Rule:
    return loaded(tmp_path, text).rules[0]


def test_query_from_a_file_and_from_the_rule_file_itself(tmp_path: Path) -> None:
    written = {"embedding": [0.5, -1e-3], "model": "hydra_mini", "model_sha256": "ab", "camera": "rear", "source": "x"}
    (tmp_path / "q.json").write_text(json.dumps(written, indent=2))
    queries = "queries:\n  tram: {file: q.json}\n  bus: {vector: [1, 2], model: other}\n"
    text = f'{queries}{HEAD}    when: embedding_distance("tram") < 0.2 or embedding_distance("bus") < 0.1\n'
    rules = loaded(tmp_path, text)
    assert rules.queries["tram"].vector == (0.5, -0.001)
    assert (rules.queries["tram"].model, rules.queries["tram"].camera) == ("hydra_mini", "rear")
    assert (rules.queries["bus"].vector, rules.queries["bus"].camera) == ((1.0, 2.0), None)
    assert signals_read(rules.rules[0].when) == ("embedding.bus", "embedding.tram")


def test_distance_and_probability_are_signals_that_a_test_can_give(tmp_path: Path) -> None:
    (tmp_path / "c.onnx").write_bytes(b"network")
    learned = "queries: {tram: {vector: [1], model: m}}\nclassifiers: {debris: {file: c.onnx}}\n"
    rules = loaded(
        tmp_path, f'{learned}{HEAD}    when: embedding_distance("tram") < 0.2 and classifier("debris") > 0.9\n'
    )
    assert rules.classifiers["debris"].sha256 == hashlib.sha256(b"network").hexdigest()
    engine = RuleEngine(rules, seed=0)
    fired = []
    for tick, distance in enumerate((0.5, 0.1)):
        signals = Signals({"embedding.tram": distance, "classifier.debris": 0.95})
        fired.append(len(engine.evaluate([], signals, tick * SECOND, tick * SECOND)))
    assert fired == [0, 1]


def test_queries_hold_for_all_files_that_are_loaded_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f'{HEAD}    when: embedding_distance("tram") < 0.2\n')
    (tmp_path / "b.yaml").write_text(
        f"queries: {{tram: {{vector: [1], model: m}}}}\n{HEAD.replace('probe', 'other')}    when: vehicle.bookmark\n"
    )
    assert len(load_rules([tmp_path]).rules) == 2
    with pytest.raises(DocumentError, match="no query is called 'tram'"):
        load_rules([tmp_path / "a.yaml"])


def test_version_follows_what_a_rule_calls_by_name(tmp_path: Path) -> None:
    def version(vector: str, when: str) -> str:
        return rule_of(tmp_path, f"queries: {{tram: {{vector: {vector}, model: m}}}}\n{HEAD}    when: {when}\n").version

    asks, other = 'embedding_distance("tram") < 1', "vehicle.bookmark"
    assert version("[1, 2]", asks) != version("[1, 3]", asks)
    assert version("[1, 2]", other) == version("[1, 3]", other)


def test_a_query_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    text = f'queries: {{tram: {{file: missing.json}}}}\n{HEAD}    when: embedding_distance("tram") < 1\n'
    with pytest.raises(DocumentError) as caught:
        loaded(tmp_path, text)
    assert len(caught.value.problems) == 1


def test_let_names_speak_of_items_inside_their_quantifiers(tmp_path: Path) -> None:
    lets = (
        "let:\n  vulnerable: class_name in ('pedestrian', 'cyclist')\n  near_one: vulnerable and distance_m < 10\n"
        "  dark: luma < 30\n"
    )
    rules = loaded(tmp_path, f"{lets}{HEAD}    when: any_track(near_one) and not is_true(any_camera(dark))\n")
    engine = RuleEngine(rules, seed=0)
    tracks = [make_track(class_name="cyclist", distance_m=5.0)]
    assert len(engine.evaluate(tracks, Signals({}), SECOND, SECOND)) == 1


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("near_one", "speaks of other items"),
        ("any_camera(near_one)", "speaks of other items"),
        ("any_track(near_on)", "unknown name 'near_on'"),
    ],
)
def test_let_names_over_items_mean_nothing_elsewhere(tmp_path: Path, when: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        loaded(tmp_path, f"let: {{near_one: displacement_px(1.0) < 10}}\n{HEAD}    when: {when}\n")


def test_let_name_with_a_mistake_tells_it_as_if_it_stood_in_the_likeliest_place(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        loaded(tmp_path, f"let: {{near_one: class_name == 'car' and lane == 3}}\n{HEAD}    when: vehicle.bookmark\n")
    (problem,) = caught.value.problems
    assert "is a number, but text is needed" in problem.message


def test_score_and_quota_are_part_of_the_rule(tmp_path: Path) -> None:
    rule = rule_of(
        tmp_path,
        f"{HEAD}    when: any_track(score > 0.5)\n    operands: {{weather: heads.weather}}\n"
        "    score: max_tracks(score, visible)\n    budget: {firings_per_hour: 3, by: weather}\n",
    )
    assert rule.score is not None
    assert rule.score.type.value == "a number"
    assert (rule.budget.firings_per_hour, rule.budget.by) == (3, "weather")
    assert rule.campaign == ""


def test_quota_may_go_by_a_signal_of_the_condition(tmp_path: Path) -> None:
    when = "    when: heads.weather == 'rain'\n    budget: {firings_per_hour: 3, by: heads.weather}\n"
    assert rule_of(tmp_path, HEAD + when).budget.by == "heads.weather"
