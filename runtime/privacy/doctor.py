"""What `shadowrig doctor` finds of privacy: that clips can be locked here, and that what is asked for is all there."""

from __future__ import annotations

import io
import os
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.config.rig_config import RigConfig
from runtime.privacy.clip_keys import ClipKeyError, load_public_key
from runtime.privacy.envelope import CIPHER, LockingStream, unlocked
from runtime.privacy.zones import load_zones

_PROBE_BYTES = 8 << 20


def probe_lock() -> str:
    """Lock and open a few megabytes. ValueError when they do not come out as they went in."""
    secret, data = X25519PrivateKey.generate(), os.urandom(_PROBE_BYTES)
    file = io.BytesIO()
    started_s = time.perf_counter()
    lock = LockingStream(file, [secret.public_key()])
    lock.write(data)
    lock.finish()
    took_s = time.perf_counter() - started_s
    file.seek(0)
    if b"".join(unlocked(file, secret)) != data:
        raise ValueError("what was locked does not come out as it went in")
    return f"{CIPHER} at {_PROBE_BYTES / took_s / 1e6:.0f} MB/s"


def probe_privacy(config: RigConfig) -> str:
    """What a configuration asks for, opened. ValueError (of every file) or OSError says what is missing."""
    section = config.privacy
    parts, problems = [], []
    zones = 0
    for path in section.zones:
        try:
            zones += len(load_zones(path))
        except ValueError as error:
            problems.append(str(error))
    parts += [f"{zones} excluded zones, {section.without_fix} without a fix"] if section.zones else []
    parts += [] if section.location == "keep" else [f"location: {section.location}"]
    try:
        parts += [_detector(config)] if section.blur is not None else []
    except ValueError as error:
        problems.append(str(error))
    for path in section.encryption.recipients if section.encryption is not None else ():
        try:
            load_public_key(path)
        except ClipKeyError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    parts += [f"locked for {len(section.encryption.recipients)} keys"] if section.encryption is not None else []
    parts += [] if section.keep_s is None else [f"kept {section.keep_s:g} s"]
    return ", ".join(parts) or "clips are sealed as they are recorded: no zones, blurring, truncation or lock"


def _detector(config: RigConfig) -> str:
    from runtime.privacy.blurring import DetectorError
    from runtime.privacy.detector import Detector

    blur = config.privacy.blur
    assert blur is not None
    try:
        detector = Detector(blur.bundle, blur.classes, blur.min_score, blur.threads)
    except DetectorError as error:
        raise ValueError(f"nothing can be blurred: {error}") from error
    detector.close()
    return f"{', '.join(detector.classes[:5])} blurred by {detector.description.name}"
