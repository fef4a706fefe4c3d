"""A campaign's folder as something to backtest before it is signed: its rules, its budget, the network that it brings.

Its dates are left out of account: drives of last month say what the campaign of next month will cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from runtime.campaigns.contents import campaign_rules, check_files, model_folder
from runtime.campaigns.document import CAMPAIGN_FILE, Campaign, load_campaign
from runtime.campaigns.merging import merged
from runtime.campaigns.reasons import CampaignRefusedError
from runtime.composition import open_rules
from runtime.declared_signals import declared_types
from runtime.formats.documents import DocumentError, Problem
from runtime.formats.signal_names import RecordedKind
from triggers import RuleSet

ALWAYS_NS = (0, 2**63 - 1)


def campaign_folder(place: str | Path) -> Path | None:
    """The folder of the campaign that `place` (it, or its campaign.yaml) names; None when it names none."""
    path = Path(place)
    folder = path.parent if path.name == CAMPAIGN_FILE else path
    return folder if (folder / CAMPAIGN_FILE).is_file() else None


def open_rules_and_campaigns(places: Iterable[str], declared: Mapping[str, RecordedKind]) -> RuleSet:
    """The rules of all places as they would run together. Raises DocumentError."""
    places = list(places)
    plain = [place for place in places if campaign_folder(place) is None]
    rules = open_rules(plain, declared) if plain else RuleSet(())
    for folder in _folders(places):
        rules = _with_campaign(rules, folder, declared)
    return rules


def _with_campaign(rules: RuleSet, folder: Path, declared: Mapping[str, RecordedKind]) -> RuleSet:
    campaign = _open(folder)
    found = campaign_rules(folder, campaign, declared_types(declared))
    begins_ns, ends_ns = ALWAYS_NS
    terms = {
        label: replace(each, starts_wall_ns=begins_ns, expires_wall_ns=ends_ns) for label, each in found.terms.items()
    }
    try:
        return merged(rules, replace(found, terms=terms), campaign.label)
    except CampaignRefusedError as error:
        raise DocumentError([Problem(str(folder), 0, 0, str(error), None, "a vehicle would refuse it too")]) from error


def campaign_model(places: Iterable[str]) -> Path | None:
    """The network that a campaign among `places` brings; DocumentError when two bring one."""
    found = {folder: model_folder(folder, _open(folder)) for folder in _folders(places)}
    models = {folder: model for folder, model in found.items() if model is not None}
    if len(models) > 1:
        fix = "backtest them one by one, or name the network with --model"
        names = ", ".join(map(str, models))
        raise DocumentError([Problem(names, 0, 0, "are campaigns that bring a network each", None, fix)])
    return next(iter(models.values()), None)


def _folders(places: Iterable[str]) -> list[Path]:
    folders = (campaign_folder(place) for place in places)
    return list(dict.fromkeys(folder for folder in folders if folder is not None))


def _open(folder: Path) -> Campaign:
    campaign = load_campaign(folder)
    if problems := check_files(folder, campaign):
        raise DocumentError(problems)
    return campaign
