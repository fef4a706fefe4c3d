"""What a single check of the doctor answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, what was seen, and what to do when it is not `ok`."""

    verdict: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


class Finding:
    """The three ways to answer."""

    @staticmethod
    def ok(detail: str) -> Outcome:
        """As it should be."""
        return Outcome("ok", detail)

    @staticmethod
    def warn(detail: str, fix: str) -> Outcome:
        """It runs, but not as it should in a car."""
        return Outcome("warn", detail, fix)

    @staticmethod
    def fail(detail: str, fix: str = "") -> Outcome:
        """It does not run."""
        return Outcome("fail", detail, fix)
