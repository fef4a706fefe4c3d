"""Recorded drives: what replay plays, and what live sources play paced.

drive = open_drive("drives/model3_night")      # a folder with drive.yaml, the file itself, or an .mcap file
for packet in drive.cameras["front"].packets(): ...
for sample in drive.signal_samples(): ...
"""

from runtime.drives.drive import Drive, DriveCamera, DriveEpoch, DriveVideoError, TruthEvent
from runtime.drives.opening import open_drive

__all__ = ["Drive", "DriveCamera", "DriveEpoch", "DriveVideoError", "TruthEvent", "open_drive"]
