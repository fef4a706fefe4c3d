"""The format of rule files. Unknown keys are problems, and so is every value that is not what a key needs.

rules:
  - name: hard_braking            # unique, small letters, digits, _
    description: …                # one sentence
    why: …                        # why the seconds are worth sending home
    when: vehicle.accel_mps2 < -4 # a condition of the rule language
    operands: {speed: vehicle.speed_mps}  # values to keep with the firing, beside the signals of the condition
    hold_s: 0.2                   # must stay true this long
    cooldown_s: 30                # then rests this long
    rearm: edge                   # edge: one firing while the condition stays true; level: again once it has cooled
    capture: {pre_s: 10, post_s: 5, cameras: [], topics: [], variant: full}  # thumbnails: small pictures and signals
    priority: normal              # safety > high > normal > low > background
    budget: {firings_per_hour: 20, bytes_per_day: 500MB, by: weather}  # by: every value of this operand has the
                                  # firings an hour for itself
    sample: 1.0                   # keep a firing with this probability; written into the clip
    score: abs(diff.accel_mps2)   # under a byte budget the firings with the highest score are kept
let: {name: expression}           # optional: names for all expressions of the file; may use those above
zones:                            # optional: places for inside("depot"), of this file
  depot: {circle: {latitude_deg: 48.1, longitude_deg: 11.6, radius_m: 300}}
  old_town: {polygon: [[48.13, 11.56], [48.14, 11.56], [48.14, 11.58]]}  # latitude, longitude
queries:                          # optional: scenes for embedding_distance("tram"), of all files that are loaded
  tram: {file: tram.json}         # or {vector: [...], model: hydra_mini, camera: front_main}
classifiers:                      # optional: learned triggers for classifier("debris"), of all files that are loaded
  debris: {file: debris.onnx}
category: interventions           # optional: else the file's name
tests: …                          # see `testing`
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from runtime.formats.documents import Mistake
from runtime.messages import ClipVariant, Priority
from triggers.language.zones import MAX_CORNERS, Circle, Polygon, Zone, surrounds_pole

MAX_RULES = 10_000
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"

MAX_NAMES = 256  # of let names, zones, queries, classifiers of one file
MAX_VECTOR = 4096
#: Numbers as YAML has them: neither text that looks like one nor true, which would silently be 1.
Number = Annotated[float, Field(strict=True)]
WholeNumber = Annotated[int, Field(strict=True)]
#: One number of an embedding; networks give numbers around 1.
Component = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]


def _is_name(name: str) -> str:
    if re.fullmatch(NAME_PATTERN, name) is None:
        fix = "write up to 64 small letters, digits and _, a letter first, such as hard_braking"
        raise Mistake(f"is not a name: {name[:64]!r}", fix)
    return name


Name = Annotated[str, AfterValidator(_is_name)]


def _whole_expressions(value: object) -> object:
    """YAML ends a value inside { } at its first comma: say that, instead of what it leads to."""
    for name, text in value.items() if isinstance(value, dict) else ():
        if text is None and ")" in str(name):
            message = "is the rest of an expression: inside { } a comma begins the next name"
            raise Mistake(message, "put the expression in quotes", at=(str(name),))
    return value


def _is_topic(topic: str) -> str:
    """A topic that does not exist would be left out of every clip without a word: catch what cannot be one."""
    if topic.startswith("/camera/"):
        raise Mistake(f"is chosen with its camera: {topic[:64]!r}", "name the camera in 'cameras'")
    if re.fullmatch(r"/[a-z][a-z0-9_]{0,63}(/[a-z0-9_]{1,64}){0,3}", topic) is None:
        raise Mistake(f"is not a topic: {topic[:64]!r}", "write it with its slash, such as /vehicle or /prediction")
    return topic


Expressions = Annotated[dict[Name, str], BeforeValidator(_whole_expressions)]

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(B|kB|MB|GB)")
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


class Section(BaseModel):
    """What all parts of a rule file share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CaptureSection(Section):
    """What a firing keeps."""

    pre_s: Number = Field(default=10.0, ge=0, le=300)
    post_s: Number = Field(default=5.0, ge=0, le=300)
    cameras: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=64)
    topics: tuple[Annotated[str, AfterValidator(_is_topic)], ...] = Field(default=(), max_length=64)
    variant: ClipVariant = ClipVariant.FULL


class BudgetSection(Section):
    """How much a rule may send."""

    firings_per_hour: WholeNumber | None = Field(default=None, ge=1, le=100_000)
    bytes_per_day: WholeNumber | None = Field(default=None, ge=1, le=10**15)
    by: str | None = Field(default=None, min_length=1, max_length=64)

    @field_validator("bytes_per_day", mode="before")
    @classmethod
    def _read_size(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _quota_has_a_limit(self) -> BudgetSection:
        if self.by is not None and self.firings_per_hour is None:
            raise Mistake("'by' shares out firings_per_hour, which is missing", "add firings_per_hour")
        return self


class CircleSection(Section):
    """A circle on the map."""

    latitude_deg: Number = Field(ge=-90, le=90)
    longitude_deg: Number = Field(ge=-180, le=180)
    radius_m: Number = Field(gt=0, le=10_000_000)


class ZoneSection(Section):
    """A place on the map."""

    circle: CircleSection | None = None
    polygon: tuple[tuple[Number, Number], ...] | None = Field(default=None, min_length=3, max_length=MAX_CORNERS)

    @field_validator("polygon", mode="after")
    @classmethod
    def _corners_are_on_earth(cls, corners: tuple[tuple[float, float], ...] | None) -> object:
        for index, (latitude_deg, longitude_deg) in enumerate(corners or ()):
            if not (-90 <= latitude_deg <= 90 and -180 <= longitude_deg <= 180):
                raise Mistake("is not a place on Earth", "write [latitude, longitude] in degrees", at=(index,))
        if corners and surrounds_pole(corners):
            raise Mistake("goes around a pole", "draw it beside the pole, or use a circle")
        return corners

    @model_validator(mode="after")
    def _is_one_thing(self) -> ZoneSection:
        if (self.circle is None) == (self.polygon is None):
            raise Mistake("must have either 'circle' or 'polygon'", "write one of them")
        return self

    def zone(self) -> Zone:
        """The place."""
        return Polygon(self.polygon) if self.polygon is not None else Circle(**dict(self.circle or ()))


class QuerySection(Section):
    """A scene to look for: a file (see `learned`), or its embedding itself."""

    file: str | None = Field(default=None, min_length=1, max_length=255)
    vector: tuple[Component, ...] | None = Field(default=None, min_length=1, max_length=MAX_VECTOR)
    model: str | None = Field(default=None, min_length=1, max_length=64)
    camera: str | None = Field(default=None, min_length=1, max_length=64)

    @model_validator(mode="after")
    def _is_one_thing(self) -> QuerySection:
        if (self.file is None) == (self.vector is None):
            raise Mistake("must have either 'file' or 'vector'", "write one of them")
        if self.vector is not None and self.model is None:
            raise Mistake("says not which model made the vector", "add 'model'")
        if self.file is not None and (self.model is not None or self.camera is not None):
            raise Mistake("names model or camera beside a file, which names them itself", "remove them")
        return self


class ClassifierSection(Section):
    """A learned trigger: a small ONNX beside the rule file."""

    file: str = Field(min_length=1, max_length=255)


class RuleSection(Section):
    """One rule as it is written."""

    name: Name
    description: str = Field(min_length=1, max_length=1000)
    why: str = Field(default="", max_length=2000)
    when: str
    operands: Expressions = Field(default_factory=dict, max_length=32)
    hold_s: Number = Field(default=0.0, ge=0, le=600)
    cooldown_s: Number = Field(default=30.0, ge=0, le=86_400)
    rearm: Literal["edge", "level"] = "edge"
    capture: CaptureSection = CaptureSection()
    priority: Priority = Priority.NORMAL
    budget: BudgetSection = BudgetSection()
    sample: Number = Field(default=1.0, gt=0, le=1)
    score: str | None = None


class RuleFile(Section):
    """A whole rule file."""

    category: str = ""
    let: Expressions = Field(default_factory=dict, max_length=MAX_NAMES)
    zones: dict[Name, ZoneSection] = Field(default_factory=dict, max_length=MAX_NAMES)
    queries: dict[Name, QuerySection] = Field(default_factory=dict, max_length=MAX_NAMES)
    classifiers: dict[Name, ClassifierSection] = Field(default_factory=dict, max_length=MAX_NAMES)
    rules: tuple[RuleSection, ...] = Field(min_length=1, max_length=MAX_RULES)
    tests: tuple[dict[str, Any], ...] = ()


def parse_size(text: str) -> int:
    """`500MB` -> bytes (powers of ten)."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise Mistake("is not a size", "write a number and B, kB, MB or GB, such as 500MB")
    return round(float(found[1]) * _BYTES[found[2]])
