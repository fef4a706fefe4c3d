"""Instants as people write and read them at the command line, by one rule.

A time of day carries its offset from UTC (`2026-11-20T08:30Z`, `2026-11-20T09:30+01:00`): what it would mean without
one depends on who reads it, and an erasure an hour beside the mark cannot be taken back. A date alone is the first
instant of that day in UTC, which is how days are counted everywhere here. Instants are nanoseconds since 1970 in 64
bits, which begin in 1677 and end in 2262.
"""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta, timezone

from runtime.messages import NANOSECONDS_PER_SECOND

#: What 64 bits of nanoseconds hold.
LAST_NS = 2**63 - 1
TIME_HELP = "from then on: 2026-11-20T08:30Z, or with another offset from UTC; a date is its first instant in UTC"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: What every Python of ours reads alike; newer ones know weeks and dates without dashes, too.
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def wall_time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 date or time. Raises argparse.ArgumentTypeError."""
    try:
        if not _DATE.match(text):
            raise ValueError("no date in front")
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-11-20T08:30Z or 2026-11-20") from error
    if found.tzinfo is None:
        if not _DATE.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text!r} has no offset from UTC: add Z or +01:00")
        found = found.replace(tzinfo=timezone.utc)
    wall_ns = (found - _EPOCH) // timedelta(microseconds=1) * 1000
    if abs(wall_ns) > LAST_NS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of the years 1678 to 2261: nanoseconds end there")
    return wall_ns


def iso(wall_ns: int | None, is_exact: bool = False) -> str:
    """A wall time for people, in UTC; `is_exact`: with the milliseconds that it has."""
    if wall_ns is None:
        return "time unknown        "
    whole_s, rest_ns = divmod(wall_ns, NANOSECONDS_PER_SECOND)
    fraction = f".{rest_ns // 1_000_000:03d}" if is_exact and rest_ns else ""
    return f"{datetime.fromtimestamp(whole_s, tz=timezone.utc):%Y-%m-%dT%H:%M:%S}{fraction}Z"
