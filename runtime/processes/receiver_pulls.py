"""The book of range pulls of a configured receiver: opened by the receiver and by `shadowrig pull` beside it."""

from __future__ import annotations

from runtime.config.receiver_config import ReceiverConfig
from runtime.uplink.pull_book import PullBook
from runtime.uplink.pull_ledger import SqliteTransactions

CATALOGUE_FILE = "catalogue.sqlite"


def open_pull_book(config: ReceiverConfig) -> PullBook:
    """In the receiver's catalogue. Raises OSError."""
    return PullBook(SqliteTransactions(config.directory / CATALOGUE_FILE))
