"""The book of range pulls of a configured receiver: opened by the receiver and by `shadowrig pull` beside it."""

from __future__ import annotations

from runtime.config.receiver_config import ReceiverConfig
from runtime.receiver_storage import places_of
from runtime.uplink.pull_book import PullBook
from runtime.uplink.storage.opening import open_catalogue


def open_pull_book(config: ReceiverConfig) -> PullBook:
    """In the receiver's catalogue. Raises OSError."""
    return PullBook(open_catalogue(places_of(config)).database)
