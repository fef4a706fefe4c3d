"""Reads rule files (see `format`): every problem of every file at once, with file, line, column, value and fix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from runtime.formats.documents import Document, DocumentError, Problem, load_document, validate
from runtime.messages import CaptureWindow
from triggers.language.checking import check
from triggers.language.expressions import Expression
from triggers.language.mistakes import CheckError, TextMistake
from triggers.language.scope import Scope
from triggers.language.types import Type
from triggers.rules.format import RuleFile, RuleSection
from triggers.rules.places import place_in_value
from triggers.rules.rule import Budget, Rule, RuleSet


def library_path() -> Path:
    """The folder of the rules that come with the software."""
    return Path(__file__).resolve().parents[1] / "library"


def rule_files(places: Sequence[Path | str]) -> list[Path]:
    """The files that `places` name: files themselves, and every .yaml in folders. Raises DocumentError."""
    files: list[Path] = []
    problems: list[Problem] = []
    for place in map(Path, places):
        found = sorted(place.glob("*.yaml")) if place.is_dir() else [place]
        files += found
        if not found:
            problems.append(Problem(str(place), 0, 0, "holds no .yaml file", None, "name a rule file or its folder"))
    if problems:
        raise DocumentError(problems)
    return files


def load_rules(places: Sequence[Path | str], declared: Mapping[str, Type] | None = None) -> RuleSet:
    """Load rule files. `declared` names signals beyond the canonical ones.

    Raises:
        DocumentError: with every problem of every file.
    """
    problems: list[Problem] = []
    rules: list[Rule] = []
    owners: dict[str, str] = {}
    for path in rule_files(places):
        try:
            document = load_document(path)
            file = validate(document, RuleFile)
        except DocumentError as error:
            problems += error.problems
            continue
        reader = RuleReader(document, file, declared or {})
        rules += reader.read(owners)
        problems += reader.problems
    if problems:
        raise DocumentError(problems)
    return RuleSet(tuple(rules))


class RuleReader:
    """Checks the expressions of one file."""

    def __init__(self, document: Document, file: RuleFile, declared: Mapping[str, Type]) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._file = file
        self._declared = declared
        self._lets: dict[str, Expression] = {}

    def read(self, owners: dict[str, str]) -> list[Rule]:
        """The rules of the file; `owners` remembers which file has which name."""
        for name, text in self._file.let.items():
            found = self._expression(text, ("let", name), Type.ANY, Scope(self._declared, self._lets))
            if found is not None:
                self._lets[name] = found
        rules = []
        for index, section in enumerate(self._file.rules):
            if section.name in owners:
                message = f"rule {section.name!r} exists already, in {owners[section.name]}"
                self.problems.append(self._document.problem(("rules", index, "name"), message, "choose another name"))
            owners.setdefault(section.name, str(self._document.path))
            rule = self._rule(index, section)
            rules += [rule] if rule is not None else []
        return rules

    def _rule(self, index: int, section: RuleSection) -> Rule | None:
        scope = Scope(self._declared, self._lets)
        when = self._expression(section.when, ("rules", index, "when"), Type.BOOLEAN, scope)
        operands = {
            name: self._expression(text, ("rules", index, "operands", name), Type.ANY, scope)
            for name, text in section.operands.items()
        }
        if when is None or None in operands.values():
            return None
        return Rule(
            name=section.name,
            description=section.description,
            why=section.why,
            category=self._file.category or self._document.path.stem,
            when=when,
            operands={name: operand for name, operand in operands.items() if operand is not None},
            hold_s=section.hold_s,
            cooldown_s=section.cooldown_s,
            rearm=section.rearm,
            capture=CaptureWindow(**section.capture.model_dump()),
            priority=section.priority,
            budget=Budget(**section.budget.model_dump()),
            sample=section.sample,
            version=self._version(section),
        )

    def _version(self, section: RuleSection) -> str:
        """Changes whenever the rule means something else: its own text, and the file's shared names."""
        text = json.dumps([section.model_dump(mode="json"), dict(self._file.let)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _expression(self, text: str, path: tuple[str | int, ...], expected: Type, scope: Scope) -> Expression | None:
        try:
            return check(text, scope, expected)
        except CheckError as error:
            self.problems += [self._problem(mistake, text, path) for mistake in error.mistakes]
            return None

    def _problem(self, mistake: TextMistake, text: str, path: tuple[str | int, ...]) -> Problem:
        line, column = place_in_value(self._lines, *self._document.locate(path), text, mistake.offset)
        message = f"this {mistake.message}" if mistake.message.startswith(("is ", "has ")) else mistake.message
        return Problem(str(self._document.path), line, column, message, mistake.value or None, mistake.fix)

    @cached_property
    def _lines(self) -> list[str]:
        """The file's text, to find a character of an expression in it."""
        return self._document.path.read_text(encoding="utf-8-sig").split("\n")
