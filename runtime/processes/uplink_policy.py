"""The configured delivery policy, as the uplink understands it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from runtime.config.uplink_config import UplinkPolicyConfig, WayConfig
from runtime.messages import Priority
from runtime.uplink.policy import DeliveryPolicy, HoursOfDay, Way


def delivery_policy(config: UplinkPolicyConfig) -> DeliveryPolicy:
    """One way for each priority and one for campaigns."""
    return DeliveryPolicy(
        ways={priority: _way(getattr(config, priority.value)) for priority in Priority},
        campaigns=_way(config.campaigns),
        metered_interfaces=config.metered_interfaces,
        zone=ZoneInfo(config.timezone),
    )


def _way(config: WayConfig) -> Way:
    return Way(config.interfaces, config.metered, tuple(HoursOfDay(start, end) for start, end in config.hours))
