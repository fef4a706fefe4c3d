"""The times at which the way of a clip is not known, or leads through or near an excluded place.

The way is read once, for the window that many firings share. What is found holds for each of them as if its own window
had been looked at alone, with the fixes that lie up to `reach_ns` around that:

    fix 0 ─────── fix 1 ─ ─ in a zone ─ ─ fix 2 ─────── fix 3      (straight lines in between)

a window that ends after fix 1 and begins before fix 2 has this way in it. Where fix 2 is the one in the zone, so has
one that begins before fix 3. Where two fixes are further apart than `reach_ns`, only a window that sees both has the
line between them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.privacy.trail import Fix, during, unknown_times, way_through
from runtime.privacy.zones import ExclusionZone
from runtime.recording.sealing_policy import ClipWindow, ForbiddenTime

#: The zone that a latitude and a longitude, in degrees, are in or near.
ZoneAt: TypeAlias = Callable[[float, float], ExclusionZone | None]


def unknown_places(fixes: Sequence[Fix], window: ClipWindow, is_cut_off: bool = False) -> Iterator[ForbiddenTime]:
    """Where no fix holds. An instant at which one ends, or another begins, is known.

    Where history is cut off before the window, so may be the fix that held at its start: it may begin with the next.
    """
    for from_ns, until_ns in unknown_times(fixes, window.start_ns, window.end_ns):
        unknown_s = (until_ns - from_ns) / NANOSECONDS_PER_SECOND
        at_s = (from_ns - window.start_ns) / NANOSECONDS_PER_SECOND
        detail = f"the place was not known for {unknown_s:.1f} s from {at_s:.1f} s on, and there are zones"
        spares_later = is_cut_off and from_ns == window.start_ns and until_ns < window.end_ns
        yield ForbiddenTime(from_ns + 1, until_ns - 1, "no_fix", detail, spares_later=spares_later)


def places_near(fixes: Sequence[Fix], window: ClipWindow, zone_at: ZoneAt, reach_ns: int) -> list[ForbiddenTime]:
    """Where the way between fixes comes near a zone, in order of time; what follows one another is one."""
    found: list[ForbiddenTime] = []
    for near in _each_near(during(fixes, window.start_ns, window.end_ns), window, zone_at, reach_ns):
        last = found[-1] if found else None
        # Between the ends of two that meet lies the fix that they share.
        if last is not None and last.detail == near.detail and last.from_ns <= near.from_ns <= last.until_ns + 2:
            found[-1] = replace(last, until_ns=max(last.until_ns, near.until_ns))
        else:
            found.append(near)
    return found


def _each_near(way: Sequence[Fix], window: ClipWindow, zone_at: ZoneAt, reach_ns: int) -> Iterator[ForbiddenTime]:
    """Of each fix and of each line to the next one."""
    times_ns = [window.start_ns - 1, *(fix.time_ns for fix in way), window.end_ns + 1]
    for index, fix in enumerate(way):
        before_ns, at_ns, behind_ns = times_ns[index : index + 3]
        if zone := zone_at(fix.latitude_deg, fix.longitude_deg):
            yield _near(zone, max(before_ns + 1, at_ns - reach_ns), min(behind_ns - 1, at_ns + reach_ns))
        between = list(way_through(way[index : index + 2]))[1:-1]
        if zone := next((near for place in between if (near := zone_at(*place))), None):
            yield _near(zone, max(at_ns + 1, behind_ns - reach_ns), min(behind_ns - 1, at_ns + reach_ns))


def _near(zone: ExclusionZone, from_ns: int, until_ns: int) -> ForbiddenTime:
    return ForbiddenTime(from_ns, until_ns, "zone", f"in or near zone {zone.name!r} of {zone.source}")
