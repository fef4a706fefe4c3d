"""Reads rule files (see `format`): every problem of every file at once, with file, line, column, value and fix.

Three passes: the files' shape; what rules call by name (queries and learned triggers hold for all files together);
then the expressions (see `rule_reader`). Each has bounds of its own, and a file that is mostly mistakes is left after
`MAX_PROBLEMS` of them, so that a hostile file costs bounded time and memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.formats.documents import Document, DocumentError, Problem, load_document, validate
from triggers.language.types import Type
from triggers.rules.format import RuleFile
from triggers.rules.learned import ClassifierFile, EmbeddingQuery, read_classifier, read_query
from triggers.rules.memory import WindowBudget
from triggers.rules.names import name_problems
from triggers.rules.rule import Rule, RuleSet
from triggers.rules.rule_reader import RuleReader
from triggers.rules.salvage import salvage


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
    loader = _Loader(declared or {})
    files = loader.open(rule_files(places))
    loader.read_learned(files)
    rules = loader.read_rules(files)
    if loader.problems:
        raise DocumentError(loader.problems)
    return RuleSet(tuple(rules), loader.queries, loader.classifiers)


class _Loader:
    """The state of one `load_rules`."""

    def __init__(self, declared: Mapping[str, Type]) -> None:
        self.problems: list[Problem] = []
        self.queries: dict[str, EmbeddingQuery] = {}
        self.classifiers: dict[str, ClassifierFile] = {}
        self._declared = declared
        self._wrong: list[tuple[Document, RuleFile]] = []  # of the wrong shape, read for the rest of their problems

    def open(self, paths: Sequence[Path]) -> list[tuple[Document, RuleFile]]:
        """The files that can be read and have the right shape."""
        files = []
        for path in paths:
            try:
                document = load_document(path)
            except DocumentError as error:
                self.problems += error.problems
                continue
            try:
                files.append((document, validate(document, RuleFile)))
            except DocumentError as error:
                self.problems += error.problems
                self._wrong += [(document, file) for file in [salvage(document)] if file is not None]
        return files

    def read_learned(self, files: Sequence[tuple[Document, RuleFile]]) -> None:
        """Queries and learned triggers of all files."""
        for document, file in files:
            for name, section in file.queries.items():
                try:
                    query = read_query(document, name, section)
                    self._add(document, ("queries", name), self.queries.setdefault(name, query) == query)
                except DocumentError as error:
                    self.problems += error.problems
            for name, classifier_section in file.classifiers.items():
                try:
                    found = read_classifier(document, name, classifier_section.file)
                    same = self.classifiers.setdefault(name, found).sha256 == found.sha256
                    self._add(document, ("classifiers", name), same)
                except DocumentError as error:
                    self.problems += error.problems

    def _add(self, document: Document, path: tuple[str, str], is_same: bool) -> None:
        if not is_same:
            message = f"{path[1]!r} exists already, with other content"
            self.problems.append(document.problem(path, message, "choose another name", at_key=True))

    def read_rules(self, files: Sequence[tuple[Document, RuleFile]]) -> list[Rule]:
        """The rules of all files."""
        rules: list[Rule] = []
        owners: dict[str, str] = {}
        budget = WindowBudget()
        # Names of what could not be read still count as known: one mistake is not told twice.
        every = [file for _, file in (*files, *self._wrong)]
        queries = {**dict.fromkeys(name for file in every for name in file.queries), **self.queries}
        classifiers = {**dict.fromkeys(name for file in every for name in file.classifiers), **self.classifiers}
        for document, file in (*files, *self._wrong):
            self.problems += name_problems(document, file, self._declared)
            reader = RuleReader(document, file, self._declared, queries, classifiers, budget)
            rules += reader.read(owners)
            self.problems += reader.problems
        return rules
