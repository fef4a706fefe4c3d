"""Other rules, and perhaps another network, for a tick that runs: built beside it, put in place between two ticks.

Building changes nothing that runs, so it may take its time on another thread; putting in place is a few assignments.
Rules that stay keep their state; with another network its tracks begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.capabilities import reads_images
from runtime.composition import CompositionError, NetworkParts, TickParts
from runtime.inference.learned import LearnedTriggers
from runtime.inference.network import Network
from triggers import RuleSet
from triggers.engine import PreparedRules


@dataclass(frozen=True, slots=True)
class RulesChange:
    """Other rules for a running tick, built beside it: what is left to do is to put them in place."""

    rules: RuleSet
    prepared: PreparedRules
    learned: LearnedTriggers
    not_applicable: Mapping[str, str]
    measures_images: bool
    network: NetworkParts | None = None  # None: the running one stays


def prepare_change(parts: TickParts, rules: RuleSet, network: Network | None = None) -> RulesChange:
    """Build what these rules need, and `network` in place of the running one; changes nothing that runs.

    On any thread. Raises DocumentError, and CompositionError for a network that takes other images.
    """
    brought = None if network is None else _brought(parts, network)
    learned = LearnedTriggers.open(rules, (brought or parts).learned.space)
    lacking = rules.not_applicable((brought or parts).capabilities)
    able = rules.without(lacking)  # as in `compose_tick`
    measures_images = parts.always_measures_images or reads_images(able)
    return RulesChange(rules, parts.engine.prepare(able), learned, lacking, measures_images, brought)


def _brought(parts: TickParts, network: Network) -> NetworkParts:
    if parts.network is None or parts.network_parts is None:
        raise CompositionError("nothing looks here: this vehicle runs no network, or has no cameras")
    if network.image_spec != parts.network.image_spec:
        raise CompositionError(
            f"it takes other images ({network.image_spec}) than the running one ({parts.network.image_spec})"
        )
    return parts.network_parts(network)


def apply_change(parts: TickParts, change: RulesChange) -> None:
    """Put them in place, between two ticks. StaleRulesError when others were put in since they were prepared."""
    parts.engine.swap(change.prepared)
    if change.network is not None:
        _exchange(parts, change.network)
    parts.learned.triggers = change.learned
    parts.views.measures_images = change.measures_images
    parts.rules, parts.not_applicable = change.rules, change.not_applicable


def _exchange(parts: TickParts, brought: NetworkParts) -> None:
    """Another network: its tracks begin anew, under new ids; all else goes on."""
    if parts.tracker is not None:
        brought.tracker.continue_ids(parts.tracker)
    parts.pipeline.exchange(brought.network, brought.tracker, brought.learned)
    if parts.assembler is not None:  # frames that only the old network could prepare are missing for a tick or two
        parts.assembler.sources = brought.network.sources
    parts.network, parts.tracker = brought.network, brought.tracker
    parts.learned, parts.capabilities = brought.learned, brought.capabilities
