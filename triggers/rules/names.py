"""What names a rule file may give: each must mean one thing wherever it stands in the file's expressions."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping

from runtime.formats.documents import Document, Problem
from triggers.language import populations, vocabulary
from triggers.language.types import Type
from triggers.rules.format import RuleFile

_NAMED = {"zones": "zone", "queries": "query", "classifiers": "classifier"}
_DERIVED_NAMESPACES = ("embedding", "classifier", "track", "object", "camera")


def name_problems(document: Document, file: RuleFile, declared: Mapping[str, Type]) -> Iterator[Problem]:
    """Names of the file that would mean two things."""
    taken = _taken(declared)
    for section, kind in _NAMED.items():
        taken |= dict.fromkeys(getattr(file, section), f"a {kind} of this file")
    for name in file.let:
        if name in taken:
            message = f"{name!r} is {taken[name]} already"
            yield document.problem(("let", name), message, "choose another name", at_key=True)


def _taken(declared: Mapping[str, Type]) -> dict[str, str]:
    names = {*vocabulary.SIGNALS, *declared}
    taken = {name.partition(".")[0]: "a namespace of signals" for name in names}
    taken |= dict.fromkeys((*vocabulary.OPEN_NAMESPACES, *_DERIVED_NAMESPACES), "a namespace of signals")
    taken |= dict.fromkeys(declared, "a signal")
    taken |= dict.fromkeys((*vocabulary.FUNCTIONS, *vocabulary.NAMED, *populations.QUANTIFIERS), "a function")
    for population in populations.Population:
        taken = dict.fromkeys(populations.FIELDS[population], f"a field of {population.title}") | taken
        taken = dict.fromkeys(populations.ITEM_FUNCTIONS[population], f"a function of {population.title}") | taken
    return taken | dict.fromkeys(keyword.kwlist, "a word of the language")
