"""What the vehicle says of its campaigns: `status.json` on the shelf for people, and the same as a report home.

`active`: what the switch says, since when. `refusals`: the newest refusals, each once, with how often and when last.
`runtime`: what the runtime runs of it (a status file of its own, put in when it is there). Bounded throughout: the
report has to fit into one message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runtime.campaigns.outcome import Refusal, UpdateOutcome
from runtime.campaigns.shelf import ActiveCampaign, Shelf, read_bounded
from runtime.formats.durable_files import write_durably

MAX_REFUSALS = 50
MAX_REPORT_BYTES = 60_000
FORMAT = 1


class VehicleStatus:
    """Kept by the updating process; survives its restarts."""

    def __init__(self, shelf: Shelf, vehicle: str) -> None:
        self._shelf = shelf
        self._vehicle = vehicle
        self._facts = self._load()

    @property
    def facts(self) -> Mapping[str, Any]:
        """Everything that is known."""
        return self._facts

    def add(self, outcome: UpdateOutcome, active: list[ActiveCampaign]) -> None:
        """One look more. OSError when the disk refuses."""
        for refused in outcome.refusals:
            self._add_refusal(refused)
        self._facts["last_check"] = {"wall_ns": outcome.wall_ns, "succeeded": outcome.succeeded}
        if outcome.succeeded:
            self._facts["last_success_wall_ns"] = outcome.wall_ns
            self._facts["metadata"] = outcome.versions
        self._facts["taken"] = (self._facts["taken"] + outcome.taken)[-MAX_REFUSALS:]
        self._facts["ended"] = dict(list({**self._facts["ended"], **outcome.ended}.items())[-MAX_REFUSALS:])
        self._facts["active"] = [
            {"campaign": campaign.current.label, "since_wall_ns": campaign.since_wall_ns} for campaign in active
        ]
        write_durably(self._shelf.status_path, json.dumps(self._facts, indent=1).encode() + b"\n")

    def report(self, runtime: Mapping[str, Any] | None) -> bytes:
        """The report home, at most MAX_REPORT_BYTES: old refusals are left out first."""
        facts = {**self._facts, "runtime": runtime}
        while len(data := json.dumps(facts).encode()) > MAX_REPORT_BYTES and facts["refusals"]:
            facts["refusals"] = facts["refusals"][1:]
        if len(data) > MAX_REPORT_BYTES:  # nothing of the campaigns alone can be as large
            data = json.dumps({**self._facts, "refusals": [], "runtime": None}).encode()
        return data

    def _add_refusal(self, refused: Refusal) -> None:
        """The same refusal again only counts up, and moves to the end."""
        listed = self._facts["refusals"]
        same = [line for line in listed if (line["campaign"], line["reason"]) == (refused.campaign, refused.reason)]
        line = {
            "campaign": refused.campaign,
            "reason": refused.reason,
            "detail": refused.detail,
            "wall_ns": refused.wall_ns,
            "times": 1 + sum(line["times"] for line in same),
        }
        self._facts["refusals"] = [*(line for line in listed if line not in same), line][-MAX_REFUSALS:]

    def _load(self) -> dict[str, Any]:
        """The status of the last run; a fresh one when there is none that can be read: nothing is decided by it."""
        fresh: dict[str, Any] = {
            "format": FORMAT, "vehicle": self._vehicle, "active": [], "taken": [], "ended": {}, "refusals": [],
            "last_check": None, "last_success_wall_ns": None, "metadata": {},
        }  # fmt: skip
        try:
            found = json.loads(read_bounded(self._shelf.status_path) or b"{}")
            is_ours = all(type(found.get(key)) is type(value) for key, value in fresh.items() if value)
            is_ours = is_ours and all(type(found[key]) is list for key in ("active", "taken", "refusals"))
            is_ours = is_ours and type(found["ended"]) is dict
            is_ours = is_ours and all(type(line["times"]) is int for line in found["refusals"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return fresh
        return {**fresh, **found} if is_ours and found.get("vehicle") == self._vehicle else fresh
