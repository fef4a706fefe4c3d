"""Rule files that mean harm are refused at a place in the file, in bounded memory; nothing of them is evaluated."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from runtime.formats.documents import DocumentError, Problem
from triggers import load_rules
from triggers.rules.memory import MAX_WINDOW_BYTES
from triggers.rules.rule_reader import MAX_PROBLEMS

HEAD = "rules:\n  - name: probe\n    description: A probe.\n"
QUIET = HEAD + "    when: vehicle.gas_pressed\n"
PEAK_BYTES = 64 * 1024 * 1024  # a file has at most 4 MiB


def refused(tmp_path: Path, text: str) -> tuple[Problem, ...]:
    """The problems of a rule file, every one at a line, found within bounded memory."""
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    tracemalloc.start()
    try:
        with pytest.raises(DocumentError) as caught:
            load_rules([path])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < PEAK_BYTES + 16 * len(text)
    for problem in caught.value.problems:
        assert str(path) in problem.file or problem.file.startswith(str(tmp_path))
        assert len(str(problem)) < 1500 + len(str(path))
    return caught.value.problems


@pytest.mark.parametrize(
    "condition",
    [
        " or ".join(["vehicle.gas_pressed"] * 100_000),
        "(" * 1500 + "1" + ")" * 1500 + " > 0",
        "not " * 1000 + "vehicle.gas_pressed",
        "abs(" * 500 + "1" + ")" * 500 + " > 0",
        "vehicle.speed_mps " + "+ 1 " * 900 + "> 0",
        "min(" + ", ".join(["vehicle.speed_mps"] * 1200) + ") > 0",
        "vehicle.speed_mps in (" + ", ".join(["1 > 0"] * 500) + ")",
        "any_within(vehicle.gas_pressed, 1000000)",
        "any_within(vehicle.gas_pressed, 1e400)",
        "any_within(vehicle.gas_pressed, -1)",
        "any_within(vehicle.gas_pressed, 0)",
        "any_within(vehicle.gas_pressed, True)",
        "any_track(mean_within(distance_m, 1000000) > 1)",
        "any_track(displacement_px(61) > 1)",
        "at_random(1e300)",
        "vehicle.speed_mps > 1e999",
        "vehicle.speed_mps > " + "9" * 4000,
        "vehicle.speed_mps > 1" + "0" * 301,
        "vehicle.speed_mps > nan",
        "vehicle.speed_mps > inf",
        "vehicle.speed_mps > 1j",
        "vehicle.gear == b'park'",
        "vehicle.gear * 1000000000 == 'P'",
        "vehicle.gear == f'{vehicle.gear}'",
        "[vehicle.gear for _ in (1, 2)] == 3",
        "(lambda: vehicle.gas_pressed)()",
        "__import__('os').system('true') == 0",
        "vehicle.__class__.__mro__ == 1",
        "inside('" + "x" * 4000 + "')",
        "embedding_distance('" + "y" * 4000 + "') < 1",
        "classifier(classifier('z')) < 1",
        "any_track(any_camera(is_missing))",
        "count_tracks(min_objects(distance_m, True) < 3) > 1",
        "any_object(displacement_px(1.0) > 3)",
        "any_camera(lane == 'ego')",
        "\\ud800 > 3",
    ],
    ids=lambda condition: condition[:40],
)
def test_condition_is_refused_where_it_stands(tmp_path: Path, condition: str) -> None:
    problems = refused(tmp_path, f"{HEAD}    when: {json.dumps(condition)}\n")
    assert all(problem.line == 4 for problem in problems), problems
    assert len(problems) <= 20


def test_every_operand_and_score_is_held_to_the_same_bounds(tmp_path: Path) -> None:
    text = QUIET + "    score: any_within(vehicle.gas_pressed, 1.0)\n    operands: {a: 'lag(lead.distance_m, 1e6)'}\n"
    assert sorted(problem.line for problem in refused(tmp_path, text)) == [5, 6]


def test_yaml_that_grows_or_never_ends_is_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
    for text in (bomb + QUIET, "x: " * 10_000 + "1\n", "[" * 10_000, "#" * 5_000_000, QUIET + "---\n" + QUIET):
        assert refused(tmp_path, text)


def test_zones_of_absurd_size_are_refused(tmp_path: Path) -> None:
    for corners in (1_001, 20_000, 1_000_000):
        ring = ", ".join("[1.5, 2.5]" for _ in range(corners))
        problems = refused(tmp_path, f"zones:\n  town: {{polygon: [{ring}]}}\n{QUIET}")
        assert len(problems) == 1


@pytest.mark.parametrize(
    "query",
    [
        "{vector: [0.1, .nan], model: m}",
        "{vector: [0.1, .inf], model: m}",
        "{vector: [0.1, 1e400], model: m}",
        "{vector: [0.0, 0.0], model: m}",
        "{vector: [1.0e+300, 1.0e+300, 1.7e+308], model: m}",
        "{vector: [], model: m}",
        "{vector: [" + ", ".join(["0.5"] * 5_000) + "], model: m}",
        "{vector: [0.1, nine], model: m}",
        "{vector: [0.1]}",
        "{file: q.json, model: m}",
        "{file: ../../../etc/passwd}",
        "{file: /etc/passwd}",
        "{file: missing.json}",
        "{}",
    ],
    ids=lambda query: query[:40],
)
def test_query_that_is_no_embedding_is_refused(tmp_path: Path, query: str) -> None:
    problems = refused(tmp_path, f"queries:\n  tram: {query}\n{QUIET}")
    assert any(problem.line in (0, 2) for problem in problems)


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"embedding": [NaN], "model": "m"}', '{"embedding": [1e999], "model": "m"}', "[" * 50_000, "\x00\xff"],
    ids=lambda content: content[:30],
)
def test_query_file_that_is_no_embedding_is_refused_in_its_own_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "q.json").write_text(content, encoding="latin-1")
    problems = refused(tmp_path, f"queries: {{tram: {{file: q.json}}}}\n{QUIET}")
    assert any("q.json" in problem.file for problem in problems)


def test_classifier_outside_of_the_folder_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "rules").mkdir()
    (tmp_path / "outside.onnx").write_bytes(b"onnx")
    (tmp_path / "rules" / "link.onnx").symlink_to(tmp_path / "outside.onnx")
    for file in ("../outside.onnx", "link.onnx", "missing.onnx", ".", "'a\\0b'"):
        problems = refused(tmp_path / "rules", f"classifiers: {{c: {{file: {file}}}}}\n{QUIET}")
        assert len(problems) == 1
    (problem,) = refused(tmp_path, f"classifiers: {{c: {{file: empty.onnx}}}}\n{QUIET}")
    assert "is empty or too large" in problem.message


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lane", "a field of tracks"),
        ("luma", "a field of cameras"),
        ("displacement_px", "a function of tracks"),
        ("any_within", "a function"),
        ("min_objects", "a function"),
        ("inside", "a function"),
        ("vehicle", "a namespace of signals"),
        ("heads", "a namespace of signals"),
        ("embedding", "a namespace of signals"),
        ("town", "a zone of this file"),
        ("tram", "a query of this file"),
        ("lambda", "a word of the language"),
    ],
)
def test_let_name_that_means_something_already_is_refused(tmp_path: Path, name: str, told: str) -> None:
    others = (
        "zones: {town: {circle: {latitude_deg: 1, longitude_deg: 1, radius_m: 1}}}\n"
        "queries: {tram: {vector: [1], model: m}}\n"
    )
    (problem,) = refused(tmp_path, f"{others}let:\n  {name}: vehicle.gas_pressed\n{QUIET}")
    assert f"{name!r} is {told} already" in problem.message
    assert problem.line == 4


@pytest.mark.parametrize("name", ["1x", "a b", "A", "a.b", "_", "x" * 65, "Ä", "__class__"])
def test_names_are_small_letters_digits_and_underscores(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, f"let: {{{json.dumps(name)}: vehicle.gas_pressed}}\n{QUIET}")
    assert refused(tmp_path, f"{QUIET}    operands: {{{json.dumps(name)}: vehicle.speed_mps}}\n")


def test_names_that_mean_two_things_in_two_files_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("a.yaml", "b.yaml")):
        (tmp_path / f"{number}.onnx").write_bytes(b"%d" % number)
        query = f"queries: {{tram: {{vector: [1, {number}], model: m}}}}\n"
        classifier = f"classifiers: {{debris: {{file: {number}.onnx}}}}\n"
        (tmp_path / name).write_text(query + classifier + QUIET)
    with pytest.raises(DocumentError) as caught:
        load_rules([tmp_path])
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 3
    assert any("'tram' exists already, with other content" in each for each in told)
    assert any("'debris' exists already, with other content" in each for each in told)
    assert any("rule 'probe' exists already" in each for each in told)


def test_let_names_that_double_one_another_are_refused(tmp_path: Path) -> None:
    lets = ["  a0: vehicle.gas_pressed", *(f"  a{n}: a{n - 1} and a{n - 1}" for n in range(1, 60))]
    problems = refused(tmp_path, "let:\n" + "\n".join(lets) + "\n" + HEAD + "    when: a59\n")
    assert any("more than 1000 parts" in problem.message for problem in problems)


def test_a_file_that_is_mostly_mistakes_is_left_after_so_many(tmp_path: Path) -> None:
    wrong = "    when: " + " and ".join(["vehicle.sped_mps > 1"] * 15) + "\n"
    rules = "".join(f"  - name: r{number}\n    description: x\n{wrong}" for number in range(3_000))
    problems = refused(tmp_path, f"rules:\n{rules}")
    assert MAX_PROBLEMS <= len(problems) <= MAX_PROBLEMS + 30
    assert "too many problems" in problems[-1].message


def test_windows_that_would_not_fit_in_memory_are_refused_at_the_rule_that_is_too_much(tmp_path: Path) -> None:
    def rules(count: int) -> str:
        condition = (
            "    when: any_track(mean_within(distance_m, 1.{0:04d}) > 3 and std_within(speed_mps, 2.{0:04d}) > 1)\n"
        )
        return "rules:\n" + "".join(
            f"  - name: r{number}\n    description: x\n{condition.format(number)}" for number in range(count)
        )

    problems = refused(tmp_path, rules(200))
    assert len(problems) == 1
    assert f"more than {MAX_WINDOW_BYTES // 1024**2} MiB" in problems[0].message
    path = tmp_path / "rules.yaml"
    path.write_text(rules(20))
    assert len(load_rules([path]).rules) == 20


def test_many_rules_with_the_same_window_share_it(tmp_path: Path) -> None:
    rules = "".join(
        f"  - name: r{number}\n    description: x\n    when: any_track(std_within(distance_m, 60) > {number})\n"
        for number in range(500)
    )
    (tmp_path / "rules.yaml").write_text(f"rules:\n{rules}")
    assert len(load_rules([tmp_path]).rules) == 500


@pytest.mark.parametrize(
    "line",
    [
        "hold_s: .nan",
        "hold_s: 1e400",
        f"cooldown_s: {'9' * 5000}",
        f"budget: {{firings_per_hour: {'9' * 400}}}",
        "budget: {bytes_per_day: 999999999999GB}",
        "budget: {by: weather}",
        "budget: {firings_per_hour: 3, by: weather}",
        "sample: -.inf",
        "score: vehicle.gear",
        "operands: {" + ", ".join(f"a{n}: vehicle.speed_mps" for n in range(33)) + "}",
        f"description: {'x' * 2000}",
    ],
    ids=lambda line: line[:30],
)
def test_values_beyond_all_measure_are_refused(tmp_path: Path, line: str) -> None:
    problems = refused(tmp_path, QUIET.replace("    description: A probe.\n", "") + f"    {line}\n"
                       + ("" if line.startswith("description") else "    description: x\n"))  # fmt: skip
    assert any(problem.line == 4 for problem in problems), problems
