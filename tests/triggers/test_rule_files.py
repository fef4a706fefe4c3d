"""Rule files: where mistakes are, and the tests that files ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.formats.documents import DocumentError, Problem
from triggers import check_rule_tests, load_rules, run_rule_tests

HEAD = "rules:\n  - name: probe\n    description: A probe.\n"


def problems_of(tmp_path: Path, text: str) -> tuple[Problem, ...]:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_rules([path])
    return caught.value.problems


@pytest.mark.parametrize(
    ("when", "line", "column"),
    [
        ("vehicle.speed_mps > 3 and vehicle.sped_mps > 4", 4, 37),
        ('"vehicle.speed_mps > 3 and vehicle.sped_mps > 4"', 4, 38),
        ("'vehicle.speed_mps > 3 and vehicle.sped_mps > 4'", 4, 38),
        (">-\n      vehicle.speed_mps > 3\n      and vehicle.sped_mps > 4", 6, 11),
        ("|\n        vehicle.speed_mps > 3\n        and   vehicle.sped_mps > 4", 6, 15),
        ("vehicle.speed_mps > 3\n      and vehicle.sped_mps > 4", 5, 11),
        ('"vehicle.gear == \\"park\\" and vehicle.sped_mps > 4"', 4, 41),
    ],
)
def test_mistake_is_located_in_every_style_of_yaml_text(tmp_path: Path, when: str, line: int, column: int) -> None:
    (problem,) = problems_of(tmp_path, f"{HEAD}    when: {when}\n")
    assert (problem.line, problem.column, problem.value) == (line, column, "vehicle.sped_mps")
    written = (tmp_path / "rules.yaml").read_text().splitlines()[line - 1]
    assert written[column - 1 :].startswith("vehicle.sped_mps")
    assert problem.fix == "did you mean 'vehicle.speed_mps'?"


def test_mistakes_in_operands_and_let_are_located_too(tmp_path: Path) -> None:
    text = "let:\n  quick: vehicle.sped > 3\n" + HEAD + "    when: vehicle.gas_pressed\n    operands: {a: foo(1)}\n"
    places = [(problem.line, problem.column) for problem in problems_of(tmp_path, text)]
    assert places == [(2, 10), (7, 19)]


def test_let_names_may_use_those_above_them_only(tmp_path: Path) -> None:
    text = "let: {one: two, two: vehicle.gas_pressed, three: not two}\n" + HEAD + "    when: three\n"
    (problem,) = problems_of(tmp_path, text)
    assert "unknown name 'two'" in problem.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    hold_s: -1\n", "hold_s"),
        ("    hold: 1\n", "unknown key 'hold'"),
        ("    sample: 0\n", "sample"),
        ("    priority: urgent\n", "priority"),
        ("    budget: {bytes_per_day: lots}\n", "is not a size"),
        ("    budget: {firings_per_hour: 0}\n", "firings_per_hour"),
        ("    cooldown_s: .inf\n", "cooldown_s"),
        ("    rearm: never\n", "rearm"),
        ("    capture: {pre_s: 1000}\n", "pre_s"),
        ("    capture: {topics: [vehicle]}\n", "is not a topic: 'vehicle'"),
        ("    capture: {topics: [/camera/rear/video]}\n", "name the camera in 'cameras'"),
        ("    capture: {variant: video}\n", "variant"),
        ('    hold_s: "1"\n', "hold_s"),
        ("    hold_s: true\n", "hold_s"),
        ('    sample: "0.1"\n', "sample"),
        ("    budget: {firings_per_hour: true}\n", "firings_per_hour"),
        ('    budget: {firings_per_hour: "20"}\n', "firings_per_hour"),
    ],
)
def test_keys_and_values_that_make_no_sense_are_refused(tmp_path: Path, line: str, message: str) -> None:
    problems = problems_of(tmp_path, f"{HEAD}    when: vehicle.gas_pressed\n{line}")
    assert any(message in str(problem) and problem.line == 5 for problem in problems), problems


def test_rule_names_are_unique_over_all_files(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(HEAD + "    when: vehicle.gas_pressed\n")
    with pytest.raises(DocumentError, match=r"b\.yaml:2:11: rule 'probe' exists already, in .*a\.yaml"):
        load_rules([tmp_path])


def test_the_designs_example_rule_is_accepted_as_written(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("""rules:
  - name: parked_car_predicted_moving
    description: A tracked car that has not moved for 3 s, in a neighbouring lane, is predicted to move.
    when: any_track(class_name == "car" and displacement_px(3.0) < 20 and lane in ("left", "right") and predicted_speed_mps > 0.5)
    hold_s: 0.2          # must stay true this long (pending -> firing)
    cooldown_s: 30
    capture: {pre_s: 10, post_s: 5}
    priority: normal     # safety > high > normal > low > background
    budget: {firings_per_hour: 20, bytes_per_day: 500MB}
    sample: 1.0          # known probability, written into the clip
""")  # noqa: E501
    (rule,) = load_rules([tmp_path / "rules.yaml"]).rules
    assert rule.budget.bytes_per_day == 500_000_000


TESTED = (
    HEAD + "    when: vehicle.speed_mps > 30\n    sample: 0.001\n    budget: {firings_per_hour: 1}\n    cooldown_s: 0\n"
)


def run(tmp_path: Path, tests: str) -> list[str]:
    (tmp_path / "rules.yaml").write_text(TESTED + "tests:\n" + tests)
    return [result.difference.partition("\n")[0] for result in run_rule_tests([tmp_path]).results]


def speeds(body: str) -> str:
    signals = "{vehicle.speed_mps: {0: 0, 1: 40, 2: 0, 3: 40}}"
    return f"  - name: t\n    rule: probe\n    duration_s: 4\n    signals: {signals}\n{body}"


def test_shipped_test_passes_when_the_rule_fires_as_told_whatever_its_sampling(tmp_path: Path) -> None:
    assert run(tmp_path, speeds("    fires_at_s: [1.0, 3.0]\n    operands: {vehicle.speed_mps: 40}\n")) == [""]


@pytest.mark.parametrize(
    ("expected", "difference"),
    [
        ("    fires_at_s: []\n", "expected firings at [] s, fired at [1.0, 3.0] s"),
        ("    fires_at_s: [1.0]\n", "expected firings at [1.0] s, fired at [1.0, 3.0] s"),
        ("    fires_at_s: [1.2, 3.0]\n", "expected firings at [1.2, 3.0] s, fired at [1.0, 3.0] s"),
        ("    fires: {at_least: 3, at_most: 9}\n", "expected 3 to 9 firings, got 2: [1.0, 3.0] s"),
        (
            "    fires_at_s: [1.0, 3.0]\n    operands: {vehicle.speed_mps: 41}\n",
            "expected operand vehicle.speed_mps to be 41.0, the first firing has 40.0",
        ),
    ],
)
def test_shipped_test_fails_with_a_readable_difference(tmp_path: Path, expected: str, difference: str) -> None:
    assert run(tmp_path, speeds(expected)) == [difference]


def test_shipped_tests_with_mistakes_are_all_told(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        run(tmp_path, speeds("") + speeds("    fires_at_s: []\n").replace("rule: probe", "rule: nobody"))
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 2
    assert "fires_at_s" in told[0]
    assert "nobody" in told[1]


def test_report_names_file_and_line_of_a_failed_test(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(TESTED + "tests:\n" + speeds("    fires_at_s: []\n"))
    report = run_rule_tests([tmp_path])
    assert not report.passed
    assert f"{tmp_path / 'rules.yaml'}:9: expected firings" in str(report.results[0])


def test_an_expression_cut_at_its_comma_says_so(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path, "let: {braked: any_within(vehicle.brake_pressed, 2.0)}\n" + HEAD + "    when: braked\n"
    )
    (problem,) = [problem for problem in found if problem.column == 53]  # behind the name that YAML made of the rest
    assert "inside { } a comma begins the next name" in problem.message
    assert problem.fix == "put the expression in quotes"


def test_every_refused_value_comes_with_a_fix(tmp_path: Path) -> None:
    head = "zones: {depot: {circle: {latitude_deg: 95, longitude_deg: 11, radius_m: -3}}}\n"
    head += "queries: {tram: {file: missing.json}}\n"
    problems = problems_of(tmp_path, head + HEAD.replace("probe", "Probe-1") + "    when: vehicle.gas_pressed\n")
    assert len(problems) == 3
    assert all(problem.fix and problem.line for problem in problems), problems
    problems = problems_of(tmp_path, head.splitlines()[1] + "\n" + HEAD + "    when: vehicle.gas_pressed\n")
    assert [(problem.line, problem.message) for problem in problems] == [(1, "there is no such file")]


def test_mistakes_in_shipped_tests_are_found_without_running_them(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(TESTED + "tests:\n" + speeds("    fires_at_s: [1]\n    fires: {at_most: 1}\n"))
    with pytest.raises(DocumentError, match=r"says both 'fires_at_s' and 'fires'.*remove one of them"):
        check_rule_tests([tmp_path])


def test_mistakes_of_shape_do_not_hide_those_in_expressions(tmp_path: Path) -> None:
    text = (
        "let: {fast: vehicle.sped_mps > 3}\n"
        "rules:\n"
        "  - {name: a, description: A., when: fast and foo, hold_s: -1}\n"
        "  - {name: a, description: A., wen: x, score: vehicle.gear}\n"
        "  - 7\n"
    )
    found = {(problem.line, problem.message.split(" (")[0]) for problem in problems_of(tmp_path, text)}
    lines = [line for line, _ in found]
    messages = " | ".join(message for _, message in found)
    assert set(lines) == {1, 3, 4, 5}
    for part in ("unknown signal 'vehicle.sped_mps'", "unknown name 'foo'", "hold_s", "wen", "exists already", "text"):
        assert part in messages, part


def test_a_file_without_rules_is_refused_whatever_else_it_holds(tmp_path: Path) -> None:
    for text in ("rules: 3\n", "[]\n", "rules: []\n", "let: {a: b}\n"):
        assert problems_of(tmp_path, text)


def test_a_rule_keeps_its_version_unless_it_asks_for_another_variant(tmp_path: Path) -> None:
    versions = []
    for number, capture in enumerate(("{pre_s: 3}", "{pre_s: 3, variant: full}", "{pre_s: 3, variant: thumbnails}")):
        path = tmp_path / f"rules_{number}.yaml"
        path.write_text(f"{HEAD}    when: vehicle.gas_pressed\n    capture: {capture}\n")
        (rule,) = load_rules([path]).rules
        versions.append(rule.version)
    # As it was before there were variants: budgets and tallies of vehicles in the field go on.
    assert versions[0] == versions[1] != versions[2]
