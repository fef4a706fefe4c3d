"""Whether a rule can fire at all on this vehicle, found before it runs: one that never can is named, not left silent.

Every part of a condition has a set of outcomes that it can still have with what there is here (`Capabilities`):
`true`, `false` and, for numbers and text, `value`. An empty set is always unknown: a signal that no source gives, a
field that nothing computes, a population that does not exist. Kleene's logic carries the sets upwards: `a or b` can be
true when either can, `a and b` only when both can, and `is_true(a)` is false at least. A class or state that the model
does not know makes its comparison false, and a count over what is never true is 0, which is compared as such. A rule
is not applicable when its condition cannot be true; all that was found missing in it is then told.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from triggers.language.expressions import (
    Constant,
    Expression,
    ItemField,
    Membership,
    Operation,
    SignalRead,
    walk,
)
from triggers.language.populations import QUANTIFIERS, Population
from triggers.language.types import Type

Outcomes: TypeAlias = frozenset[str]

NEVER: Outcomes = frozenset()
TRUE: Outcomes = frozenset({"true"})
FALSE: Outcomes = frozenset({"false"})
EITHER: Outcomes = TRUE | FALSE
VALUE: Outcomes = frozenset({"value"})

#: Track fields that depend on the rig, its calibration or the model; the others are always there.
OPTIONAL_TRACK_FIELDS = frozenset(
    {
        "state", "border_px", "distance_m", "predicted_distance_m", "lateral_m", "lateral_speed_mps", "speed_mps",
        "predicted_speed_mps", "closing_speed_mps", "bearing_deg", "lane", "overlapping_cameras", "confirming_cameras",
        "confirming_gap_deg",
    }
)  # fmt: skip
_IMAGE_FIELDS = frozenset({"luma", "luma_std", "dark_share", "bright_share", "sharpness", "misalignment_deg"})
_LEARNED = ("embedding", "classifier")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the running model, rig and sources can give. None: not known, so nothing is held against a rule."""

    heads: frozenset[str] = frozenset()  # scalars that the model publishes, without `heads.`
    classes: frozenset[str] | None = None  # that tracks can have
    states: frozenset[str] | None = None  # that tracks can have
    track_fields: frozenset[str] = OPTIONAL_TRACK_FIELDS  # of these, those that can ever be known
    cameras: int = 0
    signals: frozenset[str] | None = None
    objects: bool = False  # the controller publishes an object list
    embedding_model: str | None = None  # whose embedding is there for queries and learned triggers
    has_images: bool = False  # images are decoded and a network looks at them
    absent: Mapping[str, str] = field(default_factory=dict)  # signals that the tick itself cannot give here, and why
    absent_camera_fields: Mapping[str, str] = field(default_factory=dict)  # the same for fields of cameras

    @property
    def only_network_is_missing(self) -> bool:
        """There are cameras, but nothing looks at their images."""
        return self.cameras > 0 and not self.has_images

    def has(self, population: Population) -> bool:
        """Whether there can be items of it."""
        if population is Population.OBJECTS:
            return self.objects
        return self.cameras > 0 and (self.has_images or population is Population.CAMERAS)


def missing_words(
    condition: Expression, capabilities: Capabilities, models: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """For want of what `condition` can never be true, in words; empty if it can. `models`: by query, who made it."""
    analysis = _Analysis(capabilities, models or {})
    for node in walk(condition):
        analysis.outcomes[node.key] = analysis.outcomes_of(node)
    return () if "true" in analysis.outcomes[condition.key] else analysis.reasons()


@dataclass
class _Analysis:
    """The outcomes of every part of one condition, and what was found missing."""

    capabilities: Capabilities
    models: Mapping[str, str]
    outcomes: dict[bytes, Outcomes] = field(default_factory=dict)
    exact: dict[bytes, float] = field(default_factory=dict)  # numbers that can only be this
    missing: dict[str, set[str]] = field(default_factory=dict)  # by the reason's words

    def reasons(self) -> tuple[str, ...]:
        """What is missing, one reason a kind."""
        return tuple(f"{reason} {', '.join(sorted(names))}".rstrip() for reason, names in sorted(self.missing.items()))

    def outcomes_of(self, node: Expression) -> Outcomes:
        """What `node` can be, from what its operands can be."""
        lack = self._lack(node)
        if lack is not None:
            self.missing.setdefault(lack[0], set()).update(lack[1])
            return NEVER
        operands = [self.outcomes[operand.key] for operand in node.operands]
        if isinstance(node, Constant):
            return self._constant(node)
        if isinstance(node, Operation) and node.name in _RULES:
            return _RULES[node.name](*operands)
        if isinstance(node, Operation) and node.name in QUANTIFIERS:
            return self._quantifier(node, operands)
        if not all(operands):
            return NEVER
        return self._comparison(node)

    def _constant(self, node: Constant) -> Outcomes:
        if isinstance(node.value, bool):
            return TRUE if node.value else FALSE
        if isinstance(node.value, float):
            self.exact[node.key] = node.value
        return VALUE

    def _quantifier(self, node: Operation, operands: list[Outcomes]) -> Outcomes:
        """Over no items a quantifier is known whatever its condition is; an aggregate never is."""
        kind, condition = QUANTIFIERS[node.name].kind, operands[-1]
        if kind == "any":
            return FALSE | (condition & TRUE)
        if kind == "all":
            return TRUE | (condition & FALSE)
        if kind == "count":
            if "true" not in condition:
                self.exact[node.key] = 0.0
            return VALUE
        return VALUE if "true" in condition and operands[0] else NEVER

    def _comparison(self, node: Expression) -> Outcomes:
        """A comparison whose result is certain, or anything else whose operands can be known."""
        if isinstance(node, (Membership, Operation)) and self._is_beyond_domain(node):
            return TRUE if isinstance(node, Operation) and node.name == "!=" else FALSE
        if isinstance(node, Operation) and node.name in _COMPARISONS:
            left, right = (self.exact.get(operand.key) for operand in node.operands)
            if left is not None and right is not None:
                return TRUE if _COMPARISONS[node.name](left, right) else FALSE
        return _any_outcome(node)

    def _is_beyond_domain(self, node: Membership | Operation) -> bool:
        """Whether it compares a track's class or state with nothing that the model knows."""
        if isinstance(node, Operation) and node.name not in ("==", "!="):
            return False
        fields = [
            each for each in node.operands if isinstance(each, ItemField) and each.population is Population.TRACKS
        ]
        texts = node.choices if isinstance(node, Membership) else _constants(node)
        for each in fields:
            known = self._domain(each.name)
            if known is not None and texts and known.isdisjoint(map(str, texts)):
                kind = "state" if each.name == "state" else "class"
                self.missing.setdefault(f"the model has no {kind}", set()).update(map(str, texts))
                return True
        return False

    def _domain(self, field_name: str) -> frozenset[str] | None:
        """The texts that a track's field can have, where that is known."""
        capabilities = self.capabilities
        if field_name == "stands_on":
            return None if capabilities.classes is None else capabilities.classes | {""}
        return {"class_name": capabilities.classes, "state": capabilities.states}.get(field_name)

    # -- what is not there at all

    def _lack(self, node: Expression) -> tuple[str, Iterable[str]] | None:
        """Why `node` is never known: words, and names to list behind them."""
        if isinstance(node, SignalRead):
            return self._signal_lack(node.name)
        if isinstance(node, ItemField):
            return self._field_lack(node)
        if isinstance(node, Operation) and node.name == "state_flips" and node.population is Population.TRACKS:
            return None if "state" in self.capabilities.track_fields else ("tracks never have", ("state",))
        if isinstance(node, Operation) and node.name in QUANTIFIERS:
            population = QUANTIFIERS[node.name].population
            if population is Population.TRACKS and self.capabilities.only_network_is_missing:
                return "no network runs, so nothing is tracked", ()
            return None if self.capabilities.has(population) else (_NO_ITEMS[population], ())
        return None

    def _signal_lack(self, name: str) -> tuple[str, Iterable[str]] | None:
        namespace, _, rest = name.partition(".")
        capabilities = self.capabilities
        if name in capabilities.absent:
            return capabilities.absent[name], (name,)
        if namespace in ("heads", *_LEARNED) and capabilities.only_network_is_missing:
            return _NO_NETWORK, (name,)
        if namespace == "heads":
            return None if rest in capabilities.heads else ("the model has no", (name,))
        if namespace in _LEARNED:
            return self._learned_lack(name)
        if capabilities.signals is not None and name not in capabilities.signals:
            return "no source gives", (name,)
        return None

    def _learned_lack(self, name: str) -> tuple[str, Iterable[str]] | None:
        running = self.capabilities.embedding_model
        if running is None:
            return "the model gives no embedding for", (name,)
        made_by = self.models.get(name)
        if made_by is not None and made_by != running:
            return f"the running model is {running}, another one made", (f"{name} ({made_by})",)
        return None

    def _field_lack(self, node: ItemField) -> tuple[str, Iterable[str]] | None:
        capabilities = self.capabilities
        if node.population is Population.TRACKS and node.name in OPTIONAL_TRACK_FIELDS - capabilities.track_fields:
            return "tracks never have", (node.name,)
        if node.population is Population.CAMERAS and node.name in _IMAGE_FIELDS and not capabilities.has_images:
            return "no network runs, so no images are decoded for", (node.name,)
        if node.population is Population.CAMERAS and node.name in capabilities.absent_camera_fields:
            return capabilities.absent_camera_fields[node.name], (f"{node.name} of cameras",)
        return None


_NO_NETWORK = "no network runs to give"
_NO_ITEMS = {
    Population.TRACKS: "there are no cameras to track in",
    Population.OBJECTS: "the controller publishes no objects",
    Population.CAMERAS: "there are no cameras",
}


def _constants(node: Operation) -> list[object]:
    return [operand.value for operand in node.operands if isinstance(operand, Constant)]


def _any_outcome(node: Expression) -> Outcomes:
    return EITHER if node.type is Type.BOOLEAN else VALUE | EITHER if node.type is Type.ANY else VALUE


def _and(left: Outcomes, right: Outcomes) -> Outcomes:
    return (left & right & TRUE) | ((left | right) & FALSE)


def _or(left: Outcomes, right: Outcomes) -> Outcomes:
    return ((left | right) & TRUE) | (left & right & FALSE)


def _not(operand: Outcomes) -> Outcomes:
    return (FALSE if "true" in operand else NEVER) | (TRUE if "false" in operand else NEVER)


def _if(condition: Outcomes, then: Outcomes, otherwise: Outcomes) -> Outcomes:
    return (then if "true" in condition else NEVER) | (otherwise if "false" in condition else NEVER)


def _known(operand: Outcomes) -> Outcomes:
    return EITHER if operand else FALSE


def _is_true(operand: Outcomes) -> Outcomes:
    return FALSE | (operand & TRUE)


def _same(operand: Outcomes) -> Outcomes:
    return operand


_RULES: Mapping[str, Callable[..., Outcomes]] = {
    "and": _and,
    "or": _or,
    "not": _not,
    "if": _if,
    "known": _known,
    "is_true": _is_true,
    "any_within": _same,
    "all_within": _same,
}

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
