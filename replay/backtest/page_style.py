"""The report's looks (`page.css`) and its few lines of script (`page.js`), as they go into the page."""

from __future__ import annotations

from importlib import resources

from replay.backtest.markup import Html


def page_style() -> Html:
    """The style sheet."""
    return _own("page.css")


def page_script() -> Html:
    """The script."""
    return _own("page.js")


def _own(name: str) -> Html:
    return Html(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
