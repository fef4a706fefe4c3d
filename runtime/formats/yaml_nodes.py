"""YAML text -> plain Python data in which every key and value still knows its line and column.

Stricter than PyYAML's loaders, because people write these files and mistakes must not turn into values:

- Scalars follow the YAML 1.2 core schema (`yaml_scalars`). Mapping keys are always text.
- A key that stands twice, an alias (`*name`: how small files grow to gigabytes), a tag (`!!python/…`) and a second
  document are problems. So is a file beyond `MAX_BYTES`, `MAX_NODES` or `MAX_DEPTH`; nothing is read beyond them.
- The text is read as a stream of events and never recursively, so that no input can exhaust the stack.

After a syntax error nothing that follows can be trusted: the problems up to and including it are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from runtime.formats.problems import NULL, DocumentError, Problem
from runtime.formats.yaml_scalars import plain_value

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 40

NodePath = tuple[str | int, ...]
Position = tuple[int, int]

_EVENT_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """A parsed file: `data` is plain Python (dict, list, str, int, float, bool, None)."""

    path: Path
    data: Any
    keys: Mapping[NodePath, Position] = field(repr=False, default_factory=dict)
    values: Mapping[NodePath, Position] = field(repr=False, default_factory=dict)

    def locate(self, path: Sequence[str | int]) -> Position:
        """Line and column of the value at `path`, or of its nearest ancestor that is in the file."""
        steps = tuple(path)
        while steps and steps not in self.values:
            steps = steps[:-1]
        return self.values.get(steps, (1, 1))

    def locate_key(self, path: Sequence[str | int]) -> Position:
        """Line and column of the key that names `path`; of the value where it has none (list items, the root)."""
        steps = tuple(path)
        while steps and steps not in self.values:
            steps = steps[:-1]
        return self.keys.get(steps) or self.locate(steps)

    def at(self, path: Sequence[str | int]) -> Any:
        """The data at `path`; None where the file has nothing there."""
        node = self.data
        for step in path:
            if not has_step(node, step):
                return None
            node = node[step]
        return node

    def problem(self, path: Sequence[str | int], message: str, fix: str = "", *, at_key: bool = False) -> Problem:
        """A problem with the value (or the key) at `path`, located and showing what stands there."""
        line, column = self.locate_key(path) if at_key else self.locate(path)
        value: object = None
        if tuple(path) in self.values and not at_key:
            found = self.at(path)
            value = NULL if found is None else found
        return Problem(str(self.path), line, column, message, value, fix)


def has_step(node: Any, step: str | int) -> bool:
    """True when `node` is a mapping with that key or a list with that index."""
    if isinstance(node, list):
        return isinstance(step, int) and 0 <= step < len(node)
    return isinstance(node, Mapping) and step in node


def load_document(path: str | Path) -> Document:
    """Read and parse one YAML file.

    Raises:
        DocumentError: the file is missing, unreadable, too large, or not YAML as described above.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        fix = "check the path" if isinstance(error, (FileNotFoundError, NotADirectoryError)) else ""
        raise DocumentError([Problem(str(path), 0, 0, f"cannot be read: {error.strerror}", None, fix)]) from error
    return parse_document(raw, path)


def parse_document(text: str | bytes, path: str | Path = "<text>") -> Document:
    """Parse YAML text; `path` is what problems name as the file. Raises DocumentError like `load_document`."""
    path = Path(path)
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        fix = "split it, or keep measured data in its own file"
        raise DocumentError([Problem(str(path), 0, 0, f"is larger than {MAX_BYTES} bytes", None, fix)])
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        bad_byte = f"0x{raw[error.start]:02x}"
        problem = Problem(str(path), line, column, "is not UTF-8 text", bad_byte, "save the file as UTF-8")
        raise DocumentError([problem]) from error
    builder = _Builder(path)
    builder.read(decoded)
    if builder.problems:
        raise DocumentError(builder.problems)
    return Document(path, builder.data, builder.keys, builder.values)


class _StopError(Exception):
    """Nothing after this point can be trusted; the reason is in the builder's problems."""


@dataclass
class _Open:
    """A mapping or list whose end has not been read yet."""

    path: NodePath
    container: dict[str, Any] | list[Any]
    key: str | None = None  # a mapping's key that waits for its value
    ignore_key: bool = False  # that key stood already: keep the first value
    duplicates: int = 0


class _Builder:
    """Turns the events of one document into data and positions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: Any = None
        self.keys: dict[NodePath, Position] = {}
        self.values: dict[NodePath, Position] = {}
        self.problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._nodes = 0
        self._documents = 0

    def read(self, text: str) -> None:
        """Consume the whole text, or stop at the first mistake behind which nothing can be trusted."""
        if self._unprintable(text):
            return
        try:
            for event in yaml.parse(text, Loader=_EVENT_LOADER):
                self._event(event)
        except _StopError:
            return
        except yaml.MarkedYAMLError as error:
            self._syntax_error(error)

    def _event(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(event, "a second document starts here", "keep one document: remove the '---'")
        elif isinstance(event, yaml.AliasEvent):
            self._stop(event, f"alias *{event.anchor} is not supported", "write the value out")
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._start(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._stack.pop()

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._count(event)
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.container, dict) and parent.key is None:
            self._key(parent, event)
            return
        self._place(event, self._scalar_value(event))

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._count(event)
        if event.tag is not None:
            self._tag(event, event.tag)
        if len(self._stack) >= MAX_DEPTH:
            self._stop(event, f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.container, dict) and parent.key is None:
            self._stop(event, "a mapping or list cannot be a key", "use text as the key, in quotes if it has braces")
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._place(event, container)
        self._stack.append(_Open(path, container))

    def _key(self, parent: _Open, event: yaml.ScalarEvent) -> None:
        key = str(event.value)
        parent.ignore_key = key in parent.container
        path = (*parent.path, key)
        position = _position(event)
        if parent.ignore_key:
            first_line, _ = self.keys[path]
            message = f"key {key!r} stands twice in this mapping (first in line {first_line})"
            self.problems.append(Problem(str(self.path), *position, message, None, "remove or rename one of them"))
        else:
            self.keys[path] = position
        parent.key = key

    def _place(self, event: yaml.Event, value: Any) -> NodePath:
        """Put a value where the innermost open container expects one; returns its path."""
        if not self._stack:
            self.data = value
            self.values[()] = _position(event)
            return ()
        parent = self._stack[-1]
        if isinstance(parent.container, list):
            path: NodePath = (*parent.path, len(parent.container))
            parent.container.append(value)
        elif parent.ignore_key:
            parent.duplicates += 1
            path = (*parent.path, f"{parent.key} (duplicate {parent.duplicates})")
        else:
            path = (*parent.path, str(parent.key))
            parent.container[str(parent.key)] = value
        parent.key = None
        self.values[path] = _position(event)
        return path

    def _scalar_value(self, event: yaml.ScalarEvent) -> Any:
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            self._tag(event, event.tag)
        is_quoted = event.style not in (None, "")
        if event.tag is not None or is_quoted:
            return event.value
        try:
            return plain_value(event.value)
        except OverflowError as error:
            self._stop(event, str(error), "put text in quotes")

    def _count(self, event: yaml.Event) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(event, f"has more than {MAX_NODES} values", "split it, or keep measured data in its own file")

    def _tag(self, event: yaml.Event, tag: str) -> None:
        self._stop(event, f"tag {tag} is not supported", "remove the tag; put text in quotes")

    def _stop(self, event: yaml.Event, message: str, fix: str) -> NoReturn:
        self.problems.append(Problem(str(self.path), *_position(event), message, None, fix))
        raise _StopError

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        message = "not YAML: " + ", ".join(part for part in (error.context, error.problem) if part)
        self.problems.append(Problem(str(self.path), line, column, message, None, _syntax_fix(error)))

    def _unprintable(self, text: str) -> bool:
        found = yaml.reader.Reader.NON_PRINTABLE.search(text)
        if found is None:
            return False
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - (text.rfind("\n", 0, found.start()) + 1) + 1
        message = f"not YAML: character U+{ord(found.group()):04X} may not stand in text"
        fix = "remove it, or write it as an escape in double quotes"
        self.problems.append(Problem(str(self.path), line, column, message, None, fix))
        return True


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)


def _syntax_fix(error: yaml.MarkedYAMLError) -> str:
    text = f"{error.context or ''} {error.problem or ''}"
    if "cannot start any token" in text:
        return "indent with spaces, never with tabs; put text that starts with @ % ` in quotes"
    if "mapping values are not allowed" in text:
        return "put text that contains ': ' in quotes, or check the indentation"
    if "flow sequence" in text or "flow mapping" in text:
        opened = f", opened in line {error.context_mark.line + 1}," if error.context_mark is not None else ""
        return f"close the bracket{opened} or put a ',' between its entries"
    if "expected <block end>" in text or "did not find expected" in text:
        return "check the indentation: entries of one mapping or list start in the same column"
    return "check quotes, brackets and indentation around this place"
