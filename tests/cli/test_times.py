"""Instants at the command line: one rule for all commands, and nothing that means one thing here and another there."""

from __future__ import annotations

import argparse

import pytest

from runtime.cli.common import CommandError
from runtime.cli.pull import instant_ns
from runtime.cli.times import LAST_NS, iso, wall_time_ns

DAY_NS = 1_795_132_800 * 1_000_000_000  # 2026-11-20


@pytest.mark.parametrize(
    ("text", "after_ns"),
    [
        ("2026-11-20", 0),
        ("2026-11-20T00:00Z", 0),
        ("2026-11-20T01:00:00+01:00", 0),
        ("2026-11-20 08:30:00z", 30_600 * 1_000_000_000),
        ("2026-11-20T00:00:00.000001Z", 1000),
        ("2026-11-19T23:59:59.999999Z", -1000),
    ],
)
def test_a_time_is_read_to_its_microsecond_by_every_command(text: str, after_ns: int) -> None:
    assert wall_time_ns(text) == DAY_NS + after_ns
    assert instant_ns(text, "wall") == DAY_NS + after_ns


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2026-11-20T08:00", "has no offset from UTC: add Z"),
        ("2026-11-20 08:00:00", "has no offset from UTC"),
        ("2026-W47", "is no time"),
        ("yesterday", "is no time"),
        ("2026-13-01", "is no time"),
        ("2262-04-12", "1678 to 2261"),
        ("9999-12-31", "1678 to 2261"),
        ("0001-01-01T00:00+23:00", "1678 to 2261"),
    ],
)
def test_what_could_mislead_is_refused_by_every_command(text: str, complaint: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=complaint):
        wall_time_ns(text)
    with pytest.raises(CommandError, match=complaint):
        instant_ns(text, "wall")


def test_digits_alone_are_nanoseconds_to_pull_and_no_date_to_the_catalogue() -> None:
    assert instant_ns("20261120", "wall") == 20261120
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        wall_time_ns("20261120")


def test_every_instant_that_can_be_given_can_be_shown() -> None:
    assert [iso(wall_ns)[:10] for wall_ns in (-LAST_NS, 0, LAST_NS)] == ["1677-09-21", "1970-01-01", "2262-04-11"]
    assert wall_time_ns(iso(DAY_NS)) == DAY_NS
    assert iso(DAY_NS + 1_500_000, is_exact=True) == "2026-11-20T00:00:00.001Z"
    assert iso(None).strip() == "time unknown"
