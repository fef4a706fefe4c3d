"""Synthetic drives and labelled instants: a small world with traffic, weather, a controller and planted events.

`labelled_instants` gives single moments for training. `synthesize_drive` writes a whole drive (MCAP) whose truth is
known. Both are deterministic: the same seed gives the same bytes.
"""

from replay.synthetic.drive_writer import synthesize_drive
from replay.synthetic.instants import LabelledInstant, labelled_instants
from replay.synthetic.labels import Box
from replay.synthetic.rigs import CAMERAS

__all__ = ["CAMERAS", "Box", "LabelledInstant", "labelled_instants", "synthesize_drive"]
