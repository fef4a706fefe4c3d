"""Text from outside, as a person's terminal may be shown it: what a vehicle, a clip or a peer calls itself; and counts.

An escape sequence in a name could clear the screen, forge lines or write to the clipboard of whoever looks at a clip.
"""

from __future__ import annotations

#: What a line shows of one name; a hostile one may be megabytes long.
MAX_SHOWN_CHARACTERS = 4000


def printable(text: str) -> str:
    """`text` with "?" for every character that is none to be seen, cut off where it is absurdly long."""
    cut = text[:MAX_SHOWN_CHARACTERS]
    shown = "".join(character if character.isprintable() else "?" for character in cut)
    return shown if len(cut) == len(text) else f"{shown}..."


def size(count: int) -> str:
    """Bytes for people, in powers of ten."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def counted(count: int, what: str) -> str:
    """`1 camera`, `8 cameras`."""
    return f"{count} {what}{'' if count == 1 else 's'}"
