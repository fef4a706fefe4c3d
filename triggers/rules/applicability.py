"""Whether a rule can fire at all on this vehicle, found before it runs: one that never can is named, not left silent.

Every part of a condition has a set of outcomes that it can still have with what there is here (`Capabilities`):
`true`, `false` and, for numbers and text, `value`. An empty set is always unknown: a signal that no source gives, a
field that nothing computes, a population that does not exist. Kleene's logic carries the sets upwards: `a or b` can be
true when either can, `a and b` only when both can, and `is_true(a)` is false at least. A class or state that the model
does not know makes its comparison false, and a count over what is never true is 0, which is compared as such (see
`outcomes`). A rule is not applicable when its condition cannot be true; all that was found missing in it is then told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
from triggers.rules.outcomes import (
    CARRIED,
    COMPARISONS,
    FALSE,
    NEVER,
    TRUE,
    VALUE,
    Outcomes,
    any_outcome,
    exact_number,
)

#: Track fields that depend on the rig, its calibration or the model; the others are always there.
OPTIONAL_TRACK_FIELDS = frozenset(
    {
        "state", "border_px", "distance_m", "predicted_distance_m", "lateral_m", "lateral_speed_mps", "speed_mps",
        "predicted_speed_mps", "closing_speed_mps", "bearing_deg", "lane", "overlapping_cameras", "confirming_cameras",
        "confirming_gap_deg",
    }
)  # fmt: skip
#: Classes of a head whose probabilities are published; a head that has more may have any.
MAX_TOLD_CLASSES = 16
_IMAGE_FIELDS = frozenset({"luma", "luma_std", "dark_share", "bright_share", "sharpness", "misalignment_deg"})
_LEARNED = ("embedding", "classifier")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the running model, rig and sources can give. None: not known, so nothing is held against a rule."""

    heads: frozenset[str] = frozenset()  # scalars that the model publishes, without `heads.`
    heads_b: frozenset[str] = frozenset()  # the same of a second model, without `heads_b.`
    classes: frozenset[str] | None = None  # that tracks can have
    states: frozenset[str] | None = None  # that tracks can have
    track_fields: frozenset[str] = OPTIONAL_TRACK_FIELDS  # of these, those that can ever be known
    cameras: int = 0
    camera_names: frozenset[str] | None = None
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
        """What is missing, one reason a kind; where nothing is, the condition contradicts itself."""
        if not self.missing:
            return ("its condition can never be true",)
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
        if isinstance(node, Operation) and len(operands) == 1:
            self._note_exact(node, operands[0])
        if isinstance(node, Operation) and node.name in CARRIED:
            return CARRIED[node.name](*operands)
        if isinstance(node, Operation) and node.name in QUANTIFIERS:
            return self._quantifier(node, operands)
        if not all(operands):
            return NEVER
        return self._comparison(node)

    def _note_exact(self, node: Operation, operand: Outcomes) -> None:
        exact = exact_number(node.name, operand, self.exact.get(node.operands[0].key))
        if exact is not None:
            self.exact[node.key] = exact

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
        if isinstance(node, Operation) and node.name in COMPARISONS:
            left, right = (self.exact.get(operand.key) for operand in node.operands)
            if left is not None and right is not None:
                return TRUE if COMPARISONS[node.name](left, right) else FALSE
        return any_outcome(node)

    def _is_beyond_domain(self, node: Membership | Operation) -> bool:
        """Whether it compares a class, state or camera with nothing that there is."""
        if isinstance(node, Operation) and node.name not in ("==", "!="):
            return False
        fields = [each for each in node.operands if isinstance(each, (ItemField, SignalRead))]
        texts = node.choices if isinstance(node, Membership) else _constants(node)
        for each in fields:
            known = self._domain(each)
            if known is not None and texts and known.isdisjoint(map(str, texts)):
                self.missing.setdefault(_unheard_of(each), set()).update(map(str, texts))
                return True
        return False

    def _domain(self, field: ItemField | SignalRead) -> frozenset[str] | None:
        """The texts that a field or a head can have, where that is known."""
        capabilities, field_name = self.capabilities, field.name
        if isinstance(field, SignalRead):
            return self._classes_of_head(field) if field.type is Type.TEXT else None
        if field_name == "camera":
            return capabilities.camera_names
        if field.population is not Population.TRACKS:
            return None
        if field_name == "stands_on":
            return None if capabilities.classes is None else capabilities.classes | {""}
        return {"class_name": capabilities.classes, "state": capabilities.states}.get(field_name)

    def _classes_of_head(self, signal: SignalRead) -> frozenset[str] | None:
        """A classification head publishes `<head>_<class>_probability`; of very many classes only the first."""
        namespace, _, head = signal.name.partition(".")
        start, end = f"{head}_", "_probability"
        heads = self.capabilities.heads if namespace == "heads" else ()
        found = {name[len(start) : -len(end)] for name in heads if name.startswith(start) and name.endswith(end)}
        if not found or len(found) >= MAX_TOLD_CLASSES:
            return None
        return frozenset(found | {name.replace("_", " ") for name in found})

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
        if namespace == "heads_b":
            return None if rest in capabilities.heads_b else (_NO_SECOND, (name,))
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


def _unheard_of(field: ItemField | SignalRead) -> str:
    if isinstance(field, SignalRead):
        return f"{field.name} is never"
    return {"state": "the model has no state", "camera": "no camera is called"}.get(
        field.name, "the model has no class"
    )


_NO_SECOND = "no second network runs that gives"
_NO_NETWORK = "no network runs to give"
_NO_ITEMS = {
    Population.TRACKS: "there are no cameras to track in",
    Population.OBJECTS: "the controller publishes no objects",
    Population.CAMERAS: "there are no cameras",
}


def _constants(node: Operation) -> list[object]:
    return [operand.value for operand in node.operands if isinstance(operand, Constant)]
