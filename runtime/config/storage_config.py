"""Where a receiver keeps clips and their catalogue, and for how long: sections of `receiver.yaml`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from runtime.config.places import ExistingFile
from runtime.config.quantities import MarkedSeconds
from runtime.config.sources import Section
from runtime.formats.documents import Mistake
from runtime.messages import Priority

_OBJECTS = re.compile(r"(s3|gs|az|azure|abfss?)://[^\s/]+(/\S*)?")
_POSTGRESQL = re.compile(r"postgresql(\+psycopg)?://\S+")
_PASSWORD = re.compile(r"postgresql(\+psycopg)?://[^/\s@]*:[^/\s@]+@")


def object_place(value: object) -> str:
    """A bucket and a prefix in it."""
    if not isinstance(value, str) or not _OBJECTS.fullmatch(value):
        raise Mistake("is no object storage", "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")
    return value


def catalogue_url(value: object) -> str:
    """A PostgreSQL database; its password stands elsewhere."""
    if not isinstance(value, str) or not _POSTGRESQL.fullmatch(value):
        raise Mistake("is no PostgreSQL database", "write postgresql://USER@HOST/DATABASE")
    if _PASSWORD.match(value):
        raise Mistake("holds a password", "put it into a file of its own and name that in catalogue_password")
    return value


class ObjectStorageConfig(Section):
    """A bucket for the clips, with what its client has to know."""

    url: Annotated[str, BeforeValidator(object_place)] = Field(
        description="bucket and prefix", examples=["s3://fleet-clips/europe"]
    )
    options: dict[str, str | bool | int] = Field(
        default_factory=dict,
        description="obstore's options of that kind of store; nothing secret",
        examples=[{"region": "eu-central-1"}],
    )
    credentials: ExistingFile | None = Field(
        default=None, description="a file of secret options, mode 0600; null: the provider's own ways"
    )
    read_back: bool = Field(
        default=True, description="hash every stored object once more before the vehicle may delete"
    )


class RetentionConfig(Section):
    """When clips go. Durations name their unit (90d) and are counted from arrival; null: never."""

    clips: MarkedSeconds | None = Field(default=None, description="for priorities that are not named below")
    by_priority: dict[Priority, MarkedSeconds | None] = Field(
        default_factory=dict, description="per priority; null keeps those clips for good"
    )
    unfinished: MarkedSeconds | None = Field(default=30 * 86_400.0, description="clips that never came in whole")
