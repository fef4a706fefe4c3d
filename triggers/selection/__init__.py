"""Which events of the rules are kept, under which budgets, and what became of the others. Pure: time is an argument.

    sampling        a known probability, independent of everything else
    budgets         firings an hour (of a rule, or of each value of an operand) and bytes a day, as sliding windows
    ranking         a rule with a score keeps the best of the day in its bytes: algorithm and measured regret are there
    campaign        what the rules of a campaign share: time and budget
    rule_selection  puts these in order for one rule
    reservations    firings whose clips are not sealed yet
    tally           every event counted once, by what became of it
    saved_state     all of it as JSON, and back after a restart

Bytes. At a firing the estimated size of its clip is reserved, so that a burst cannot overrun a budget before the first
clip is sealed; the estimate is the mean of the rule's last clips, before the first one (pre_s + post_s) times the
bytes a second that the recording takes. When the clip is sealed the reservation becomes its real size; when the clip is
lost, nothing. A firing that is never answered stays charged with its estimate. What is reserved and sealed together
never exceeds a budget when a rule fires, so that the bytes sealed exceed it at most by how much too small the estimates
of the clips in flight were. The bytes of a merged clip are shared among its firings in proportion to the seconds that
each asked for (the recorder does this); firings on one tick are considered by priority, then name, so that a
campaign's budget goes to what matters.
"""

from triggers.selection.budgets import DAY_NS, HOUR_NS
from triggers.selection.campaign import CampaignSelection, lineage
from triggers.selection.reservations import Reservation, Reservations
from triggers.selection.rule_selection import RuleSelection
from triggers.selection.tally import (
    BUDGET,
    CAMPAIGN,
    COOLDOWN,
    DISK,
    HISTORY,
    KEPT,
    LOSSES,
    OUTCOMES,
    PRIVACY,
    SAMPLE,
    SCORE,
    Tally,
)

__all__ = [
    "BUDGET",
    "CAMPAIGN",
    "COOLDOWN",
    "DAY_NS",
    "DISK",
    "HISTORY",
    "HOUR_NS",
    "KEPT",
    "LOSSES",
    "OUTCOMES",
    "PRIVACY",
    "SAMPLE",
    "SCORE",
    "CampaignSelection",
    "Reservation",
    "Reservations",
    "RuleSelection",
    "Tally",
    "lineage",
]
