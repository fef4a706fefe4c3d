"""The example rule files that people copy: valid, and doing what their own tests say."""

from __future__ import annotations

from pathlib import Path

from triggers import load_rules, run_rule_tests

EXAMPLE = Path(__file__).parents[2] / "deploy" / "geofence.example.yaml"


def test_geofence_example_does_what_its_own_tests_say() -> None:
    report = run_rule_tests([EXAMPLE])
    assert report.passed, "\n".join(str(result) for result in report.results if not result.passed)
    assert {result.rule for result in report.results} == {rule.name for rule in load_rules([EXAMPLE]).rules}
