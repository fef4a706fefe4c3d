"""What vehicles reported of their campaigns last, in the catalogue: one row a vehicle, whichever receiver it told.

A receiver alone keeps reports as files (`runtime.campaigns.serving`); receivers that share a catalogue keep them here.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import delete, insert, select

from runtime.uplink.storage import tables
from runtime.uplink.storage.database import Database


def record_report(database: Database, vehicle: str, report: bytes, wall_ns: int) -> None:
    """Keep a vehicle's report, which is a JSON object, instead of its last. Raises OSError."""
    text = json.dumps(json.loads(report))  # escapes what a database would not take, such as a zero character
    table = tables.campaign_reports
    with database.writing() as connection:
        database.lock_vehicle(connection, vehicle)
        connection.execute(delete(table).where(table.c.vehicle == vehicle))
        connection.execute(insert(table).values(vehicle=vehicle, received_wall_ns=wall_ns, report=text))


def reports(database: Database) -> list[dict[str, Any]]:
    """Every vehicle's last report, by name: `{"vehicle", "received_wall_ns", "report"}`."""
    table = tables.campaign_reports
    with database.reading() as connection:
        rows = connection.execute(select(table).order_by(table.c.vehicle)).all()
    return [
        {"vehicle": row.vehicle, "received_wall_ns": int(row.received_wall_ns), "report": json.loads(row.report)}
        for row in rows
    ]
