"""The rules that come with the software: each says why, fires in a test of its own, and stays silent in another."""

from __future__ import annotations

import pytest

from runtime.formats.documents import load_document
from triggers import library_path, load_rules, run_rule_tests
from triggers.rules.testing import RuleTestReport

LEAST_RULES = 60


@pytest.fixture(scope="module")
def report() -> RuleTestReport:
    return run_rule_tests([library_path()])


def test_every_shipped_test_passes(report: RuleTestReport) -> None:
    assert [str(result) for result in report.results if not result.passed] == []


def test_every_rule_fires_in_one_test_and_is_silent_in_another(report: RuleTestReport) -> None:
    rules = {rule.name for rule in load_rules([library_path()]).rules}
    assert len(rules) >= LEAST_RULES
    assert rules - {result.rule for result in report.results if result.fired_s} == set()
    assert rules - {result.rule for result in report.results if not result.fired_s} == set()


def test_every_rule_says_what_it_is_for() -> None:
    for rule in load_rules([library_path()]).rules:
        assert rule.description.endswith("."), rule.name
        assert len(rule.why) > 20, rule.name


def test_files_are_named_by_the_category_of_their_rules() -> None:
    for path in library_path().glob("*.yaml"):
        assert load_document(path).data.get("category", path.stem) == path.stem
