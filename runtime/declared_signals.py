"""Signals that a configuration declares, or a drive holds, as the rule language wants to know them."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.formats.signal_names import RecordedKind
from triggers.language.types import Type

_TYPE_OF_KIND: Mapping[RecordedKind, Type] = {
    "boolean": Type.BOOLEAN,
    "number": Type.NUMBER,
    "text": Type.TEXT,
    "any": Type.ANY,
}


def declared_types(declared: Mapping[str, RecordedKind] | None) -> dict[str, Type]:
    """The type of each declared signal."""
    return {name: _TYPE_OF_KIND[kind] for name, kind in (declared or {}).items()}
