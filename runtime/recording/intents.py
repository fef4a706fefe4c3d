"""A clip about to be sealed, and the firings that it answers: `intents/<clip_id>.json`.

Written before the clip is sealed, removed when its firings are answered and gone. One that is there when a recorder
starts tells what a killed one may have sealed: the sink knows whether it did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.recording.answers import Answer, answer_from_dict
from runtime.recording.layout import HistoryLayout, write_atomically


class IntentFileError(ValueError):
    """A file that says nothing which can be understood."""


@dataclass(frozen=True, slots=True)
class Intent:
    """One clip."""

    clip_id: str
    firings: Sequence[str]  # names of their files
    answers: Sequence[Answer]


def intent_path(layout: HistoryLayout, clip_id: str) -> Path:
    """Where a clip's intent lies."""
    return layout.intents / f"{clip_id}.json"


def leave_intent(layout: HistoryLayout, intent: Intent) -> None:
    """OSError when there is no room."""
    write_atomically(intent_path(layout, intent.clip_id), json.dumps(asdict(intent)).encode())


def read_intent(path: Path) -> Intent:
    """IntentFileError says what is wrong with it."""
    try:
        record = json.loads(path.read_bytes())
        answers = [answer_from_dict(answer) for answer in record.get("answers", [])]
        return Intent(str(record["clip_id"]), [Path(name).name for name in record["firings"]], answers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntentFileError(f"{path}: not an intent ({type(error).__name__}: {error}); thrown away") from error
