"""Which bytes a catalogue describes: one depot, for good.

A receiver whose catalogue speaks of another place would drop what others hold, take names off the list of deletions
whose bytes lie elsewhere, and call their clips lost. So depot and catalogue carry one random name. The catalogue names
it first, then the depot takes it, then both count as agreed; cut short anywhere, the next start goes on.
"""

from __future__ import annotations

import secrets

from sqlalchemy import select, update

from runtime.uplink.storage import tables
from runtime.uplink.storage.database import CatalogueSetupError, Database
from runtime.uplink.storage.depot import IDENTITY_NAME, Depot


def agree(database: Database, depot: Depot) -> None:
    """A receiver starts. Raises CatalogueSetupError when these bytes are another catalogue's, or the other way.

    One that has its depot to itself takes the catalogue as well: the lock of a folder does not reach to a copy of it,
    nor through every network file system. CatalogueError while another one has it.
    """
    _agree(database, depot)
    if depot.is_exclusive:
        database.take_alone()


def _agree(database: Database, depot: Depot) -> None:
    table = tables.depot_identity
    with database.writing() as connection:
        named = {"only": 1, "identity": secrets.token_hex(16), "is_agreed": 0}
        connection.execute(database.insert_ignoring(table).values(named))
    with database.writing() as connection:
        row = connection.execute(select(table).with_for_update()).one()
        if row.is_agreed:
            _check(database, depot, row.identity)
            return
        found = depot.identity()
        if found is None:
            depot.take_identity(row.identity)
        elif found != row.identity:
            raise _other(database, depot, found, "has no depot yet")
        connection.execute(update(table).values(is_agreed=1))


def check_belongs(database: Database, depot: Depot) -> None:
    """Before a person changes what is stored. Raises CatalogueSetupError, and OSError when it cannot be seen now."""
    with database.reading() as connection:
        row = connection.execute(select(tables.depot_identity)).first()
    if row is None or not row.is_agreed:
        raise CatalogueSetupError(f"no receiver has used catalogue {database.label} yet (fix: start one first)")
    _check(database, depot, row.identity)


def _check(database: Database, depot: Depot, identity: str) -> None:
    found = depot.identity()
    if found != identity:
        raise _other(database, depot, found, f"has its bytes in the depot {identity}")


def _other(database: Database, depot: Depot, found: str | None, belongs: str) -> CatalogueSetupError:
    fix = "name the place and the catalogue that belong together; receivers that share a catalogue share a bucket"
    moved = f"if the bytes were really moved here, {IDENTITY_NAME} has to come with them"
    return CatalogueSetupError(
        f"catalogue {database.label} {belongs}, and {depot.label} is {found or 'none that a receiver has used'}"
        f" (fix: {fix}; {moved})"
    )
