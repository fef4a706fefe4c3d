"""What one look at the fleet's repository came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.campaigns.reasons import CampaignRefusedError


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was not taken, and why. `campaign` is empty when it was the whole update."""

    campaign: str
    reason: str
    detail: str
    wall_ns: int


@dataclass(slots=True)
class UpdateOutcome:
    """What one look came to."""

    wall_ns: int
    refusals: list[Refusal] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)  # why, by label
    not_ours: int = 0  # campaigns for other vehicles
    versions: dict[str, int] = field(default_factory=dict)  # of the metadata that was verified
    received_bytes: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether the repository could be verified, whatever became of single campaigns."""
        return not any(refused.campaign == "" for refused in self.refusals)

    def refuse(self, campaign: str, error: CampaignRefusedError) -> None:
        """Note a refusal."""
        self.refusals.append(Refusal(campaign, error.reason, error.detail, self.wall_ns))
