"""What the verifier's process does with one clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.privacy.envelope import is_locked
from runtime.privacy.locked_files import envelope_problems
from runtime.recording.verify import verify_clip


def problems_of(path: Path) -> Sequence[str]:
    """What is wrong with a stored clip; nothing when it keeps every promise.

    Of one that is locked only its envelope can be seen here: the receiver has no key to open it.
    """
    if is_locked(path):
        return envelope_problems(path)
    return verify_clip(path).lines()
