"""Figures for people: one JSON file, replaced as a whole, never synced."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Publish = Callable[[Mapping[str, Any]], None]


def publish_to(path: Path | None) -> Publish:
    """A function that writes a mapping to `path`; None publishes nowhere."""

    def publish(figures: Mapping[str, Any]) -> None:
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        temporary.write_text(json.dumps(dict(figures), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(path)

    return publish
