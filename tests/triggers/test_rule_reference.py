"""The reference of the rule language names every word that there is, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import triggers
from triggers import load_rules, run_rule_tests
from triggers.language import populations, vocabulary

REFERENCE = (Path(triggers.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_every_word_of_the_language_is_in_the_reference() -> None:
    words = {*vocabulary.FUNCTIONS, *vocabulary.NAMED}
    words |= {name.partition(".")[2] for name in vocabulary.SIGNALS}
    for population in populations.Population:
        words |= {*populations.FIELDS[population], *populations.ITEM_FUNCTIONS[population]}
    words |= {
        name for name, each in populations.QUANTIFIERS.items() if each.population is populations.Population.TRACKS
    }
    written = set(re.findall(r"[a-z][a-z0-9_]*", REFERENCE))
    assert words - written == set()


def test_the_example_is_a_good_rule_file_that_passes_its_tests(tmp_path: Path) -> None:
    example = re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)[0]
    path = tmp_path / "example.yaml"
    path.write_text(example, encoding="utf-8")
    assert len(load_rules([path]).rules) == 1
    report = run_rule_tests([path])
    assert report.passed, [str(result) for result in report.results]
