"""Field types for the places that a configuration names: files, directories, network addresses.

A relative path is relative to the configuration file, which reaches the validators as `context["base"]`. A file
that must be there is looked for while loading, so that a typing mistake is told with its line and not by a
process that dies later. Addresses are checked for form only: whoever answers there may start later than we do.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

from runtime.formats.documents import Mistake, suggest

MAX_PORT = 65535
_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.*-]+):(?P<port>[0-9]+|\*)")
_RTSP = re.compile(r"rtsps?://[^\s/]+(/\S*)?")


def resolved(value: object, info: ValidationInfo) -> Path:
    """A path as the configuration means it: `~` expanded, relative to the configuration file."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise Mistake("is not a path", "write a path")
    if "\0" in value:
        raise Mistake("a path cannot hold a zero byte", "remove it")
    path = Path(value)
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise Mistake(f"cannot expand '~': {error}", "write the path in full") from error
    base = (info.context or {}).get("base", Path())
    return Path(base) / path


def existing(value: object, info: ValidationInfo) -> Path:
    """A file or directory that must be there when the configuration is loaded."""
    path = resolved(value, info)
    try:
        _is_directory(path)
    except OSError as error:
        raise Mistake(f"{path} cannot be used: {error.strerror}", _near_file(path)) from error
    return path


def existing_file(value: object, info: ValidationInfo) -> Path:
    """A file that must be there."""
    path = existing(value, info)
    if _is_directory(path):
        raise Mistake(f"{path} is a directory", "name a file in it")
    return path


def directory_or_auto(value: object, info: ValidationInfo) -> Path | None:
    """A directory that is made when it is missing; None for `auto`."""
    if value is None or value == "auto":
        return None
    path = resolved(value, info)
    try:
        is_file = _is_directory(path) is False
    except FileNotFoundError:
        return path
    except OSError as error:
        raise Mistake(f"{path} cannot be used: {error.strerror}", "name a directory, or write auto") from error
    if is_file:
        raise Mistake(f"{path} is a file", "name a directory, or write auto")
    return path


def _is_directory(path: Path) -> bool | None:
    """None where this process may not look: the process that needs the place can, and reports what is wrong with it."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:
        return None


def zeromq_address(value: object) -> str:
    """`tcp://host:port` or `ipc:///path`: what a ZeroMQ socket can bind or connect to."""
    fix = "write tcp://127.0.0.1:5588 or ipc:///run/shadowrig/name"
    if not isinstance(value, str):
        raise Mistake("is not an address", fix)
    if value.startswith("ipc://") and len(value) > len("ipc://"):
        return value
    match = _TCP.fullmatch(value)
    if match is None:
        raise Mistake("is not an address", fix)
    port = match["port"]
    if port != "*" and not 1 <= int(port) <= MAX_PORT:
        raise Mistake(f"port {port} is not between 1 and {MAX_PORT}", fix)
    return value


def zeromq_peer_address(value: object) -> str:
    """An address to connect to: no wildcard host or port."""
    address = zeromq_address(value)
    if "*" in address:
        raise Mistake("'*' cannot be connected to", "write the peer's host and port, such as tcp://127.0.0.1:5588")
    return address


def rtsp_address(value: object) -> str:
    """`rtsp://…` or `rtsps://…`."""
    if not isinstance(value, str) or _RTSP.fullmatch(value) is None:
        raise Mistake("is not an RTSP address", "write rtsp://host:8554/stream")
    return value


def _near_file(path: Path) -> str:
    """Names the file beside the missing one that was probably meant."""
    try:
        beside = [entry.name for entry in path.parent.iterdir()][:1000]
    except OSError:
        return f"make {path.parent}, or correct the path (relative paths start at the configuration file)"
    hint = suggest(path.name, beside)
    return hint if hint.startswith("did you mean") else "correct the path (relative ones start at this file)"


ResolvedPath = Annotated[Path, BeforeValidator(resolved)]
ExistingPath = Annotated[Path, BeforeValidator(existing)]
ExistingFile = Annotated[Path, BeforeValidator(existing_file)]
DirectoryOrAuto = Annotated[Path | None, BeforeValidator(directory_or_auto)]
ZeromqAddress = Annotated[str, BeforeValidator(zeromq_address)]
ZeromqPeerAddress = Annotated[str, BeforeValidator(zeromq_peer_address)]
RtspAddress = Annotated[str, BeforeValidator(rtsp_address)]
