"""The runtime's saved budgets and tallies as a file: its name on tmpfs and in the spool, and a copy's largest size."""

from __future__ import annotations

SELECTION_FILE = "selection.json"
#: Room for two hundred rules: one that is ranked takes 17 KB with its 512 scores and 256 clips of a quota.
MAX_COPY_BYTES = 4 << 20
