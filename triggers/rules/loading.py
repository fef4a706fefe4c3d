"""Reads rule files: YAML, every problem of every file at once, each with file, line, column, value and fix.

rules:
  - name: hard_braking            # unique, small letters, digits, _
    description: …                # one sentence
    why: …                        # why the seconds are worth sending home
    when: vehicle.accel_mps2 < -4 # a condition of the rule language
    operands: {speed: vehicle.speed_mps}  # values to keep with the firing, beside the signals of the condition
    hold_s: 0.2                   # must stay true this long
    cooldown_s: 30                # then rests this long
    capture: {pre_s: 10, post_s: 5, cameras: [], topics: []}
    priority: normal              # safety > high > normal > low > background
    budget: {firings_per_hour: 20}
    sample: 1.0                   # keep a firing with this probability; written into the clip
tests: …                          # see `testing`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.formats.documents import Document, DocumentError, Problem, load_document, validate
from runtime.messages import CaptureWindow, Priority
from triggers.language.checking import CheckError, Scope, check
from triggers.language.expressions import Expression
from triggers.language.types import Type
from triggers.rules.rule import Budget, Rule, RuleSet

MAX_RULES = 10_000
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CaptureSection(_Section):
    """What a firing keeps."""

    pre_s: float = Field(default=10.0, ge=0, le=300)
    post_s: float = Field(default=5.0, ge=0, le=300)
    cameras: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


class BudgetSection(_Section):
    """How much a rule may send."""

    firings_per_hour: int | None = Field(default=None, ge=1, le=100_000)


class RuleSection(_Section):
    """One rule as it is written."""

    name: str = Field(pattern=NAME_PATTERN)
    description: str = Field(min_length=1, max_length=1000)
    why: str = Field(default="", max_length=2000)
    when: str
    operands: dict[str, str] = Field(default_factory=dict, max_length=32)
    hold_s: float = Field(default=0.0, ge=0, le=600)
    cooldown_s: float = Field(default=30.0, ge=0, le=86_400)
    capture: CaptureSection = CaptureSection()
    priority: Priority = Priority.NORMAL
    budget: BudgetSection = BudgetSection()
    sample: float = Field(default=1.0, gt=0, le=1)


class RuleFile(_Section):
    """A whole rule file."""

    category: str = ""
    let: dict[str, str] = Field(default_factory=dict, max_length=256)
    rules: tuple[RuleSection, ...] = Field(min_length=1, max_length=MAX_RULES)
    tests: tuple[dict[str, Any], ...] = ()


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
        reader = _RuleReader(document, file, declared or {})
        rules += reader.read(owners)
        problems += reader.problems
    if problems:
        raise DocumentError(problems)
    return RuleSet(tuple(rules))


class _RuleReader:
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
            owners[section.name] = str(self._document.path)
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
            capture=CaptureWindow(**section.capture.model_dump()),
            priority=section.priority,
            budget=Budget(section.budget.firings_per_hour),
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
            line, column = self._document.locate(path)
            for mistake in error.mistakes:
                self.problems.append(
                    Problem(
                        str(self._document.path),
                        line,
                        column + mistake.offset,
                        mistake.message,
                        mistake.value,
                        mistake.fix,
                    )
                )
            return None
