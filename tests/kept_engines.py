"""SQLite engines that tests keep: each new one compiles every statement anew, which is most of what a short life costs.

Their connections end with whoever opened them, so that nothing but compiled text is shared.
"""

from __future__ import annotations

import functools

from runtime.uplink.storage import database

#: Put it in the place of `database.sqlite_engine`.
engine_for = functools.cache(database.sqlite_engine)
