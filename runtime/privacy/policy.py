"""Decides over every clip: `PrivacyPolicy.admit`. See `runtime.recording.sealing_policy` for what a policy promises.

Reasons of a refusal, as they stand in the recorder's status and in the answers to firings:

    zone         it was in or near an excluded place at some time of the clip                       final
    no_fix       for a time of the clip its place was not known, or only coarsely (a pull from a
                 sealed clip), and there are excluded places                                        final
                 (where history does not reach back to the fix at its start, it may begin with the next)
    unreadable   there are excluded places, and a record that may tell the way cannot be read        tried again
    zones_file   a file of zones cannot be read                                                      tried again
    campaign     a campaign on the shelf, which may bring zones, cannot be read                      tried again
    detector     blurring is asked for, and the detector cannot be opened or failed                  tried again
    encoder      a blurred picture could not be encoded                                              tried again
    video        a camera's message cannot be read                                                   final
    treatment    a message of the clip is not what it says, and cannot be treated                    tried again
    key          encryption is asked for, and a public key cannot be read                            tried again
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from runtime.formats.documents import DocumentError
from runtime.formats.mcap_files import McapFileError
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.privacy.blurring import Blurring, BlurSettings, DetectorError
from runtime.privacy.campaign_terms import CampaignsOnShelf, CampaignTerms, CampaignTermsError
from runtime.privacy.clip_keys import ClipKeyError, load_public_key
from runtime.privacy.envelope import RandomBytes
from runtime.privacy.forbidden_places import places_near, unknown_places
from runtime.privacy.location import LocationRule
from runtime.privacy.trail import NAMESPACE, first_loss_ns, fixes_of, from_the_start, of_places
from runtime.privacy.treatment import ClipTreatment
from runtime.privacy.zones import ExclusionZone, ZoneFiles, first_near
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.sealing_policy import (
    ClipWindow,
    ForbiddenTime,
    SealingRefusal,
    SealingRefusedError,
    SignalHistory,
    Treatment,
)

if TYPE_CHECKING:
    from runtime.privacy.detector import Detector

VIDEO, LOCATION = "video", "location"


@dataclass(frozen=True, slots=True)
class BlurPlan:
    """What blurs."""

    bundle: Path
    classes: tuple[str, ...] = ()
    min_score: float = 0.2
    threads: int = 1
    settings: BlurSettings = field(default_factory=BlurSettings)


@dataclass(frozen=True, slots=True)
class PrivacyRules:
    """What is asked for; see `runtime.config.privacy_config`."""

    zone_files: tuple[Path, ...] = ()
    zone_margin_m: float = 30.0
    needs_fix: bool = True
    fix_timeout_s: float = 2.0
    location: LocationRule = field(default_factory=LocationRule)
    blur: BlurPlan | None = None
    recipients: tuple[Path, ...] = ()
    liftable: tuple[str, ...] = (VIDEO, LOCATION)

    @property
    def leave_clips_alone(self) -> bool:
        """True when no clip is refused or changed by them."""
        return not (self.zone_files or self.blur or self.recipients) and self.location.mode == "keep"


class PrivacyPolicy:
    """Belongs to the recorder's thread. Files that it needs are looked at for every clip: they may vanish or change."""

    def __init__(
        self,
        rules: PrivacyRules,
        campaigns: CampaignsOnShelf | None = None,
        progress: Callable[[], None] = lambda: None,
        random_bytes: RandomBytes = os.urandom,
    ) -> None:
        """`campaigns` is None where the vehicle takes none; `progress` is called at each verdict, and as one blurs."""
        self._rules = rules
        self._campaigns = campaigns
        self._progress = progress
        self._random_bytes = random_bytes
        self._zone_files = ZoneFiles(rules.zone_files)
        self._detector: Detector | None = None

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        """See `SealingPolicy.admit`."""
        self._progress()  # many may be judged in a row, and each reads a minute of history
        try:
            judged_by = self._rules_in_force()  # first: rules that change meanwhile are others than these
            zones = self._zones(plan.firings[0].firing.wall_ns)
            if zones:
                self._check_way(plan, zones, window, history)
            judged = {"policy": judged_by, "from_ns": window.start_ns, "to_ns": window.end_ns}
            return self._treatment(plan, judged)
        except SealingRefusedError as error:
            return error.refusal
        except McapFileError as error:
            return SealingRefusal("unreadable", str(error), is_final=False)

    def facts(self) -> Mapping[str, Any]:
        """For the status: what is asked for, by its names only."""
        rules, detector = self._rules, self._detector
        return {
            "zones": len(self._zone_files.known),
            "location": rules.location.mode,
            "blurring": None if rules.blur is None else (detector.description.name if detector else "not opened yet"),
            "encrypted_for": len(rules.recipients),
        }

    def close(self) -> None:
        """Give the detector back."""
        if self._detector is not None:
            self._detector.close()
            self._detector = None

    # Places

    def _zones(self, wall_ns: int) -> list[ExclusionZone]:
        zones = self._own_zones()
        if self._campaigns is None:
            return zones
        try:
            return zones + self._campaigns.zones(wall_ns)
        except (CampaignTermsError, OSError) as error:
            raise _refused("campaign", str(error), is_final=False) from error

    def _own_zones(self) -> list[ExclusionZone]:
        try:
            return self._zone_files.zones()
        except (DocumentError, OSError) as error:
            raise _refused("zones_file", str(error), is_final=False) from error

    def _terms(self) -> Mapping[str, CampaignTerms]:
        try:
            return {} if self._campaigns is None else self._campaigns.terms()
        except (CampaignTermsError, OSError) as error:
            raise _refused("campaign", str(error), is_final=False) from error

    def _check_way(
        self, plan: ClipPlan, zones: Sequence[ExclusionZone], window: ClipWindow, history: SignalHistory
    ) -> None:
        rules, sealed = self._rules, history.sealed_before
        if sealed is not None and LOCATION in sealed.privacy:
            raise _refused("no_fix", "its places were made coarse when it was sealed, and there are zones")

        def zone_at(latitude_deg: float, longitude_deg: float) -> ExclusionZone | None:
            return first_near(zones, latitude_deg, longitude_deg, rules.zone_margin_m)

        reach_ns = round(rules.fix_timeout_s * NANOSECONDS_PER_SECOND)
        around = history.signal_samples(NAMESPACE, window.start_ns - reach_ns, window.end_ns + reach_ns)
        samples = list(of_places(around))
        fixes = fixes_of(samples, rules.fix_timeout_s)
        if sealed is not None:
            fixes = from_the_start(fixes, sealed.start_ns, rules.fix_timeout_s, first_loss_ns(samples))
        is_cut_off = sealed is None and _is_cut_off(history, window.start_ns - reach_ns, window.start_ns)
        forbidden = list(unknown_places(fixes, window, is_cut_off)) if rules.needs_fix else []
        forbidden += places_near(fixes, window, zone_at, reach_ns)
        if forbidden:
            raise SealingRefusedError(_refused_for(forbidden, plan))

    # Treatment

    def half_clip_refusal(self, known_by: Mapping[str, Any]) -> str | None:
        """Why half a clip may not be sealed as it was written; None: it may. OSError while nobody can tell.

        It was judged as a whole, and every byte of it treated, before it was written: by the rules of then, so it may
        only be sealed while these are the rules.
        """
        try:
            rules_now = self._rules_in_force()
        except SealingRefusedError as error:
            raise OSError(str(error)) from error
        judged_by = dict(known_by.get("verdict") or {}).get("policy")
        if judged_by == rules_now or (judged_by is None and not self._may_refuse_or_change()):
            return None
        what = "nothing tells what was judged" if judged_by is None else "other privacy rules held when it was judged"
        return f"cut short, and may not be sealed: {what}"

    def _may_refuse_or_change(self) -> bool:
        return self._campaigns is not None or not self._rules.leave_clips_alone

    def _rules_in_force(self) -> str:
        """A hash of all that decides over clips now: settings, zones, what campaigns bring and lift."""
        zones, terms = self._own_zones(), self._terms()
        campaigns = [(label, terms[label].zones, tuple(terms[label].campaign.raw)) for label in sorted(terms)]
        return hashlib.sha256(repr((self._rules, zones, campaigns)).encode()).hexdigest()

    def _treatment(self, plan: ClipPlan, judged: Mapping[str, Any]) -> ClipTreatment:
        rules, lifted = self._rules, self._lifted(plan)
        is_blurred = rules.blur is not None and VIDEO not in lifted
        is_truncated = rules.location.mode != "keep" and LOCATION not in lifted
        detector = self._open_detector() if is_blurred else None
        return ClipTreatment(
            random_bytes=self._random_bytes,
            location=rules.location if is_truncated else None,
            blurring=self._blurring(detector) if detector is not None else None,
            detector={} if detector is None else _described(detector),
            recipients=self._recipients(),
            raw={what: labels for what, labels in lifted.items() if self._protects(what)},
            judged=judged,
        )

    def _protects(self, what: str) -> bool:
        return self._rules.blur is not None if what == VIDEO else self._rules.location.mode != "keep"

    def _lifted(self, plan: ClipPlan) -> dict[str, list[str]]:
        """What the campaigns of all firings lift; one firing that is of none keeps the clip protected."""
        if self._campaigns is None or not self._rules.liftable:
            return {}
        terms, lifted = self._terms(), {}
        for what in self._rules.liftable:
            firings = [waiting.firing for waiting in plan.firings]
            if firings and all(
                one.campaign in terms and terms[one.campaign].lifts(what, one.wall_ns) for one in firings
            ):
                lifted[what] = sorted({one.campaign for one in firings})
        return lifted

    def _open_detector(self) -> Detector:
        from runtime.privacy.detector import Detector  # a network library: only where something is to be blurred

        blur = self._rules.blur
        assert blur is not None
        if self._detector is None:
            try:
                self._detector = Detector(blur.bundle, blur.classes, blur.min_score, blur.threads)
            except DetectorError as error:
                raise _refused("detector", str(error), is_final=False) from error
        return self._detector

    def _blurring(self, detector: Detector) -> Blurring:
        assert self._rules.blur is not None
        return Blurring(detector, self._rules.blur.settings, self._progress)

    def _recipients(self) -> list[X25519PublicKey]:
        try:
            return [load_public_key(path) for path in self._rules.recipients]
        except ClipKeyError as error:
            raise _refused("key", str(error), is_final=False) from error


def _is_cut_off(history: SignalHistory, from_ns: int, until_ns: int) -> bool:
    """Whether nothing is held of the first of these instants: of half of the time, or a second, whichever is less."""
    return history.first_time_ns(from_ns, until_ns) - from_ns >= min((until_ns - from_ns) // 2, NANOSECONDS_PER_SECOND)


def _refused_for(forbidden: Sequence[ForbiddenTime], plan: ClipPlan) -> SealingRefusal:
    first = next((time for time in forbidden if not time.spares_later), forbidden[0])
    happened_ns = min(waiting.firing.time_ns for waiting in plan.firings)
    may_begin_later = len(forbidden) == 1 and first.spares_later and happened_ns > first.until_ns
    later_ns = first.until_ns + 1 if may_begin_later else None
    return SealingRefusal(first.reason, first.detail, forbidden=tuple(forbidden), admitted_from_ns=later_ns)


def _described(detector: Detector) -> dict[str, Any]:
    said = detector.description
    return {"detector": said.name, "version": said.version, "sha256": said.sha256, "classes": list(detector.classes)}


def _refused(reason: str, detail: str, is_final: bool = True) -> SealingRefusedError:
    return SealingRefusedError(SealingRefusal(reason, detail, is_final))
