"""Which parts of a program can be computed before the network has spoken.

A tick spends most of its time waiting for the network, and much of what rules ask does not depend on it: what the car
and its controller do, how the cameras stand, the controller's own objects. Such parts may be computed on another
thread meanwhile (`Program.look_ahead`); the values are the same, because each part still runs once a tick, after its
operands. What stands behind a gate waits: gates open when all signals are known.

What depends on the network is known by name: signals in `NETWORK_NAMESPACES`, everything over tracks, and the fields of
cameras in `NETWORK_FIELDS`, which are made of tracks.
"""

from __future__ import annotations

from collections.abc import Iterable

from triggers.evaluation.schedule import population_of
from triggers.language.expressions import Expression, ItemField, SignalRead
from triggers.language.populations import Population

NETWORK_NAMESPACES = frozenset(
    {"ab", "classifier", "diff", "diff_b", "embedding", "heads", "heads_b", "shadow", "shadow_b"}
)
NETWORK_FIELDS = frozenset({"misalignment_deg"})
#: Populations that are known before the network has spoken.
POPULATIONS_AHEAD = (Population.OBJECTS, Population.CAMERAS)


def known_ahead(nodes: Iterable[Expression]) -> frozenset[bytes]:
    """Keys of the expressions that do not depend on the network; in `nodes` operands come first."""
    found: set[bytes] = set()
    for node in nodes:
        if not _asks_network(node) and all(operand.key in found for operand in node.operands):
            found.add(node.key)
    return frozenset(found)


def asks_network(signal: str) -> bool:
    """Whether the network has to speak before a signal is known."""
    return signal.partition(".")[0] in NETWORK_NAMESPACES


def _asks_network(node: Expression) -> bool:
    if isinstance(node, SignalRead):
        return asks_network(node.name)
    if isinstance(node, ItemField) and node.name in NETWORK_FIELDS:
        return True
    return population_of(node) is Population.TRACKS
