"""Runs the tests of rule files: each has its own engine with its own rule, and time that the test gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.formats.documents import Document, DocumentError, Problem, load_document
from runtime.messages import NANOSECONDS_PER_SECOND, Firing
from triggers.language.types import Type
from triggers.rules.loading import load_rules, rule_files
from triggers.rules.rule import Budget, Rule, RuleSet
from triggers.rules.testing.difference import describe_difference, headline
from triggers.rules.testing.format import TestSection, read_tests
from triggers.rules.testing.scene import scene_at
from triggers.rules.testing.tracing import engine_for, step, trace


@dataclass(frozen=True, slots=True)
class RuleTestResult:
    """What became of one test."""

    file: Path
    line: int
    name: str
    rule: str
    fired_s: tuple[float, ...]
    difference: str  # empty when the test passed; else a headline, and lines that explain it

    @property
    def passed(self) -> bool:
        """True when firings and operands are as expected."""
        return not self.difference

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        told = self.difference.replace("\n", "\n      ")
        place = f"\n      {self.file}:{self.line}: {told}" if self.difference else ""
        return f"{verdict}  {self.rule}: {self.name}{place}"


@dataclass(frozen=True, slots=True)
class RuleTestReport:
    """All results."""

    results: tuple[RuleTestResult, ...]

    @property
    def passed(self) -> bool:
        """True when every test passed."""
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        failed = sum(not result.passed for result in self.results)
        return f"{len(self.results) - failed} passed, {failed} failed"


def run_rule_tests(places: Sequence[Path | str], declared: Mapping[str, Type] | None = None) -> RuleTestReport:
    """Run the tests of every rule file in `places`. `declared` names signals beyond the canonical ones.

    Raises:
        DocumentError: with every problem of every file.
    """
    files, own = rule_files(places), declared or {}
    load_rules(files, own)  # all files together first, so that all their problems are told at once
    results: list[RuleTestResult] = []
    problems: list[Problem] = []
    for path in files:
        document, rules = load_document(path), load_rules([path], own)
        try:
            tests = read_tests(document, rules, own)
        except DocumentError as error:
            problems += error.problems
            continue
        results += [_run(document, index, rules, test, own) for index, test in enumerate(tests)]
    if problems:
        raise DocumentError(problems)
    return RuleTestReport(tuple(results))


def _run(
    document: Document, index: int, rules: RuleSet, test: TestSection, declared: Mapping[str, Type]
) -> RuleTestResult:
    rule = _as_tested(next(rule for rule in rules.rules if rule.name == test.rule), test)
    engine = engine_for((rule,), test)
    firings: list[Firing] = []
    for tick in range(round(test.duration_s * test.rate_hz) + 1):
        firings += step(engine, scene_at(test, tick))
    difference = headline(test, firings)
    if difference:
        difference = describe_difference(test, firings, trace(document, rules, rule, test, declared))
    fired_s = tuple(firing.time_ns / NANOSECONDS_PER_SECOND for firing in firings)
    line, _ = document.locate(("tests", index))
    return RuleTestResult(document.path, line, test.name, test.rule, fired_s, difference)


def _as_tested(rule: Rule, test: TestSection) -> Rule:
    """A test asks what the condition finds: sampling, budgets and scores stay out, unless it says `selection: true`."""
    return rule if test.selection else replace(rule, sample=1.0, budget=Budget(), score=None)
