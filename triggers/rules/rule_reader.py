"""The rules of one file, from sections of text to checked expressions, with every mistake at its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property

from runtime.formats.documents import Document, Problem
from runtime.messages import CaptureWindow, ClipVariant
from triggers.language.checking import check
from triggers.language.expressions import Expression, signals_read
from triggers.language.mistakes import CheckError, TextMistake
from triggers.language.populations import Population
from triggers.language.scope import Scope
from triggers.language.types import Type
from triggers.rules.format import RuleFile, RuleSection
from triggers.rules.learned import ClassifierFile, EmbeddingQuery
from triggers.rules.memory import MAX_WINDOW_BYTES, WindowBudget
from triggers.rules.places import place_in_value
from triggers.rules.rule import Budget, Rule

MAX_PROBLEMS = 200  # of one file: nobody mends more at once, and each costs a search for what was meant


class RuleReader:
    """Checks the expressions of one file."""

    def __init__(
        self,
        document: Document,
        file: RuleFile,
        declared: Mapping[str, Type],
        queries: Mapping[str, EmbeddingQuery | None],
        classifiers: Mapping[str, ClassifierFile | None],
        budget: WindowBudget,
    ) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._file = file
        self._queries = queries
        self._classifiers = classifiers
        self._budget = budget
        self._names = Scope(
            declared,
            item_lets={population: {} for population in Population},
            zones={name: section.zone() for name, section in file.zones.items()},
            queries=queries,
            classifiers=classifiers,
        )

    def read(self, owners: dict[str, str]) -> list[Rule]:
        """The rules of the file; `owners` remembers which file has which name."""
        for name, text in self._file.let.items():
            self._let(name, text)
        rules = []
        for index, section in enumerate(self._file.rules):
            if len(self.problems) >= MAX_PROBLEMS:
                self._add(("rules", index), "is not read: the file has too many problems", "mend those above first")
                break
            if section.name in owners:
                message = f"rule {section.name!r} exists already, in {owners[section.name]}"
                self._add(("rules", index, "name"), message, "choose another name")
            owners.setdefault(section.name, str(self._document.path))
            rule = self._rule(index, section)
            rules += [rule] if rule is not None else []
        return rules

    # -- names of the file

    def _let(self, name: str, text: str) -> None:
        """A name for something known everywhere, or else for something inside quantifiers of some population."""
        try:
            self._names.lets[name] = check(text, self._scope(), Type.ANY)
        except CheckError as error:
            mistakes = [error.mistakes]
            for population in Population:
                try:
                    self._names.item_lets[population][name] = check(text, self._scope(), Type.ANY, population)
                except CheckError as item_error:
                    mistakes.append(item_error.mistakes)
            if len(mistakes) > len(Population):
                least = min(mistakes, key=len)
                self.problems += [self._problem(mistake, text, ("let", name)) for mistake in least]

    def _scope(self) -> Scope:
        """The names of the file; what types its signals have is learned anew by every rule."""
        names = self._names
        return Scope(names.declared, names.lets, {}, names.item_lets, names.zones, names.queries, names.classifiers)

    # -- rules

    def _rule(self, index: int, section: RuleSection) -> Rule | None:
        scope, before = self._scope(), len(self.problems)
        when = self._expression(section.when, ("rules", index, "when"), Type.BOOLEAN, scope)
        operands = {
            name: self._expression(text, ("rules", index, "operands", name), Type.ANY, scope)
            for name, text in section.operands.items()
        }
        score = None
        if section.score is not None:
            score = self._expression(section.score, ("rules", index, "score"), Type.NUMBER, scope)
        if when is None or len(self.problems) > before:
            return None
        found = {name: operand for name, operand in operands.items() if operand is not None}
        self._check_quota(index, section, when)
        self._check_memory(index, [when, *found.values(), *([score] if score is not None else [])])
        return Rule(
            name=section.name,
            description=section.description,
            why=section.why,
            category=self._file.category or self._document.path.stem,
            when=when,
            operands=found,
            hold_s=section.hold_s,
            cooldown_s=section.cooldown_s,
            rearm=section.rearm,
            capture=CaptureWindow(**section.capture.model_dump()),
            priority=section.priority,
            budget=Budget(**section.budget.model_dump()),
            sample=section.sample,
            version=self._version(section, [when, *found.values(), *([score] if score is not None else [])]),
            score=score,
        )

    def _check_quota(self, index: int, section: RuleSection, when: Expression) -> None:
        by = section.budget.by
        known = (*section.operands, *signals_read(when))
        if by is not None and by not in known:
            fix = f"use one of {', '.join(known[:12])}" if known else "add it to 'operands'"
            self._add(("rules", index, "budget", "by"), "is no operand of this rule", fix)

    def _check_memory(self, index: int, expressions: list[Expression]) -> None:
        if self._budget.fits_no_more(expressions):
            spent_mb, limit_mb = (size // 1024**2 for size in (self._budget.spent_bytes, MAX_WINDOW_BYTES))
            message = f"with this rule the windows of all rules need {spent_mb} MiB, more than {limit_mb} MiB"
            self._add(("rules", index, "when"), message, "use windows that other rules use too, or fewer per item")

    def _version(self, section: RuleSection, expressions: list[Expression]) -> str:
        """Changes whenever the rule means something else: its own text, and what it uses of the file's names."""
        read = sorted({name for expression in expressions for name in signals_read(expression)})
        learned = [
            str(query.vector) + query.model + str(query.camera)
            for name, query in self._queries.items()
            if query is not None and f"embedding.{name}" in read
        ]
        learned += [
            file.sha256 for name, file in self._classifiers.items() if file is not None and f"classifier.{name}" in read
        ]
        keys = [expression.key.hex() for expression in expressions]  # zones stand in them
        said = section.model_dump(mode="json")
        if section.capture.variant is ClipVariant.FULL:
            del said["capture"]["variant"]  # as rules were before there was a choice: they are the same rules still
        text = json.dumps([said, dict(self._file.let), keys, learned], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    # -- text to expressions

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

    def _add(self, path: tuple[str | int, ...], message: str, fix: str) -> None:
        self.problems.append(self._document.problem(path, message, fix))

    @cached_property
    def _lines(self) -> list[str]:
        """The file's text, to find a character of an expression in it."""
        return self._document.path.read_text(encoding="utf-8-sig").split("\n")
