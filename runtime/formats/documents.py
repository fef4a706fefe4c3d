"""Files that people write (rig, drive, rules, model manifest): located YAML, and all mistakes at once.

    document = load_document("rig.yaml")             # strict YAML; DocumentError with every problem
    config = validate(document, RigConfig)           # a pydantic model; unknown keys and wrong values located
    raise DocumentError([document.problem(("tick", "rate_hz"), "is not positive", "write 20")])

Three small modules stand behind this one: `problems` (what a mistake is), `yaml_nodes` (text -> data that knows
its lines; bounds and what is refused) and `model_errors` (pydantic's errors, told in the file's own terms).
"""

from runtime.formats.model_errors import validate
from runtime.formats.problems import NULL, DocumentError, Mistake, Problem, nearest, show_value, suggest
from runtime.formats.yaml_nodes import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Document,
    NodePath,
    load_document,
    parse_document,
)

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "NULL",
    "Document",
    "DocumentError",
    "Mistake",
    "NodePath",
    "Problem",
    "load_document",
    "nearest",
    "parse_document",
    "show_value",
    "suggest",
    "validate",
]
