"""The format of a locked clip: AES-256-GCM in chunks, its key wrapped for the fleet.

    magic     8 bytes "SHRGLCK1"
    length    4 bytes, big endian: of the header
    header    JSON {"version", "chunk_bytes", "nonce_prefix", "recipients": [{"key_id", "wrapped"}], "facts"}, binary as
              base64; the facts are few, and in clear (`treatment.SHOWN_ON_LOCKED`)
    chunks    4 bytes, big endian: the length of what follows; AES-256-GCM of up to `chunk_bytes` of the clip, 16 bytes
              longer than those; the last one may be empty

A chunk is shorter where the clip was synced before it was full: what a power cut leaves of a slow clip can be opened up
to its last sync. Files of version 1 have no lengths: each chunk but the last is as long as `chunk_bytes` says.

Chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance, 2015): nonce = 7 random bytes, the chunk's number (4 bytes), 1 for the last and 0 for the
others. So a chunk that was changed, moved, repeated or left out is noticed, and so is a file that was cut short. The
header is authenticated with every chunk.

The data key is random and new for each clip; each recipient gets it wrapped by HPKE (RFC 9180, base mode: DHKEM(X25519,
HKDF-SHA256), HKDF-SHA256, AES-256-GCM). What writes the clip forgets the key when it is done, and has no secret key: it
cannot open the clip again. Plaintext is handed out chunk by chunk once authentic; that the file is whole is known at
its end only, so callers throw away what they have when an error comes.
"""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from runtime.privacy.clip_keys import key_id

MAGIC = b"SHRGLCK1"
VERSION = 2
UNMEASURED_VERSION = 1  # its chunks have no length of their own
CHUNK_BYTES = 64 * 1024
LENGTH_BYTES = 4
#: Looked at in one file, and written into one: 64 GiB in full chunks, or weeks of syncs.
MAX_CHUNKS = 1 << 20
MAX_CHUNK_BYTES = 16 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
MAX_RECIPIENTS = 16
TAG_BYTES = 16
CIPHER = "AES-256-GCM"
_KEY_BYTES, _PREFIX_BYTES = 32, 7
_INFO = b"shadowrig clip key 1"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

RandomBytes = Callable[[int], bytes]


class EnvelopeError(ValueError):
    """A file that is no locked clip, is damaged, or is locked for somebody else; the text says which."""


@dataclass(frozen=True, slots=True)
class EnvelopeHeader:
    """What stands before the chunks, and its own bytes."""

    chunk_bytes: int
    nonce_prefix: bytes
    wrapped: Mapping[str, bytes]  # by key id
    raw: bytes
    version: int = VERSION
    facts: Mapping[str, Any] = field(default_factory=dict)


class LockingStream:
    """Writes a clip through a lock; see `runtime.recording.sealing_policy.ClipStream`."""

    def __init__(
        self,
        stream: IO[bytes],
        recipients: Sequence[X25519PublicKey],
        random_bytes: RandomBytes = os.urandom,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """`facts` stay readable; where they do not fit the header, it has none.

        OSError when the header cannot be written.
        """
        if not 0 < len(recipients) <= MAX_RECIPIENTS:
            raise ValueError(f"a clip is locked for 1 to {MAX_RECIPIENTS} keys, got {len(recipients)}")
        data_key = random_bytes(_KEY_BYTES)
        self._cipher: AESGCM | None = AESGCM(data_key)
        self._prefix = random_bytes(_PREFIX_BYTES)
        self._stream = stream
        self._header = _encode_header(self._prefix, recipients, data_key, facts or {})
        self._waiting = bytearray()
        self._chunks = 0
        self._taken = 0
        stream.write(self._header)

    def write(self, data: bytes, /) -> int:
        """Take `data`; whole chunks go on to the file."""
        self._waiting += data
        self._taken += len(data)
        while len(self._waiting) > CHUNK_BYTES:  # the last chunk is marked, so one stays until more is known to follow
            self._put(bytes(self._waiting[:CHUNK_BYTES]), is_last=False)
            del self._waiting[:CHUNK_BYTES]
        return len(data)

    def tell(self) -> int:
        """Bytes of the clip taken so far."""
        return self._taken

    def flush(self) -> None:
        """Hand on everything, as a chunk that is shorter: who syncs next has it all on the disk."""
        if self._waiting:
            self._put(bytes(self._waiting), is_last=False)
            self._waiting.clear()
        self._stream.flush()

    def finish(self) -> None:
        """Write the last chunk and forget the key."""
        self._put(bytes(self._waiting), is_last=True)
        self._waiting.clear()
        self._cipher = None
        self._stream.flush()

    def _put(self, chunk: bytes, is_last: bool) -> None:
        if self._cipher is None:
            raise ValueError("the clip is finished: nothing can be written after it")
        if self._chunks >= MAX_CHUNKS:
            raise OSError(errno.EFBIG, f"a locked clip has at most {MAX_CHUNKS} chunks: flush it less often")
        sealed = self._cipher.encrypt(_nonce(self._prefix, self._chunks, is_last), chunk, self._header)
        self._stream.write(len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed)
        self._chunks += 1


def is_locked(path: Path) -> bool:
    """Whether a file begins as a locked clip. OSError when it cannot be read."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read_header(stream: IO[bytes]) -> EnvelopeHeader:
    """The header; the stream stands at the first chunk. EnvelopeError."""
    start = stream.read(len(MAGIC) + 4)
    if start[: len(MAGIC)] != MAGIC:
        raise EnvelopeError("is not a locked clip")
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if len(start) < len(MAGIC) + 4 or length > MAX_HEADER_BYTES:
        raise EnvelopeError(f"its header would have {length} bytes, at most {MAX_HEADER_BYTES} are allowed")
    text = stream.read(length)
    if len(text) < length:
        raise EnvelopeError("is cut short within its header")
    try:
        return _decode_header(json.loads(text), start + text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EnvelopeError(f"its header cannot be read: {error!r:.200}") from error


def unlocked(stream: IO[bytes], secret: X25519PrivateKey, is_partial: bool = False) -> Iterator[bytes]:
    """The clip's bytes, chunk by chunk. With `is_partial` a file that was cut short ends at its last whole chunk.

    Raises:
        EnvelopeError: not a locked clip, not locked for this key, changed, or cut short.
    """
    header = read_header(stream)
    cipher = AESGCM(_unwrap(header, secret))
    chunks = _sealed_chunks(stream, header)
    chunk, number = next(chunks, b""), 0
    while True:
        following = next(chunks, None)
        is_last = following is None
        try:
            yield cipher.decrypt(_nonce(header.nonce_prefix, number, is_last), chunk, header.raw)
        except InvalidTag as error:
            if is_last and is_partial:
                yield from _without_end(cipher, header, number, chunk)
                return
            what = "is changed or cut short" if is_last else "is changed"
            raise EnvelopeError(f"chunk {number} {what}: do not trust what came before it either") from error
        if following is None:
            return
        chunk, number = following, number + 1


def _sealed_chunks(stream: IO[bytes], header: EnvelopeHeader) -> Iterator[bytes]:
    """What is encrypted, chunk by chunk. One that is cut short comes as it is, and one without a length empty."""
    length = header.chunk_bytes + TAG_BYTES
    for _ in range(MAX_CHUNKS + 1):
        if header.version != UNMEASURED_VERSION:
            said = stream.read(LENGTH_BYTES)
            if not said:
                return
            length = length_of(said, header)
        chunk = stream.read(length)
        if chunk or header.version != UNMEASURED_VERSION:
            yield chunk
        if not chunk:
            return
    raise EnvelopeError(f"has more than {MAX_CHUNKS} chunks")


def length_of(said: bytes, header: EnvelopeHeader) -> int:
    """Of the chunk behind these bytes; 0 where they are no length."""
    length = int.from_bytes(said, "big") if len(said) == LENGTH_BYTES else 0
    return length if TAG_BYTES <= length <= header.chunk_bytes + TAG_BYTES else 0


def _without_end(cipher: AESGCM, header: EnvelopeHeader, number: int, chunk: bytes) -> Iterator[bytes]:
    """The last chunk of a file cut short just behind it; one that was cut itself says nothing."""
    try:
        yield cipher.decrypt(_nonce(header.nonce_prefix, number, False), chunk, header.raw)
    except InvalidTag:
        return


def _nonce(prefix: bytes, number: int, is_last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([is_last])


def _encode_header(
    prefix: bytes, recipients: Sequence[X25519PublicKey], data_key: bytes, facts: Mapping[str, Any]
) -> bytes:
    listed = [{"key_id": key_id(key), "wrapped": _text(_SUITE.encrypt(data_key, key, _INFO))} for key in recipients]
    fields = {"version": VERSION, "chunk_bytes": CHUNK_BYTES, "nonce_prefix": _text(prefix), "recipients": listed}
    text = json.dumps({**fields, "facts": dict(facts)}, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES:
        text = json.dumps(fields, separators=(",", ":")).encode()
    return MAGIC + len(text).to_bytes(4, "big") + text


def _decode_header(fields: Mapping[str, Any], raw: bytes) -> EnvelopeHeader:
    version = fields["version"]
    if type(version) is not int or not UNMEASURED_VERSION <= version <= VERSION:
        raise ValueError(f"version {version!r:.20}, this software reads {UNMEASURED_VERSION} to {VERSION}")
    chunk_bytes, prefix = fields["chunk_bytes"], base64.b64decode(fields["nonce_prefix"], validate=True)
    if type(chunk_bytes) is not int or not 1 <= chunk_bytes <= MAX_CHUNK_BYTES or len(prefix) != _PREFIX_BYTES:
        raise ValueError("chunk_bytes or nonce_prefix is out of bounds")
    if not 0 < len(fields["recipients"]) <= MAX_RECIPIENTS:
        raise ValueError("recipients are out of bounds")
    wrapped = {str(one["key_id"]): base64.b64decode(one["wrapped"], validate=True) for one in fields["recipients"]}
    return EnvelopeHeader(chunk_bytes, prefix, wrapped, raw, version, dict(fields.get("facts", {})))


def _unwrap(header: EnvelopeHeader, secret: X25519PrivateKey) -> bytes:
    own = key_id(secret.public_key())
    if own not in header.wrapped:
        raise EnvelopeError(f"is locked for {', '.join(header.wrapped)}, and this key is {own}")
    try:
        data_key = _SUITE.decrypt(header.wrapped[own], secret, _INFO)
    except (InvalidTag, ValueError) as error:
        raise EnvelopeError(f"its data key cannot be unwrapped with {own}: the header is damaged") from error
    if len(data_key) != _KEY_BYTES:
        raise EnvelopeError("its data key has the wrong length")
    return data_key


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
