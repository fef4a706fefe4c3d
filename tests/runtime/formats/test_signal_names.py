"""Values get the type that their canonical name asks for, and what does not fit is refused, never guessed."""

import pytest

from runtime.formats.signal_names import CANONICAL_SIGNALS, coerce_signal_value, parse_signal_text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("controller.enabled", "1", True),
        ("controller.enabled", "false", False),
        ("vehicle.speed_mps", "1e1", 10.0),
        ("vehicle.speed_mps", "nan", None),
        ("vehicle.speed_mps", " ", None),
        ("controller.state", "1", "1"),
        ("lead.lateral_m", "-0.5", -0.5),
        ("lead.lateral_m", "true", True),
        ("controller.alert", "startup/permanent", "startup/permanent"),
    ],
)
def test_text_becomes_the_signals_type(name: str, text: str, expected: object) -> None:
    value = parse_signal_text(name, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(("name", "text"), [("controller.enabled", "2"), ("vehicle.speed_mps", "fast")])
def test_text_that_does_not_fit_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_signal_text(name, text)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("controller.enabled", 1, True),
        ("vehicle.speed_mps", 3, 3.0),
        ("vehicle.speed_mps", float("inf"), None),
        ("vehicle.speed_mps", None, None),
        ("x.y", "text", "text"),
        ("x.y", True, True),
    ],
)
def test_typed_values_are_coerced(name: str, value: object, expected: object) -> None:
    coerced = coerce_signal_value(name, value)
    assert coerced == expected
    assert type(coerced) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"), [("vehicle.speed_mps", "fast"), ("x.y", [1]), ("controller.enabled", "yes")]
)
def test_values_of_another_kind_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="signal"):
        coerce_signal_value(name, value)


def test_canonical_names_carry_a_namespace_and_a_positive_timeout() -> None:
    assert all("." in name and signal.timeout_s > 0 for name, signal in CANONICAL_SIGNALS.items())
