"""What a vehicle says of a clip may be anything: it becomes columns that every database takes, or unknown."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from runtime.formats.offer_limits import MAX_LISTED
from runtime.uplink.storage.clip_facts import MAX_LABEL_LENGTH, facts_of

NAMES = ("start_wall_ns", "end_wall_ns", "kind", "model", "software_version", "rules", "campaigns")
any_text = st.text(st.characters(), max_size=300)  # lone surrogates too: JSON spells them
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_whatever_a_vehicle_says_fits_into_the_columns(said):
    facts = facts_of(json.dumps(said))
    texts = [facts.kind, facts.model, facts.software_version, *facts.rules, *facts.campaigns]
    for text in texts:
        assert text is None or (text and len(text) <= MAX_LABEL_LENGTH and "\0" not in text)
        assert text is None or text.encode().decode() == text
    assert (facts.start_wall_ns is None) == (facts.end_wall_ns is None)
    if facts.start_wall_ns is not None:
        assert 0 < facts.start_wall_ns <= facts.end_wall_ns < 2**63
    assert len(facts.rules) <= MAX_LISTED


def test_a_clip_has_at_most_64_rules_and_64_campaigns_to_be_asked_for():
    names = [f"name-{i}" for i in range(1000)]
    facts = facts_of(json.dumps({"rules": names, "campaigns": names}))
    assert (len(facts.rules), len(facts.campaigns)) == (64, 64)


def test_half_a_span_and_one_that_runs_backwards_say_nothing():
    assert facts_of('{"start_wall_ns": 5}').start_wall_ns is None
    assert facts_of('{"start_wall_ns": 5, "end_wall_ns": 4}').end_wall_ns is None
    assert facts_of('{"start_wall_ns": true, "end_wall_ns": 4}').end_wall_ns is None
    assert facts_of("[" * 100_000).rules == ()


def test_a_clip_of_unknown_time_may_show_anything_until_it_was_heard_of():
    unknown, known = facts_of("{}"), facts_of('{"start_wall_ns": 10, "end_wall_ns": 20}')
    assert unknown.may_overlap(5, 6, known_by_wall_ns=7)
    assert not unknown.may_overlap(8, 9, known_by_wall_ns=7)
    assert known.may_overlap(20, 30, known_by_wall_ns=1000)
    assert not known.may_overlap(21, 30, known_by_wall_ns=1000)
