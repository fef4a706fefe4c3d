"""Which steps a sweep goes through: every step of one round that nobody disturbed, each once, then beyond.

A victim begins with what its dead predecessor left besides its own work, so a round has at least the steps that were
counted, and every one of them finds its victim. A round may have a few more: its connection came up one exchange later,
or a status file was published once more. So the sweep goes on beyond the count, each time after an undisturbed round
that leaves nothing over, until a victim lives through its whole round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

ENOUGH = 0.9  # of the chosen steps; a round that is a little shorter than the counted one lets its victim live
#: Sends victims into chosen ones of so many steps, and is told of each whether it died there; how many died.
Sweep = Callable[[int, Callable[[int], bool]], int]


def steps_in_turn(steps: int, share: float) -> Iterator[int]:
    """Every step from 1 once; of a share below 1 as many, spread evenly over all; 2 is two passes."""
    passes, rest = divmod(max(1, round(steps * share)), steps)
    for _ in range(passes):
        yield from range(1, steps + 1)
    yield from (1 + index * steps // rest for index in range(rest))


def killed_at_every_step(steps: int, share: float, dies_at: Callable[[int], bool]) -> int:
    """Send a victim into each step; how many died. `dies_at(0)` is a round that nobody disturbs.

    Less than one pass ends with the counted steps.
    """
    deaths = sum(dies_at(at) for at in steps_in_turn(steps, share))
    return deaths + (killed_beyond(steps, dies_at) if share >= 1 else 0)


def killed_beyond(steps: int, dies_at: Callable[[int], bool]) -> int:
    """Go on after the counted steps until one lives; how many died."""
    for deaths in range(steps):
        assert not dies_at(0), "nothing was to happen to this one"
        if not dies_at(steps + 1 + deaths):
            return deaths
    raise AssertionError(f"{steps} steps were counted, and a victim at step {2 * steps} still dies")
