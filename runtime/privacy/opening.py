"""From the configuration to the policy, and what is wrong with the files that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runtime.config.rig_config import RigConfig
from runtime.formats.documents import Document, DocumentError, Problem
from runtime.privacy.blurring import BlurSettings, DetectorError
from runtime.privacy.campaign_terms import CampaignsOnShelf
from runtime.privacy.clip_keys import ClipKeyError, load_public_key
from runtime.privacy.location import LocationRule
from runtime.privacy.policy import BlurPlan, PrivacyPolicy, PrivacyRules
from runtime.privacy.zones import zone_problems


def privacy_rules(config: RigConfig) -> PrivacyRules:
    """What the configuration asks for."""
    section, blur = config.privacy, config.privacy.blur
    plan = None
    if blur is not None:
        settings = BlurSettings(blur.hold_s, blur.grow, blur.cameras)
        plan = BlurPlan(blur.bundle, blur.classes, blur.min_score, blur.threads, settings)
    return PrivacyRules(
        zone_files=section.zones,
        zone_margin_m=section.zone_margin_m,
        needs_fix=section.without_fix == "refuse",
        fix_timeout_s=section.fix_timeout_s,
        location=LocationRule(section.location, section.location_decimals, section.location_signals),
        blur=plan,
        recipients=section.encryption.recipients if section.encryption is not None else (),
        liftable=section.campaigns_may_lift,
    )


def open_policy(config: RigConfig, campaigns: Path, progress: Callable[[], None] = lambda: None) -> PrivacyPolicy:
    """The policy of a vehicle; `campaigns` is the shelf's folder, looked at where the vehicle takes campaigns at all.

    Nothing is opened yet: a file that is missing later refuses clips, and never lets the recorder die.
    """
    shelf = CampaignsOnShelf(campaigns, config.vehicle.id) if config.campaigns.root is not None else None
    return PrivacyPolicy(privacy_rules(config), shelf, progress)


def check_privacy(config: RigConfig, document: Document) -> None:
    """Open every file that `privacy` names. DocumentError with every problem of each."""
    problems = [problem for path in config.privacy.zones for problem in zone_problems(path)]
    problems += _key_problems(config, document)
    problems += _detector_problems(config, document)
    if problems:
        raise DocumentError(problems)


def _key_problems(config: RigConfig, document: Document) -> list[Problem]:
    problems = []
    for index, path in enumerate(config.privacy.encryption.recipients if config.privacy.encryption else ()):
        try:
            load_public_key(path)
        except ClipKeyError as error:
            problems.append(document.problem(("privacy", "encryption", "recipients", index), str(error)))
    return problems


def _detector_problems(config: RigConfig, document: Document) -> list[Problem]:
    from runtime.privacy.detector import Detector  # a network library: only where something is to be blurred

    blur = config.privacy.blur
    if blur is None:
        return []
    try:
        Detector(blur.bundle, blur.classes, blur.min_score, blur.threads).close()
    except DetectorError as error:
        return [document.problem(("privacy", "blur"), f"nothing can be blurred: {error}", at_key=True)]
    return []
