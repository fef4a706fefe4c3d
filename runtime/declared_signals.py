"""Signals beyond the canonical ones, as rules are told of them. Light: the uploader checks rules without a network."""

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


def declared_types(declared: Mapping[str, RecordedKind]) -> Mapping[str, Type]:
    """Declared signals in the words of the rule language."""
    return {name: _TYPE_OF_KIND[kind] for name, kind in declared.items()}
