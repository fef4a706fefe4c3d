"""Which clips may go over which network, and when.

A policy says for each priority: over which interfaces, over metered ones or not, at which hours of the day. A class
goes only when every class above it may go as well, so a lower class never has a way that a higher one lacks, and the
most urgent clips of the spool are always the ones to look at.

Metered is what the configuration calls metered (names of interfaces with `*` and `?`); an interface that cannot be
told counts as metered and matches only `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from datetime import timezone as fixed_zone
from fnmatch import fnmatchcase

from runtime.messages import NANOSECONDS_PER_SECOND, Priority

MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class HoursOfDay:
    """From one minute of the day to another, which may be of the next day; equal ends are the whole day."""

    from_minute: int
    to_minute: int

    def holds(self, minute: int) -> bool:
        """True when that minute of the day lies within."""
        length = (self.to_minute - self.from_minute) % MINUTES_PER_DAY or MINUTES_PER_DAY
        return (minute - self.from_minute) % MINUTES_PER_DAY < length


@dataclass(frozen=True, slots=True)
class Way:
    """Where and when something may be sent. No hours: at any time."""

    interfaces: tuple[str, ...] = ("*",)
    metered: bool = True
    hours: tuple[HoursOfDay, ...] = ()

    def objection(self, interface: str | None, is_metered: bool, minute: int) -> str:
        """Why not now; empty when it may go."""
        if not any(pattern == "*" or fnmatchcase(interface or "", pattern) for pattern in self.interfaces):
            return f"waits for {' or '.join(self.interfaces)}, the network is {interface or 'unknown'}"
        if is_metered and not self.metered:
            return f"waits for a network that is not metered, {interface or 'an unknown one'} is"
        if self.hours and not any(hours.holds(minute) for hours in self.hours):
            return "waits for its hours of the day"
        return ""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What may be sent now; `reasons` says what waits and why, for people."""

    priorities: frozenset[Priority] = frozenset(Priority)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The whole policy. What is not named goes at any time over any network."""

    ways: Mapping[Priority, Way] = field(default_factory=dict)
    campaigns: Way = Way()
    metered_interfaces: tuple[str, ...] = ()
    zone: tzinfo = fixed_zone.utc

    def permissions(self, interface: str | None, wall_ns: int) -> Permissions:
        """What may go over `interface` (None: unknown) at that wall time."""
        local = datetime.fromtimestamp(wall_ns // NANOSECONDS_PER_SECOND, tz=self.zone)
        minute = local.hour * 60 + local.minute
        is_metered = interface is None or any(fnmatchcase(interface, name) for name in self.metered_interfaces)
        reasons: dict[str, str] = {}
        allowed: set[Priority] = set()
        for priority in Priority:
            reason = self.ways.get(priority, Way()).objection(interface, is_metered, minute)
            if reasons and not reason:
                reason = "waits for the classes above it"
            if reason:
                reasons[priority.value] = reason
            else:
                allowed.add(priority)
        campaigns = self.campaigns.objection(interface, is_metered, minute)
        if campaigns:
            reasons["campaigns"] = campaigns
        return Permissions(frozenset(allowed), reasons)
