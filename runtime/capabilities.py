"""What the running model, rig and cameras can tell rules, so that a rule which can never fire here is named at load.

A rule asks for heads, classes, states and track fields; what nothing here computes is missing, by name. A network says
for itself what it publishes (`Network`); places on the road need a calibrated camera.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.inference.network import Network
from runtime.rig import Rig
from triggers import OPTIONAL_TRACK_FIELDS, Capabilities

#: Fields of tracks that the network has to tell of each object.
TOLD_FIELDS = frozenset({"predicted_distance_m", "predicted_speed_mps"})
#: Fields of tracks that need to know where the camera is and how it looks.
PLACE_FIELDS = frozenset(
    {
        "distance_m", "lateral_m", "lateral_speed_mps", "speed_mps", "closing_speed_mps", "bearing_deg", "lane",
        "overlapping_cameras", "confirming_cameras", "confirming_gap_deg",
    }
)  # fmt: skip


def capabilities_of(
    network: Network | None, published: Iterable[str], cameras: Sequence[str], rig: Rig | None
) -> Capabilities:
    """For a network (None: no images are looked at) that publishes these scalars, on a rig with these cameras."""
    if network is None:
        return Capabilities(cameras=len(cameras))
    fields = OPTIONAL_TRACK_FIELDS - TOLD_FIELDS | network.object_fields
    if rig is None or not set(cameras) & set(rig.names):
        fields -= PLACE_FIELDS
    if not network.states:
        fields -= {"state"}
    return Capabilities(
        heads=frozenset(published),
        classes=frozenset(network.class_names),
        states=network.states,
        track_fields=fields,
        cameras=len(cameras),
        embedding_model=None if network.embedding is None else network.embedding.model,
        has_images=True,
    )
