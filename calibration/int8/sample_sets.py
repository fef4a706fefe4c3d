"""Three sets of samples that share no instant: what is measured on, what is chosen on, and what judges.

Ranges come from the first. The search for a mixture looks at the second again and again and keeps what looks best
there, so its figures flatter what it keeps. The third is looked at once, when all is decided: its figures are those to
state.
Samples come in the order of their sources and of time, and the sets take turns in it, so each sees every source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibration.int8.sampling import Sample

#: Of every four samples two give ranges, one is chosen on and one judges.
PERIOD, CHOSEN_AT, JUDGED_AT = 4, 1, 3
FEWEST_FOR_THREE = 4


@dataclass(frozen=True, slots=True)
class SampleSets:
    """Samples by what they are for."""

    measured: list[Sample]
    chosen_on: list[Sample]
    judged: list[Sample]
    note: str = ""  # what is not as it should be

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Measured, chosen on, judged."""
        return len(self.measured), len(self.chosen_on), len(self.judged)


def split_samples(taken: Sequence[Sample]) -> SampleSets:
    """The three sets. Fewer than four samples have to do double duty, which the note says."""
    if len(taken) < FEWEST_FOR_THREE:
        judged = [taken[-1]]
        note = f"{len(taken)} samples are too few to judge on others than were chosen on; {FEWEST_FOR_THREE} are needed"
        return SampleSets(list(taken[:-1]) or judged, judged, judged, note)
    measured = [sample for index, sample in enumerate(taken) if index % PERIOD not in (CHOSEN_AT, JUDGED_AT)]
    return SampleSets(measured, list(taken[CHOSEN_AT::PERIOD]), list(taken[JUDGED_AT::PERIOD]))
