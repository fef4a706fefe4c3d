"""From a folder to a draft: everything is checked, by the loaders that vehicles use, before a byte is written.

Files are looked at in a copy that holds only what campaign.yaml lists: a rule that names a file which is not listed
fails here as it would fail on the vehicle. Problems name the author's own files.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from runtime.campaigns.contents import Declared, campaign_rules, check_files, check_model, model_folder
from runtime.campaigns.document import CAMPAIGN_FILE, Campaign, load_campaign
from runtime.campaigns.index import MAX_CAMPAIGNS, entry_of
from runtime.campaigns.learned import check_learned
from runtime.campaigns.repository import PublishingError, Repository
from runtime.formats.documents import DocumentError, Problem
from triggers.rules.rule import RuleSet


def check_campaign(folder: Path, bundle: Path, declared: Declared | None = None) -> tuple[Campaign, RuleSet]:
    """The campaign in `folder` and its rules. Raises DocumentError with every problem of every file.

    `bundle` is the model that vehicles run, for queries and classifiers; a bundle of the campaign stands in for it.
    """
    campaign = load_campaign(folder)
    problems = check_files(folder, campaign)
    if problems:
        raise DocumentError(problems)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for path in (CAMPAIGN_FILE, *campaign.files):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, copy / path)
        found, rules = _look(copy, campaign, bundle, declared)
    problems = [dataclasses.replace(problem, file=_own_name(problem.file, temporary, folder)) for problem in found]
    if problems or rules is None:
        raise DocumentError(problems)
    return campaign, rules


def _look(
    copy: Path, campaign: Campaign, bundle: Path, declared: Declared | None
) -> tuple[list[Problem], RuleSet | None]:
    problems: list[Problem] = []
    rules: RuleSet | None = None
    try:
        rules = campaign_rules(copy, campaign, declared)
    except DocumentError as error:
        problems += error.problems
    checks: list[Callable[[], None]] = [lambda: check_model(copy, campaign)]
    if rules is not None:
        checks.append(lambda: check_learned(rules, model_folder(copy, campaign) or bundle))
    for check in checks:
        try:
            check()
        except DocumentError as error:
            problems += error.problems
    return problems, rules


def _own_name(file: str, temporary: str, folder: Path) -> str:
    return str(folder / file[len(temporary) :].lstrip("/")) if file.startswith(temporary) else file


def add_campaign(
    repository: Repository,
    folder: Path,
    bundle: Path,
    now: datetime,
    life: timedelta,
    declared: Declared | None = None,
) -> Campaign:
    """Check the campaign in `folder` and draft targets that hold it, instead of its version before.

    Raises DocumentError, PublishingError.
    """
    campaign, _ = check_campaign(folder, bundle, declared)
    if campaign.expires_wall_ns <= now.timestamp() * 1e9:
        raise PublishingError(f"{campaign.label} is over already: write a later 'expires'")
    entries = {entry.name: entry for entry in repository.entries(drafted=True)}
    published = {entry.name: entry.version for entry in repository.entries(drafted=False)}
    highest = max(published.get(campaign.name, 0), _highest_ever(repository, campaign.name))
    drafted = entries.get(campaign.name)
    is_redraft = drafted is not None and drafted.version == campaign.version > published.get(campaign.name, 0)
    if campaign.version <= highest and not is_redraft:
        raise PublishingError(
            f"{campaign.name} has had version {highest}: write version {highest + 1} or more, vehicles never go back"
        )
    entries[campaign.name] = entry_of(campaign)
    if len(entries) > MAX_CAMPAIGNS:
        raise PublishingError(f"more than {MAX_CAMPAIGNS} campaigns would be out: withdraw some")
    files: Mapping[str, Path] = {entry_of(campaign).target(path): folder / path for path in entry_of(campaign).files}
    repository.draft_targets(entries.values(), files, now + life)
    return campaign


def withdraw_campaign(repository: Repository, name: str, now: datetime, life: timedelta) -> None:
    """Draft targets without this campaign: vehicles stop it at their next look. Raises PublishingError."""
    entries = {entry.name: entry for entry in repository.entries(drafted=True)}
    if name not in entries:
        raise PublishingError(f"no campaign {name!r} is out: {', '.join(sorted(entries)) or 'there are none'}")
    del entries[name]
    repository.draft_targets(entries.values(), {}, now + life)


def renew_targets(repository: Repository, now: datetime, life: timedelta) -> None:
    """Draft the same targets with a later date."""
    repository.draft_targets(repository.entries(drafted=True), {}, now + life)


def _highest_ever(repository: Repository, name: str) -> int:
    """Versions stay below targets/ when a campaign is withdrawn."""
    folder = repository.targets / "campaigns" / name
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)
