"""Trigger rules: which moments of driving are worth sending home.

    rules = load_rules([library_path()])            # DocumentError with every problem, located
    engine = RuleEngine(rules, seed=1)
    firings = engine.evaluate(tracks, signals, time_ns, wall_ns)

`language` turns a condition's text into a checked expression tree; `evaluation` turns the trees of all rules into
one program whose shared parts run once a tick; `rules` reads rule files and runs the tests shipped inside them;
`engine` moves every rule through inactive -> pending -> firing -> cooling; `selection` decides which events are kept
under which budgets, and counts every one by what became of it; `lineup` lets rules change while they run.
Everything here is pure: time is an argument, chance is seeded, no file is read after loading.
"""

from triggers.engine import RuleEngine, RuleStatus, StaleRulesError
from triggers.lineup import PreparedRules
from triggers.rules.applicability import OPTIONAL_TRACK_FIELDS, Capabilities
from triggers.rules.learned import ClassifierFile, EmbeddingQuery
from triggers.rules.loading import library_path, load_rules
from triggers.rules.rule import Budget, CampaignTerms, Rule, RuleSet
from triggers.rules.testing import RuleTestReport, RuleTestResult, check_rule_tests, run_rule_tests

__all__ = [
    "OPTIONAL_TRACK_FIELDS",
    "Budget",
    "CampaignTerms",
    "Capabilities",
    "ClassifierFile",
    "EmbeddingQuery",
    "PreparedRules",
    "Rule",
    "RuleEngine",
    "RuleSet",
    "RuleStatus",
    "RuleTestReport",
    "RuleTestResult",
    "StaleRulesError",
    "check_rule_tests",
    "library_path",
    "load_rules",
    "run_rule_tests",
]
