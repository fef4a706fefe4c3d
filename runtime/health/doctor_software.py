"""The doctor's checks of what is installed."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from importlib import metadata

from runtime.health.doctor_findings import Finding, Outcome

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 12)

#: Distribution -> the module that must import.
PACKAGES = {
    "av": "av",
    "cantools": "cantools",
    "foxglove-schemas-protobuf": "foxglove_schemas_protobuf",
    "mcap": "mcap",
    "msgpack": "msgpack",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "opencv-python-headless": "cv2",
    "protobuf": "google.protobuf",
    "pydantic": "pydantic",
    "python-can": "can",
    "PyYAML": "yaml",
    "pyzmq": "zmq",
    "rich": "rich",
    "securesystemslib": "securesystemslib.signer",
    "tuf": "tuf.ngclient",
}
_DECODERS = ("h264", "hevc", "mjpeg")
_ENCODERS = ("libx264",)


def check_python(version: tuple[int, int] | None = None) -> Outcome:
    """The interpreter is one that Shadowrig is tested with."""
    found = version or sys.version_info[:2]
    detail = f"{platform.python_implementation()} {'.'.join(map(str, found))} on {platform.machine()}"
    if not OLDEST_PYTHON <= found <= NEWEST_PYTHON:
        return Finding.fail(detail)
    return Finding.ok(detail)


def check_packages(load: Callable[[str], object] = importlib.import_module) -> Outcome:
    """Every package that the runtime needs is there and imports."""
    versions, broken = [], []
    for distribution, module in PACKAGES.items():
        try:
            load(module)
            versions.append(f"{distribution} {metadata.version(distribution)}")
        except (ImportError, OSError) as error:
            broken.append(f"{distribution}: {error}")
    if broken:
        return Finding.fail("; ".join(broken))
    return Finding.ok(", ".join(versions))


def check_codecs() -> Outcome:
    """PyAV's FFmpeg decodes what cameras send and encodes what clips need."""
    import av

    missing = [f"decoder {name}" for name in _DECODERS if not _has_codec(av, name, "r")]
    missing += [f"encoder {name}" for name in _ENCODERS if not _has_codec(av, name, "w")]
    if missing:
        return Finding.fail(f"PyAV {av.__version__} lacks {', '.join(missing)}")
    return Finding.ok(f"PyAV {av.__version__}: {', '.join(_DECODERS)} in, {', '.join(_ENCODERS)} out")


def _has_codec(av: object, name: str, mode: str) -> bool:
    codec = getattr(av, "Codec")  # noqa: B009 - PyAV is not typed here
    try:
        codec(name, mode)
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


def check_curve() -> Outcome:
    """libzmq was built with CURVE: a key pair can be made."""
    import zmq

    public, secret = zmq.curve_keypair()
    if len(public) != 40 or len(secret) != 40:
        return Finding.fail(f"libzmq {zmq.zmq_version()} makes no usable CURVE keys")
    return Finding.ok(f"libzmq {zmq.zmq_version()} with CURVE")
