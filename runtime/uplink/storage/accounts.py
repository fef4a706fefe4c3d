"""What each vehicle makes its receivers keep: one running account, so that no message makes anybody count rows.

The account is columns of the vehicle's row in `vehicles`. Whatever adds or removes something of a vehicle's does so in
a transaction that holds that row (`Database.lock_vehicle`), and books it there by what really changed (row counts), so
the account always equals a recount (`recount`, which is how an older catalogue gets its accounts).

Everything is charged to the vehicle's quota, at no less than it takes: a clip's bytes (a file takes at least one block
of the disk), its metadata, its rows with their index entries, each of its labels, and the numbers of clips that are
gone. What is charged is a function of the row alone, so that it is given back to the byte; a change of these constants
is a change of the schema.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from runtime.uplink.storage import tables
from runtime.uplink.storage.clip_facts import facts_of
from runtime.uplink.storage.limits import RefusedError, StoreLimits

BLOCK_BYTES = 4096
CLIP_ROW_BYTES = 2048
LABEL_ROW_BYTES = 512
#: A name stands in a label's row and in two indexes.
LABEL_COPIES = 3
NUMBER_ROW_BYTES = 512
#: A recount holds no more of them; PostgreSQL's client would otherwise take in all rows before the first.
ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Account:
    """One vehicle's. `clip_bytes` are those of stored clips; `highest_n` is 0 while nothing is known of the vehicle."""

    vehicle: str
    clips: int = 0
    clip_bytes: int = 0
    removed: int = 0
    tombstones: int = 0
    charged_bytes: int = 0
    highest_n: int = 0


def charge_of(size_bytes: int, metadata: str) -> int:
    """What one clip is charged, from its offer on."""
    facts = facts_of(metadata)
    names = [*facts.rules, *facts.campaigns]
    labels = sum(LABEL_ROW_BYTES + LABEL_COPIES * len(name.encode()) for name in names)
    return max(BLOCK_BYTES, size_bytes) + CLIP_ROW_BYTES + len(metadata.encode()) + labels


def charge_of_number(reason: str) -> int:
    """What the row of a number that is gone, or will never come, is charged."""
    return NUMBER_ROW_BYTES + len(reason.encode())


def account_of(connection: Connection, vehicle: str) -> Account:
    """The account as it stands; empty for a vehicle that never said anything."""
    row = connection.execute(select(tables.vehicles).where(tables.vehicles.c.vehicle == vehicle)).first()
    return Account(vehicle) if row is None else Account(**row._mapping)


def book(connection: Connection, vehicle: str, highest_n: int = 0, **changes: int) -> None:
    """Add to the account; the caller holds the vehicle's row."""
    table = tables.vehicles
    values = {name: table.c[name] + change for name, change in changes.items()}
    own = table.c.vehicle == vehicle
    connection.execute(update(table).where(own).values(values))
    if highest_n:
        connection.execute(update(table).where(own & (table.c.highest_n < highest_n)).values(highest_n=highest_n))


def check_number(account: Account, n: int, limits: StoreLimits) -> None:
    """Raises RefusedError for a number far beyond what is known; a vehicle that is new here may begin anywhere."""
    if account.highest_n and n > account.highest_n + limits.numbers_ahead:
        far = f"number {n} is more than {limits.numbers_ahead} beyond {account.highest_n}, the highest known"
        raise RefusedError("vehicle_quota", f"{far}: tell of those between first")


def check_clip(account: Account, size_bytes: int, metadata: str, limits: StoreLimits) -> None:
    """Raises RefusedError when the account has no room for one more clip."""
    wanted = charge_of(size_bytes, metadata)
    if account.charged_bytes + wanted > limits.vehicle_quota_bytes:
        detail = f"{account.charged_bytes} of {limits.vehicle_quota_bytes} bytes are taken, {wanted} more are wanted"
        raise RefusedError("vehicle_quota", detail)


def totals(connection: Connection) -> Account:
    """All accounts together; `vehicle` is empty, `highest_n` means nothing."""
    columns = [column for column in tables.vehicles.c if column.name not in ("vehicle", "highest_n")]
    sums = [func.coalesce(func.sum(column), 0).label(column.name) for column in columns]
    row = connection.execute(select(*sums)).one()
    return Account("", **{name: int(value) for name, value in row._mapping.items()})


def recount(connection: Connection) -> dict[str, Account]:
    """Every account, counted from the rows it is made of. For an older catalogue, and for tests."""
    sums: dict[str, dict[str, int]] = {}

    def add(vehicle: str, n: int, **changes: int) -> None:
        account = sums.setdefault(vehicle, {"highest_n": 0})
        account["highest_n"] = max(account["highest_n"], n)
        for name, change in changes.items():
            account[name] = account.get(name, 0) + change

    by_and_by = {"yield_per": ROWS_AT_ONCE}
    for table in (tables.clips, tables.partials):
        question = select(table.c.vehicle, table.c.n, table.c.size_bytes, table.c.metadata).execution_options(
            **by_and_by
        )
        for row in connection.execute(question):
            stored = {"clips": 1, "clip_bytes": int(row.size_bytes)} if table is tables.clips else {}
            charged = charge_of(int(row.size_bytes), row.metadata)
            add(row.vehicle, int(row.n), charged_bytes=charged, **stored)
    for table, name in ((tables.removed, "removed"), (tables.tombstones, "tombstones")):
        gone = select(table.c.vehicle, table.c.n, table.c.reason).execution_options(**by_and_by)
        for number in connection.execute(gone):
            add(number.vehicle, int(number.n), charged_bytes=charge_of_number(number.reason), **{name: 1})
    return {vehicle: Account(vehicle, **account) for vehicle, account in sums.items()}
