"""Whatever is written where a condition belongs, it is either understood or refused, and what is understood runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rule_ticks import SECOND, Signals, make_track

from runtime.formats.documents import DocumentError
from runtime.messages import CameraView, ControllerObject
from triggers import load_rules
from triggers.evaluation.program import Program
from triggers.language import populations, vocabulary
from triggers.language.checking import check
from triggers.language.mistakes import CheckError
from triggers.language.scope import Scope
from triggers.language.types import Type, Value
from triggers.language.zones import Circle
from triggers.rules.applicability import Capabilities, missing_words

WORDS = st.sampled_from(
    [
        *vocabulary.FUNCTIONS, *vocabulary.NAMED, *vocabulary.SIGNALS, *populations.QUANTIFIERS, "heads.a",
        *(name for table in populations.FIELDS.values() for name in table),
        *(name for table in populations.ITEM_FUNCTIONS.values() for name in table),
        "(", ")", "(", ")", ",", "+", "-", "*", "/", "//", "%", "**", "<", ">=", "==", "!=", "and", "or", "not",
        "in", "if", "else", "1", "2.0", "1e300", "True", "'car'", "'town'", "None", "[", "]", "lambda",
    ]
)  # fmt: skip
SCOPE = {"zones": {"town": Circle(48.0, 11.0, 100.0)}, "queries": ("tram",), "classifiers": ("debris",)}
NUMBERS = st.sampled_from(["1", "0", "-2.5", "1e300", "heads.n", "heads.m", "vehicle.speed_mps"])
SECONDS = st.sampled_from(["0.5", "2", "0.01"])


WINDOWS = [
    *(name for name, each in vocabulary.FUNCTIONS.items() if each.has_seconds and each.operands == (Type.NUMBER,)),
    "lag",
    "flips",
]
OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**"])
INFIX, IF_ELSE = "({0[0]} {0[1]} {0[2]})".format, "({0[0]} if {0[1]} else {0[2]})".format
ONE, TWO = "{0[0]}({0[1]})".format, "{0[0]}({0[1]}, {0[2]})".format


def numbers(own: list[str]) -> st.SearchStrategy[str]:
    """Number expressions over signals and the given names."""
    return st.recursive(
        st.one_of(NUMBERS, st.sampled_from(own)) if own else NUMBERS,
        lambda inner: st.one_of(
            st.tuples(inner, OPERATORS, inner).map(INFIX),
            st.tuples(st.sampled_from(["abs", "sign"]), inner).map(ONE),
            st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(TWO),
            st.tuples(st.sampled_from(WINDOWS), inner, SECONDS).map(TWO),
        ),
        max_leaves=5,
    )


def conditions(own: list[str], truths: list[str]) -> st.SearchStrategy[str]:
    """Conditions over them."""
    number = numbers(own)
    return st.recursive(
        st.one_of(
            st.tuples(number, st.sampled_from(["<", ">=", "==", "!="]), number).map(INFIX),
            st.sampled_from(truths),
        ),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["and", "or", "=="]), inner).map(INFIX),
            st.tuples(inner, inner, inner).map(IF_ELSE),
            st.tuples(st.sampled_from(["is_true", "known", "rising", "changed"]), inner).map(ONE),
            inner.map("(not {})".format),
            st.tuples(st.sampled_from(["any_within", "all_within", "lag"]), inner, SECONDS).map(TWO),
            inner.map("(since_s({}) > 1)".format),
        ),
        max_leaves=4,
    )


TRACK = conditions(["distance_m", "speed_mps", "age_s", "presence_flips(0.5)"], ["visible", "(lane == 'ego')"])
OBJECT = conditions(["distance_m", "score"], ["(class_name in ('car', 'bus'))", "heads.c"])
CAMERA = conditions(["luma", "latency_ms"], ["is_missing", "(state != 'ok')"])
QUESTIONS = st.one_of(
    TRACK.map("any_track({})".format),
    TRACK.map("count_tracks({}) >= 1".format),
    TRACK.map("max_tracks(distance_m, {}) > 1".format),
    OBJECT.map("all_objects({})".format),
    OBJECT.map("mean_objects(distance_m, {}) > 1".format),
    CAMERA.map("any_camera({})".format),
    CAMERA.map("min_cameras(luma, {}) < 9".format),
    conditions([], ["heads.c", "vehicle.gas_pressed", "inside('town')", "(embedding_distance('tram') < 1)"]),
)
VALUES = st.sampled_from([None, 0.0, 1.0, -1.5, 1e200])
TICKS = st.lists(st.tuples(VALUES, VALUES, st.booleans()), min_size=1, max_size=8)


@settings(deadline=None, max_examples=400)
@given(st.lists(WORDS, min_size=1, max_size=25).map(" ".join))
def test_any_row_of_words_is_understood_or_refused(text: str) -> None:
    try:
        expression = check(text, Scope(**SCOPE), Type.BOOLEAN)  # type: ignore[arg-type]
    except CheckError as error:
        for mistake in error.mistakes:
            if not (0 <= mistake.offset <= len(text) and mistake.message and mistake.fix):
                raise AssertionError(mistake) from error
        return
    missing_words(expression, Capabilities())
    Program([expression], 0, {}).run([], Signals({}), SECOND)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_text_is_a_rule_file_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    for content in (text, f"rules:\n  - name: probe\n    description: x\n    when: {text}\n"):
        path.write_text(content, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(DocumentError):  # which cannot be without problems
            load_rules([path])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(QUESTIONS, min_size=1, max_size=3),
    st.lists(st.tuples(VALUES, VALUES, st.booleans()), min_size=1, max_size=8),
)
def test_every_condition_yields_true_false_or_unknown_at_every_tick(
    texts: list[str], ticks: list[tuple[float | None, float | None, bool]]
) -> None:
    expressions = [check(text, Scope(**SCOPE), Type.BOOLEAN) for text in texts]  # type: ignore[arg-type]
    program = Program(expressions, 0, {})
    for tick, (one, other, flag) in enumerate(ticks):
        time_ns = (tick + 1) * SECOND // 4
        values: dict[str, Value] = {"heads.n": one, "heads.m": other, "heads.c": flag, "vehicle.speed_mps": other}
        tracks = [make_track(n, time_ns, distance_m=one, speed_mps=other, visible=flag) for n in range(tick % 4)]
        objects = [ControllerObject(tick // 2, "car", score=one, distance_m=other)] if flag else None
        cameras = [CameraView("front", "ok", not flag, luma=one, latency_ms=other)]
        program.run(tracks if tick % 5 else None, Signals(values), time_ns, objects, cameras)
        for expression in expressions:
            assert program.value(program.slot(expression)) in (True, False, None)
