"""HTML by small functions. Text is escaped unless it is `Html` already: nothing from a drive can become markup."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "input", "meta"})


class Html(str):
    """Markup that may stand in a page as it is."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Html:
    """`<name …>children</name>`. `class_` is class, `data_tip` is data-tip; attributes that are None are left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{said}>" if name in _VOID else f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: str) -> Html:
    """Several pieces, one after another."""
    return Html("".join(child if isinstance(child, Html) else escape(child, quote=True) for child in children))


def number(value: float, digits: int = 1) -> str:
    """A number for a table: thousands apart, no needless digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A share in percent; a dash where there was nothing to take it of."""
    return "-" if value is None else f"{value:.0%}"


def counted(count: int, noun: str) -> str:
    """`1 drive`, `2 drives`."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"
