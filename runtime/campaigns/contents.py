"""Looks into a campaign's folder with the loaders that the runtime uses, so that authors and vehicles agree.

`check_rules` is pure Python and cheap: the vehicle's uploader runs it before anything is switched. `check_model` and
`check_learned` open networks; authors run them before signing, the runtime when it takes the campaign over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.campaigns.document import CAMPAIGN_FILE, FILE_KEYS, Campaign
from runtime.campaigns.paths import file_below
from runtime.formats.documents import Document, DocumentError, Problem, load_document
from runtime.privacy.zones import zone_problems
from triggers.language.types import Type
from triggers.rules.loading import load_rules
from triggers.rules.rule import CampaignTerms, RuleSet

MAX_FILE_BYTES = 256_000_000
MAX_CAMPAIGN_BYTES = 512_000_000
#: What load_rules takes to declare signals beyond the canonical ones.
Declared = Mapping[str, Type]


def check_files(folder: Path, campaign: Campaign) -> list[Problem]:
    """Files that campaign.yaml lists and that are not there, lead out of the folder, or are too large."""
    document = load_document(folder / CAMPAIGN_FILE)
    problems, total_bytes = [], 0
    for key in FILE_KEYS:
        for index, path in enumerate(getattr(campaign, key)):
            problem, size_bytes = _file_problem(document, folder, (key, index), path)
            problems += problem
            total_bytes += size_bytes
    if total_bytes > MAX_CAMPAIGN_BYTES:
        problems.append(document.problem((), f"its files have more than {MAX_CAMPAIGN_BYTES} bytes", "split it"))
    return problems


def _file_problem(document: Document, folder: Path, place: tuple[str, int], path: str) -> tuple[list[Problem], int]:
    found = file_below(folder, path)
    if found is None:
        return [document.problem(place, f"file {path!r} is not in the campaign's folder", "copy it there")], 0
    size_bytes = found.stat().st_size
    if not 0 < size_bytes <= MAX_FILE_BYTES:
        return [document.problem(place, f"file {path!r} has {size_bytes} bytes", f"1 to {MAX_FILE_BYTES}")], 0
    return [], size_bytes


def campaign_rules(folder: Path, campaign: Campaign, declared: Declared | None = None) -> RuleSet:
    """The campaign's rules, each marked as its; its zones are looked at as well.

    Raises DocumentError with every problem of every file.
    """
    rules = load_rules([folder / path for path in campaign.rules], declared)
    outside = [_unlisted(folder, campaign, path) for path in _learned_files(rules)]
    problems = [problem for problem in outside if problem is not None]
    problems += [problem for path in campaign.exclusion_zones for problem in zone_problems(folder / path)]
    if problems:
        raise DocumentError(problems)
    marked = tuple(dataclasses.replace(rule, campaign=campaign.label) for rule in rules.rules)
    terms = CampaignTerms(campaign.budget, campaign.starts_wall_ns, campaign.expires_wall_ns)
    return dataclasses.replace(rules, rules=marked, terms={campaign.label: terms})


def _learned_files(rules: RuleSet) -> Sequence[Path]:
    return [classifier.path for classifier in getattr(rules, "classifiers", {}).values()]


def _unlisted(folder: Path, campaign: Campaign, path: Path) -> Problem | None:
    listed = {(folder / name).resolve() for name in campaign.classifiers}
    if path.resolve() in listed:
        return None
    fix = f"list it under 'classifiers' of {CAMPAIGN_FILE}"
    return Problem(str(path), 0, 0, "is used by a rule, but is no classifier of the campaign", None, fix)


def model_folder(folder: Path, campaign: Campaign) -> Path | None:
    """Where the campaign's model bundle lies; None when it has none."""
    return (folder / campaign.model[0]).parent if campaign.model else None


def check_model(folder: Path, campaign: Campaign) -> None:
    """Open the model bundle as far as that goes without cameras. Raises DocumentError."""
    from runtime.inference.bundle import load_bundle  # ONNX: only where a campaign brings a model

    bundle = model_folder(folder, campaign)
    if bundle is None:
        return
    opened = load_bundle(bundle)
    unlisted = [
        entry.path
        for entry in opened.manifest.files.values()
        if (bundle / entry.path).resolve() not in {(folder / name).resolve() for name in campaign.model}
    ]
    if unlisted:
        fix = f"list them under 'model' of {CAMPAIGN_FILE}"
        raise DocumentError([Problem(str(bundle), 0, 0, f"{', '.join(unlisted)} would stay behind", None, fix)])
