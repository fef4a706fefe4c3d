"""The uplink's part of the configuration: where clips go, how fast, and which of them over which network and when."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

from runtime.config.places import DirectoryOrAuto, ExistingFile, ZeromqPeerAddress
from runtime.config.quantities import ByteCount, Seconds
from runtime.config.sources import Section
from runtime.formats.documents import Mistake

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_INTERFACES = re.compile(r"[A-Za-z0-9_.@*?-]{1,15}")


def _hours_of_day(value: object) -> tuple[int, int]:
    """`22:00-06:00` as two minutes of the day."""
    if isinstance(value, tuple) and len(value) == 2:
        return value
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Mistake("is not a span of the day", 'write it in quotes, like "22:00-06:00"')
    from_hour, from_minute, to_hour, to_minute = map(int, match.groups())
    return from_hour * 60 + from_minute, to_hour * 60 + to_minute


def _interface_pattern(value: str) -> str:
    if _INTERFACES.fullmatch(value) is None:
        raise Mistake("is not a name of a network interface", "write wlan0, or wlan* for all that begin so")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Mistake("is not a time zone that this system knows", "write UTC, or a name like Europe/Berlin") from error
    return value


InterfacePattern = Annotated[str, AfterValidator(_interface_pattern)]
HoursOfDay = Annotated[tuple[int, int], BeforeValidator(_hours_of_day)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


class WayConfig(Section):
    """Where and when something may be sent."""

    interfaces: tuple[InterfacePattern, ...] = Field(default=("*",), min_length=1, max_length=32)
    metered: bool = Field(default=True, description="also over networks that are called metered")
    hours: tuple[HoursOfDay, ...] = Field(default=(), max_length=16, description="of the day; none: at any time")


class UplinkPolicyConfig(Section):
    """For each priority its way. A class goes only when every class above it may go as well."""

    metered_interfaces: tuple[InterfacePattern, ...] = Field(default=("wwan*", "wwp*", "ppp*", "rmnet*"), max_length=32)
    timezone: TimeZone = Field(default="UTC", description="of the hours")
    safety: WayConfig = WayConfig()
    high: WayConfig = WayConfig()
    normal: WayConfig = WayConfig()
    low: WayConfig = WayConfig()
    background: WayConfig = WayConfig()
    campaigns: WayConfig = WayConfig()


class UplinkConfig(Section):
    """The one place that talks outward. Without a server, clips stay in the spool."""

    server: ZeromqPeerAddress | None = None
    server_public_key: ExistingFile | None = Field(
        default=None, description="the receiver's public CURVE key; receiver.public in keys when not given"
    )
    keys: DirectoryOrAuto = None
    bandwidth_bytes_per_s: ByteCount | None = Field(default=None, ge=1000)
    retry_min_s: Seconds = 1.0
    retry_max_s: Seconds = 20.0
    policy: UplinkPolicyConfig = UplinkPolicyConfig()
