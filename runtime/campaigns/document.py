"""`campaign.yaml`: what a campaign is, for whom, from when to when and how much it may cost.

name: winter_lights              # small letters, digits, _; the same for all versions
version: 3                       # goes up with every change; a vehicle never goes back
description: …                   # one sentence
vehicles: ["fleet-a-*", car-17]  # names or globs (* ? [...]) over vehicle ids, case matters
starts: 2026-01-01T00:00:00Z     # UTC; collects from here
expires: 2026-03-01T00:00:00Z    # and never after; at most two years later
budget: {firings_per_hour: 60, bytes_per_day: 1GB}  # for all its rules together; leave out for no limit
rules: [lights.yaml]             # rule files, relative to this file
classifiers: [learned/lights.onnx]      # files that the rules name: beside or below the rule file
queries: [learned/lights.json]
model: [model/model.yaml, model/network.onnx]       # a model bundle, its model.yaml first; leave out to keep the model
exclusion_zones: [clinics.yaml]  # places where vehicles seal no clip at all (deploy/PRIVACY.md); needs no rules
raw: [video, location]           # its own firings go home without blurring, and with the exact place

Every file of the campaign is listed here; whatever else lies in the folder is not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from runtime.campaigns.paths import is_safe_path
from runtime.formats.documents import Document, DocumentError, Mistake, Problem, load_document, validate
from triggers.rules.format import NAME_PATTERN, BudgetSection
from triggers.rules.rule import Budget

CAMPAIGN_FILE = "campaign.yaml"
MAX_VERSION = 1_000_000_000
MAX_FILES = 256
MAX_SELECTORS = 1000
LONGEST = timedelta(days=731)
#: Keys that list files.
FILE_KEYS = ("rules", "classifiers", "queries", "model", "exclusion_zones")


def _safe(value: str) -> str:
    if not is_safe_path(value):
        raise Mistake(
            "is not the path of a file of the campaign",
            "write a path below the campaign's folder: letters, digits, _ - . + @, no name beginning with a dot",
        )
    return value


def _selector(value: str) -> str:
    if not value or len(value) > 128 or any(character in value for character in "/\0\n"):
        raise Mistake("is not a vehicle selector", "write a vehicle id or a glob such as fleet-a-*")
    return value


FilePath = Annotated[str, AfterValidator(_safe)]
Selector = Annotated[str, AfterValidator(_selector)]


class CampaignSection(BaseModel):
    """The document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1, le=MAX_VERSION)
    description: str = Field(min_length=1, max_length=1000)
    vehicles: tuple[Selector, ...] = Field(min_length=1, max_length=MAX_SELECTORS)
    starts: datetime
    expires: datetime
    budget: BudgetSection = BudgetSection()
    rules: tuple[FilePath, ...] = Field(default=(), max_length=MAX_FILES)
    classifiers: tuple[FilePath, ...] = Field(default=(), max_length=MAX_FILES)
    queries: tuple[FilePath, ...] = Field(default=(), max_length=MAX_FILES)
    model: tuple[FilePath, ...] = Field(default=(), max_length=MAX_FILES)
    exclusion_zones: tuple[FilePath, ...] = Field(default=(), max_length=MAX_FILES)
    raw: tuple[Literal["video", "location"], ...] = Field(default=(), max_length=2)

    @field_validator("starts", "expires")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise Mistake("has no time zone", "write UTC, such as 2026-03-01T00:00:00Z")
        return value.astimezone(timezone.utc)


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign's document, checked. Times are wall time."""

    name: str
    version: int
    description: str
    vehicles: tuple[str, ...]
    starts_wall_ns: int
    expires_wall_ns: int
    budget: Budget
    rules: tuple[str, ...]
    classifiers: tuple[str, ...]
    queries: tuple[str, ...]
    model: tuple[str, ...]
    exclusion_zones: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()  # protections of privacy that its own firings go without

    @property
    def label(self) -> str:
        """What firings carry."""
        return f"{self.name}@{self.version}"

    @property
    def files(self) -> tuple[str, ...]:
        """Every file beside campaign.yaml."""
        return (*self.rules, *self.classifiers, *self.queries, *self.model, *self.exclusion_zones)

    def is_for(self, vehicle: str) -> bool:
        """Whether the selector names this vehicle."""
        return selects(self.vehicles, vehicle)

    def is_current(self, wall_ns: int) -> bool:
        """Whether it collects now."""
        return self.starts_wall_ns <= wall_ns < self.expires_wall_ns


def selects(selectors: tuple[str, ...], vehicle: str) -> bool:
    """Whether one of the names and globs matches the vehicle's id."""
    return any(fnmatchcase(vehicle, selector) for selector in selectors)


def load_campaign(folder: Path) -> Campaign:
    """Read and check `campaign.yaml` in `folder`. Raises DocumentError with every problem."""
    return _campaign(load_document(folder / CAMPAIGN_FILE))


def _campaign(document: Document) -> Campaign:
    section = validate(document, CampaignSection)
    problems = list(_contradictions(document, section))
    if problems:
        raise DocumentError(problems)
    return Campaign(
        name=section.name,
        version=section.version,
        description=section.description,
        vehicles=section.vehicles,
        starts_wall_ns=_wall_ns(section.starts),
        expires_wall_ns=_wall_ns(section.expires),
        budget=Budget(**section.budget.model_dump()),
        rules=section.rules,
        classifiers=section.classifiers,
        queries=section.queries,
        model=section.model,
        exclusion_zones=section.exclusion_zones,
        raw=section.raw,
    )


def _contradictions(document: Document, section: CampaignSection) -> Iterator[Problem]:
    if section.expires <= section.starts:
        yield document.problem(("expires",), "'expires' is not after 'starts'", "write a later date")
    if section.expires - section.starts > LONGEST:
        yield document.problem(("expires",), f"a campaign lasts at most {LONGEST.days} days", "write an earlier date")
    if not (section.rules or section.exclusion_zones):
        yield document.problem((), "a campaign without rules does nothing", "list 'rules' or 'exclusion_zones'")
    seen: dict[str, str] = {CAMPAIGN_FILE: "the campaign itself"}
    for key in FILE_KEYS:
        for index, path in enumerate(getattr(section, key)):
            if path in seen:
                yield document.problem((key, index), f"{path!r} is listed twice, also as {seen[path]}", "remove one")
            seen.setdefault(path, key)
    if len(seen) > MAX_FILES:
        yield document.problem((), f"a campaign has at most {MAX_FILES} files", "split it")
    if section.model and section.model[0].rpartition("/")[2] != "model.yaml":
        yield document.problem(("model", 0), "the first file of a model bundle is its model.yaml", "list it first")


def _wall_ns(value: datetime) -> int:
    return int(value.timestamp()) * 1_000_000_000 + value.microsecond * 1000
