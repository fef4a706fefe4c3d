"""Range pulls in the receiver's catalogue: what people asked of vehicles, and what came of it.

| state | meaning |
|---|---|
| pending | the vehicle has not answered; it is asked again whenever it is connected |
| sealed | the vehicle sealed clip `n` for it, which comes like any other clip |
| refused | there will be none, for `reason` |
| expired | nobody answered in time |
| cancelled | nobody wants it any more |

Rows are made by `shadowrig pull`, answered by whichever receiver the vehicle talks to; a row that is not pending never
changes. The table lives in the catalogue's database, SQLite or PostgreSQL, and any number of receivers share it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, func, insert, select, update

from runtime.formats.pull_files import PullAnswer, PullRequest
from runtime.messages import Priority
from runtime.uplink.storage.tables import pulls

MAX_PENDING_A_VEHICLE = 64
MAX_LISTED = 1000


class TooManyPullsError(ValueError):
    """A request that the book does not take; the text says why."""


class Transactions(Protocol):
    """The catalogue's database: a connection whose transaction is durable when the block ends."""

    def writing(self) -> AbstractContextManager[Connection]: ...
    def reading(self) -> AbstractContextManager[Connection]: ...


@dataclass(frozen=True, slots=True)
class PullRow:
    """One request and what became of it."""

    vehicle: str
    request: PullRequest
    asked_wall_ns: int
    expires_wall_ns: int
    state: str
    reason: str
    n: int
    answered_wall_ns: int | None

    @property
    def is_open(self) -> bool:
        """True while an answer may come."""
        return self.state == "pending"


class PullBook:
    """The book of one catalogue; a `PullRequests` of the receiver."""

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._last_asked = ""

    # People

    def ask(self, vehicle: str, request: PullRequest, asked_wall_ns: int, expires_wall_ns: int) -> None:
        """Ask a vehicle for something. Raises TooManyPullsError when too much is asked of it already."""
        mine = (pulls.c.vehicle == vehicle) & (pulls.c.state == "pending")
        with self._database.writing() as connection:
            waiting = connection.execute(select(func.count()).select_from(pulls).where(mine)).scalar_one()
            if waiting >= MAX_PENDING_A_VEHICLE:
                raise TooManyPullsError(f"{waiting} pulls of {vehicle} wait already: cancel one (pull --cancel)")
            values = {**request.to_json(), "cameras": json.dumps(request.cameras)}
            times = {"asked_wall_ns": asked_wall_ns, "expires_wall_ns": expires_wall_ns}
            connection.execute(insert(pulls).values(vehicle=vehicle, **values, **times))

    def cancel(self, pull_id: str, wall_ns: int) -> bool:
        """Nobody wants it any more; False when it was settled already or never asked."""
        return self._settle((pulls.c.id == pull_id), "cancelled", "cancelled by the fleet", 0, wall_ns) > 0

    def find(self, pull_id: str) -> PullRow | None:
        """One request."""
        with self._database.reading() as connection:
            row = connection.execute(select(pulls).where(pulls.c.id == pull_id)).first()
        return None if row is None else _row(row)

    def listed(self, vehicle: str | None = None) -> list[PullRow]:
        """The newest requests, of one vehicle or of all, newest first."""
        question = select(pulls).order_by(pulls.c.asked_wall_ns.desc(), pulls.c.id).limit(MAX_LISTED)
        if vehicle is not None:
            question = question.where(pulls.c.vehicle == vehicle)
        with self._database.reading() as connection:
            return [_row(row) for row in connection.execute(question)]

    # The receiver

    def waiting(
        self, vehicles: Sequence[str], limit: int, wall_ns: int, asked_lately: Collection[str] = ()
    ) -> list[tuple[str, PullRequest]]:
        """What these vehicles are to be asked, but for requests of these ids. What is too old expires by this.

        At most `limit`, of as many vehicles as can have a turn, which go round: no number of requests that one vehicle
        leaves unanswered keeps another from being asked.
        """
        self._settle(pulls.c.expires_wall_ns <= wall_ns, "expired", "the vehicle did not answer in time", 0, wall_ns)
        is_due = (pulls.c.state == "pending") & pulls.c.id.not_in(asked_lately)
        with self._database.reading() as connection:
            waiting = {row.vehicle for row in connection.execute(select(pulls.c.vehicle).where(is_due).distinct())}
            turn = self._next_turn(sorted(waiting.intersection(vehicles)), limit)
            if not turn:
                return []
            order = func.row_number().over(partition_by=pulls.c.vehicle, order_by=(pulls.c.asked_wall_ns, pulls.c.id))
            ranked = select(pulls, order.label("place")).where(is_due & pulls.c.vehicle.in_(turn)).subquery()
            question = select(ranked).where(ranked.c.place <= limit // len(turn))
            rows = connection.execute(question.order_by(ranked.c.asked_wall_ns, ranked.c.id)).all()
        return [(row.vehicle, _row(row).request) for row in rows]

    def _next_turn(self, names: Sequence[str], limit: int) -> Sequence[str]:
        """The next so many of these names after those of the last turn, and on from the first."""
        begin = bisect_right(names, self._last_asked)
        turn = [*names[begin:], *names[:begin]][:limit]
        self._last_asked = turn[-1] if turn else self._last_asked
        return turn

    def answer(self, vehicle: str, answer: PullAnswer, wall_ns: int) -> None:
        """What a vehicle says; only about its own requests, and only once."""
        own = (pulls.c.id == answer.id) & (pulls.c.vehicle == vehicle)
        self._settle(own, answer.state, answer.reason, answer.n, wall_ns)

    def _settle(self, which: Any, state: str, reason: str, n: int, wall_ns: int) -> int:
        open_ones = which & (pulls.c.state == "pending")
        with self._database.reading() as connection:  # most often there is nothing to write, and a write costs a sync
            if connection.execute(select(pulls.c.id).where(open_ones).limit(1)).first() is None:
                return 0
        change = update(pulls).where(open_ones)
        with self._database.writing() as connection:
            return connection.execute(
                change.values(state=state, reason=reason.replace("\0", ""), n=n, answered_wall_ns=wall_ns)
            ).rowcount


def _row(row: Row[Any]) -> PullRow:
    request = PullRequest(
        row.id, tuple(json.loads(row.cameras)), int(row.start_ns), int(row.end_ns), row.clock, Priority(row.priority)
    )
    answered = None if row.answered_wall_ns is None else int(row.answered_wall_ns)
    times = int(row.asked_wall_ns), int(row.expires_wall_ns)
    return PullRow(row.vehicle, request, *times, row.state, row.reason, int(row.n), answered)
