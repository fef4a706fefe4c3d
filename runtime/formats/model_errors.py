"""Plain data -> a pydantic model, or every mistake at its line and column with a fix that can be typed.

Pydantic says *what* is wrong by a path into the model. This module maps that path back to the file (skipping the
steps that exist only in the model, such as the tags of unions), and adds what pydantic does not know: the nearest
allowed word, the key that was misspelt, what a missing key should look like. One mistake becomes one problem:
a misspelt required key is not reported as missing as well, and the branches of a union are told together.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from runtime.formats.problems import DocumentError, Mistake, Problem, nearest, suggest
from runtime.formats.yaml_nodes import Document, NodePath, has_step

Model = TypeVar("Model", bound=BaseModel)

_WHAT_TO_WRITE: Mapping[str, str] = {
    "string_type": "write text (numbers and true/false in quotes)",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number without a fraction",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "finite_number": "write a finite number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "list_type": "write a list: [a, b] or one '- entry' a line",
    "tuple_type": "write a list: [a, b] or one '- entry' a line",
    "set_type": "write a list: [a, b] or one '- entry' a line",
    "frozen_set_type": "write a list: [a, b] or one '- entry' a line",
    "dict_type": "write a mapping: 'key: value' pairs",
    "mapping_type": "write a mapping: 'key: value' pairs",
    "model_type": "write a mapping: 'key: value' pairs",
    "model_attributes_type": "write a mapping: 'key: value' pairs",
    "none_required": "write null",
    "path_type": "write a path",
}

#: Bounds: how to say them, and where pydantic keeps them.
_LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "too_short": ("at least", "min_length"),
    "too_long": ("at most", "max_length"),
    "string_too_short": ("a text of at least", "min_length"),
    "string_too_long": ("a text of at most", "max_length"),
}

_MESSAGES: Mapping[str, str] = {
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "must be a mapping"),
    "none_required": "must be empty",
}


def validate(
    document: Document, model_class: type[Model], at: Sequence[str | int] = (), context: Mapping[str, Any] | None = None
) -> Model:
    """The part of `document` at the path `at` as a `model_class`. `context` is handed to the model's validators.

    Validators may raise `Mistake` to name a fix and a place below their value. Unknown keys are problems wherever
    the model forbids them (`ConfigDict(extra="forbid")`).

    Raises:
        DocumentError: with all problems of that part.
    """
    try:
        return model_class.model_validate(document.at(at), context=dict(context or {}))
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise DocumentError(_Explainer(document, model_class, tuple(at)).problems(details)) from error


class _Explainer:
    """Turns pydantic's error details of one validation into problems."""

    def __init__(self, document: Document, model_class: type[BaseModel], at: NodePath) -> None:
        self.document = document
        self.model_class = model_class
        self.at = at

    def problems(self, details: Sequence[ErrorDetails]) -> list[Problem]:
        misspelt = self._misspelt_keys(details)
        details = [detail for detail in details if not _is_told_by_a_later_one(detail, details)]
        by_place: dict[tuple[NodePath, str], list[Problem]] = {}
        for detail in details:
            path = self._path_in_file(detail["loc"])
            if self._is_consequence(detail, path):
                continue
            if detail["type"] == "missing" and (path, str(detail["loc"][-1])) in misspelt:
                continue
            problem = self._problem(detail, path)
            merge_key = problem.message if detail["type"] in ("missing", "extra_forbidden") else ""
            by_place.setdefault((path, merge_key), []).append(problem)
        return [_one_of(problems) for problems in by_place.values()]

    def _path_in_file(self, location: tuple[int | str, ...]) -> NodePath:
        """Pydantic's location without the steps that are not in the file."""
        path = self.at
        for step, following in zip(location, (*location[1:], None), strict=False):
            node = self.document.at(path)
            if has_step(node, step) and not _is_tag(node, step, following):
                path = (*path, step)
        return path

    def _is_consequence(self, detail: ErrorDetails, path: NodePath) -> bool:
        """True for a list that pydantic calls too short only because its entries were refused, each with a problem."""
        written = self.document.at(path)
        at_least = (detail.get("ctx") or {}).get("min_length")
        return (
            detail["type"] == "too_short"
            and isinstance(written, list)
            and at_least is not None
            and len(written) >= at_least
        )

    def _misspelt_keys(self, details: Sequence[ErrorDetails]) -> set[tuple[NodePath, str]]:
        """The missing keys for which an unknown key in the same mapping was most likely meant."""
        meant = set()
        for detail in details:
            if detail["type"] == "extra_forbidden":
                path = self._path_in_file(detail["loc"])
                match = nearest(str(path[-1]), self._unused_keys(path[:-1]))
                if match is not None:
                    meant.add((path[:-1], match))
        return meant

    def _problem(self, detail: ErrorDetails, path: NodePath) -> Problem:
        kind = detail["type"]
        if kind == "missing" and isinstance(detail["loc"][-1], int):
            message = _with_subject("has too few values", path)
            return self.document.problem(path, message, f"write at least {detail['loc'][-1] + 1}")
        if kind == "missing":
            return self._missing(str(detail["loc"][-1]), path)
        if kind == "extra_forbidden":
            unknown = str(path[-1])
            fix = self._fix_of_unknown_key(unknown, path[:-1])
            return self.document.problem(path, f"unknown key {unknown!r}", fix, at_key=True)
        if kind in ("union_tag_not_found", "union_tag_invalid"):
            return self._union_tag(detail, path)
        at_key = detail["loc"][-1:] == ("[key]",)
        mistake = (detail.get("ctx") or {}).get("error")
        if isinstance(mistake, Mistake):
            path = (*path, *mistake.at)
            return self.document.problem(path, _with_subject(str(mistake), path), mistake.fix, at_key=at_key)
        if isinstance(mistake, ValueError):
            return self.document.problem(path, _with_subject(str(mistake), path), at_key=at_key)
        message = _MESSAGES.get(kind) or _as_predicate(detail["msg"])
        return self.document.problem(path, _with_subject(message, path), self._fix(detail), at_key=at_key)

    def _missing(self, key: str, path: NodePath) -> Problem:
        field = next((fields[key] for fields in self._fields(path) if key in fields), None)
        description = f"  # {field.description}" if field is not None and field.description else ""
        where = f" in {path[-1]!r}" if path and isinstance(path[-1], str) else ""
        message = f"key {key!r} is missing{where}"
        fix = f"add '{key}: {_example(field)}{description}'"
        return self.document.problem(path, message, fix, at_key=True)

    def _fix_of_unknown_key(self, unknown: str, path: NodePath) -> str:
        """The key that was meant; else all there are, the free ones first."""
        free = self._unused_keys(path)
        fix = suggest(unknown, free)
        present = sorted({key for fields in self._fields(path) for key in fields} - free)
        if nearest(unknown, sorted(free)) is not None or not present:
            return fix
        return f"{fix} (there already: {', '.join(present[:12])}{', …' if len(present) > 12 else ''})"

    def _union_tag(self, detail: ErrorDetails, path: NodePath) -> Problem:
        context = detail.get("ctx") or {}
        key = str(context.get("discriminator", "")).strip("'")
        expected = re.findall(r"'([^']*)'", str(context.get("expected_tags", ""))) or self._tags(path, key)
        if detail["type"] == "union_tag_not_found":
            message = f"key {key!r} is missing"
            return self.document.problem(path, message, f"add '{key}: …' with {_words(expected)}", at_key=True)
        tag = str(context.get("tag", ""))
        return self.document.problem((*path, key), f"unknown {key} {tag!r}", suggest(tag, expected))

    def _tags(self, path: NodePath, key: str) -> list[str]:
        tags = []
        for model in models_at(self.model_class, path[len(self.at) :]):
            if key in model.model_fields:
                tags += [str(value) for value in get_args(model.model_fields[key].annotation)]
        return tags

    def _fix(self, detail: ErrorDetails) -> str:
        context = detail.get("ctx") or {}
        kind = detail["type"]
        if kind in ("literal_error", "enum"):
            expected = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            given = detail.get("input")
            return suggest(given if isinstance(given, str) else "", expected)
        if kind in _LIMITS:
            word, key = _LIMITS[kind]
            return f"write {word} {context[key]:g}" if isinstance(context.get(key), (int, float)) else ""
        return _WHAT_TO_WRITE.get(kind, "")

    def _fields(self, path: NodePath) -> Iterator[Mapping[str, FieldInfo]]:
        """The fields, by the key that stands in the file, of every model that the mapping at `path` may be."""
        data = self.document.at(path)
        models = list(models_at(self.model_class, path[len(self.at) :]))
        fitting = [model for model in models if _tags_fit(model, data)] or models
        for model in fitting:
            yield {(field.alias or name): field for name, field in model.model_fields.items()}

    def _unused_keys(self, path: NodePath) -> set[str]:
        used = self.document.at(path)
        known = {key for fields in self._fields(path) for key in fields}
        return known - set(used if isinstance(used, Mapping) else ()) or known


def models_at(annotation: Any, path: Sequence[str | int]) -> Iterator[type[BaseModel]]:
    """Every model class that data at `path` below `annotation` may have to follow."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from models_at(get_args(annotation)[0], path)
    elif origin in (Union, types.UnionType):
        for branch in get_args(annotation):
            yield from models_at(branch, path)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
            return
        for name, field in annotation.model_fields.items():
            if path[0] == (field.alias or name):
                yield from models_at(field.annotation, path[1:])
    elif origin is not None and path:
        for argument in get_args(annotation):
            yield from models_at(argument, path[1:])


def _tags_fit(model: type[BaseModel], data: Any) -> bool:
    """False when a `Literal` field of `model` contradicts what the file says."""
    if not isinstance(data, Mapping):
        return True
    for name, field in model.model_fields.items():
        key = field.alias or name
        if get_origin(field.annotation) is Literal and key in data and data[key] not in get_args(field.annotation):
            return False
    return True


def _example(field: FieldInfo | None) -> str:
    """What a missing key's value could look like."""
    if field is None:
        return "…"
    if field.examples:
        return str(field.examples[0])
    if get_origin(field.annotation) is Literal:
        return str(get_args(field.annotation)[0])
    names = {str: "<text>", int: "<whole number>", float: "<number>", bool: "<true or false>"}
    return names.get(field.annotation, "…") if isinstance(field.annotation, type) else "…"


def _as_predicate(message: str) -> str:
    """Pydantic's sentence as what the key must do: "must be a valid number"."""
    return re.sub(", unable to .*", "", re.sub("^(Input|String|Value|List|Tuple|Dictionary) should", "must", message))


def _with_subject(message: str, path: NodePath) -> str:
    """Puts the name of the key before a message that is only a predicate."""
    names = [step for step in path if isinstance(step, str)]
    is_predicate = message.startswith(("must ", "is ", "cannot ", "has "))
    return f"{names[-1]!r} {message}" if names and is_predicate else message


def _words(words: Sequence[str]) -> str:
    return " or ".join(words) if words else "…"


def _is_tag(node: Any, step: int | str, following: int | str | None) -> bool:
    """True for pydantic's name of a union's branch where a key has that name too: `{kind: signal, signal: …}`."""
    if following is None or not isinstance(node, Mapping):
        return False
    return step in node.values() and not has_step(node[step], following)


def _is_told_by_a_later_one(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """True for an entry that a list lacks when it lacks the one behind it too: the last says how long it must be."""
    *place, last = detail["loc"] or ("",)
    if detail["type"] != "missing" or not isinstance(last, int):
        return False
    return any(other["type"] == "missing" and other["loc"] == (*place, last + 1) for other in details)


def _one_of(problems: Sequence[Problem]) -> Problem:
    """The branches of a union, told as one problem."""
    first = problems[0]
    messages = list(dict.fromkeys(problem.message for problem in problems))
    fixes = list(dict.fromkeys(problem.fix for problem in problems if problem.fix))
    return Problem(first.file, first.line, first.column, ", or ".join(messages), first.value, ", or ".join(fixes))
