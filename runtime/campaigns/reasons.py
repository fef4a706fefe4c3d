"""Why an update or a campaign is refused: stable names, and which error of the framework means which.

| reason | what was found |
|---|---|
| `bad_signature` | metadata signed by too few keys of its role: strangers' keys and repeats do not count |
| `expired` | signed metadata past its date: somebody shows us an old state (freeze), or the fleet forgot to push |
| `rollback` | metadata of a lower version than was seen before |
| `wrong_content` | a file that is not the one that was signed for (swapped, mixed from two states) |
| `truncated` | a file that ended before its signed or announced length |
| `endless_data` | more bytes than were signed for or than one update may take |
| `slow_data` | parts smaller than asked for, or an update that took longer than it may |
| `malformed` | metadata that is none |
| `missing` | a file that the signed metadata promises, or the repository itself, is not there |
| `no_answer` | no connection, or silence |
| `unsupported` | the receiver serves no campaigns |
| `bad_path` | a name that could lead out of its folder |
| `too_large` | more campaigns, files or bytes than a vehicle takes |
| `wrong_vehicle` | the selector of a campaign does not name this vehicle |
| `campaign_rollback` | a campaign of a lower version than this vehicle has had |
| `campaign_changed` | a version that this vehicle knows with other content |
| `campaign_expired` | past its end |
| `bad_campaign` | `campaign.yaml` is not right, or is not the campaign that the index names |
| `bad_rules` | rule files that do not load |
| `name_collision` | a name of a rule, query or classifier that the vehicle or another campaign has for something else |
| `bad_learned` | a classifier or query that cannot be used |
| `bad_model` | a model bundle that is damaged or takes other images than the vehicle's |
| `damaged` | a file on the vehicle is no longer what was verified |
| `storage` | the vehicle's disk refused |
"""

from __future__ import annotations

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)

REASONS = (
    "bad_signature", "expired", "rollback", "wrong_content", "truncated", "endless_data", "slow_data", "malformed",
    "missing", "no_answer", "unsupported", "bad_path", "too_large", "wrong_vehicle", "campaign_rollback",
    "campaign_changed", "campaign_expired", "bad_campaign", "bad_rules", "name_collision", "bad_learned", "bad_model",
    "damaged", "storage",
)  # fmt: skip
MAX_DETAIL_LENGTH = 600


class CampaignRefusedError(Exception):
    """An update, or one campaign of it, is not taken; what was active stays."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise AssertionError(f"{reason} is no reason that the table of refusals knows")
        super().__init__(f"{reason}: {detail}"[:MAX_DETAIL_LENGTH])
        self.reason = reason
        self.detail = detail[:MAX_DETAIL_LENGTH]


class FetchError(DownloadError):
    """A file did not come as it should; `reason` is one of the table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


#: First match counts: subclasses stand before their bases.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (UnsignedMetadataError, "bad_signature"),
    (ExpiredMetadataError, "expired"),
    (BadVersionNumberError, "rollback"),
    (LengthOrHashMismatchError, "wrong_content"),
    (DownloadLengthMismatchError, "endless_data"),
    (SlowRetrievalError, "slow_data"),
    (DownloadHTTPError, "missing"),
    (RepositoryError, "malformed"),
    (DownloadError, "no_answer"),
    (OSError, "storage"),
)


def refusal(error: Exception) -> CampaignRefusedError:
    """The refusal that an error of python-tuf, of a fetch or of the disk stands for."""
    if isinstance(error, FetchError):
        return CampaignRefusedError(error.reason, str(error))
    reason = next(reason for kind, reason in _MEANINGS if isinstance(error, kind))
    return CampaignRefusedError(reason, str(error) or type(error).__name__)
