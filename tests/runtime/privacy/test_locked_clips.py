from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.cli import main
from runtime.formats.pull_files import MAX_REASON_LENGTH, PullFolder, PullRequest
from runtime.privacy.clip_keys import ClipKeyError, key_id, load_public_key, load_secret_key, new_clip_keys
from runtime.privacy.envelope import (
    CHUNK_BYTES,
    LENGTH_BYTES,
    TAG_BYTES,
    EnvelopeError,
    LockingStream,
    is_locked,
    read_header,
    unlocked,
)
from runtime.privacy.locked_files import envelope_problems, openable_bytes
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.processes.verifier_work import problems_of
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import RETRY_NS, Recorder
from runtime.recording.verify import verify_clip
from runtime.spool import Spool
from tests.runtime.privacy.private_history import END_NS, north_of, recorder_with, seal, write_history
from tests.runtime.recording.recorded_rig import SECOND_NS, START_NS, firing

SECRET = X25519PrivateKey.generate()
SEALED_BYTES = LENGTH_BYTES + CHUNK_BYTES + TAG_BYTES


def locked(data: bytes, secret: X25519PrivateKey = SECRET) -> bytes:
    file = io.BytesIO()
    stream = LockingStream(file, [secret.public_key()])
    stream.write(data)
    stream.finish()
    return file.getvalue()


def opened(data: bytes, secret: X25519PrivateKey = SECRET, is_partial: bool = False) -> bytes:
    return b"".join(unlocked(io.BytesIO(data), secret, is_partial))


def header_bytes(data: bytes) -> int:
    return len(read_header(io.BytesIO(data)).raw)


# The format


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3 * CHUNK_BYTES), st.booleans()), max_size=6))
def test_what_is_locked_comes_out_as_it_went_in_however_it_was_written_and_flushed(
    steps: list[tuple[int, bool]],
) -> None:
    file, pieces = io.BytesIO(), [os.urandom(size) for size, _ in steps]
    stream = LockingStream(file, [SECRET.public_key()])
    for piece, (_, is_flushed) in zip(pieces, steps, strict=True):
        assert stream.write(piece) == len(piece)
        if is_flushed:
            stream.flush()
    assert stream.tell() == sum(map(len, pieces))
    stream.finish()
    assert opened(file.getvalue()) == b"".join(pieces)


def test_what_was_flushed_of_a_slow_clip_can_be_opened_however_little_it_is(tmp_path: Path) -> None:
    """A clip of thumbnails takes long to fill a chunk, and is synced every two seconds."""
    path = tmp_path / "half.mcap"
    with path.open("wb") as file:
        stream = LockingStream(file, [SECRET.public_key()])
        file.flush()
        assert openable_bytes(path) is None, "its header alone"
        flushed = 0
        while flushed < 20 or path.read_bytes()[-1] != 0:  # ciphertext may end in zeros, as what is behind it does
            stream.write(b"a second of signals")
            stream.flush()
            flushed += 1
        whole = path.stat().st_size
        stream.write(b"lost with the power")
        for behind in (b"", bytes(5), bytes(100_000), b"\0\0\0\xff" + bytes(8192), b"\0\1\0\0" + b"x" * 300):
            path.write_bytes(path.read_bytes()[:whole] + behind)
            length = openable_bytes(path)
            assert length is not None
            assert whole <= length < whole + 512, "a torn chunk of less than a sector may come along"
            data = path.read_bytes()[:length]
            assert opened(data, is_partial=True) == b"a second of signals" * flushed
            with pytest.raises(EnvelopeError):
                opened(data)


def test_more_chunks_than_are_read_are_not_written_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import runtime.privacy.envelope as envelope

    file = io.BytesIO()
    stream = LockingStream(file, [SECRET.public_key()])
    for _ in range(4):
        stream.write(b"x")
        stream.flush()
    monkeypatch.setattr(envelope, "MAX_CHUNKS", 5)
    stream.finish()
    assert opened(file.getvalue()) == b"xxxx"
    monkeypatch.setattr(envelope, "MAX_CHUNKS", 3)
    with pytest.raises(EnvelopeError, match="more than 3 chunks"):
        opened(file.getvalue())
    stream = LockingStream(io.BytesIO(), [SECRET.public_key()])
    with pytest.raises(OSError, match="at most 3 chunks"):
        stream.write(bytes(5 * CHUNK_BYTES))


def test_a_clip_that_was_locked_without_lengths_of_chunks_is_opened_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runtime.privacy.envelope as envelope

    monkeypatch.setattr(envelope, "VERSION", 1)
    data, key, prefix = os.urandom(2 * CHUNK_BYTES + 7), os.urandom(32), os.urandom(7)
    header = envelope._encode_header(prefix, [SECRET.public_key()], key, {})
    pieces = [data[:CHUNK_BYTES], data[CHUNK_BYTES : 2 * CHUNK_BYTES], data[2 * CHUNK_BYTES :]]
    chunks = [
        AESGCM(key).encrypt(prefix + number.to_bytes(4, "big") + bytes([number == 2]), piece, header)
        for number, piece in enumerate(pieces)
    ]
    path = tmp_path / "old.mcap"
    path.write_bytes(header + b"".join(chunks))
    assert opened(path.read_bytes()) == data
    assert envelope_problems(path) == []
    assert (openable_bytes(path) or 0) > path.stat().st_size - 4, "zeros at its end cannot be told from room"
    path.write_bytes(header + b"".join(chunks[:2]))
    assert opened(path.read_bytes(), is_partial=True) == data[: 2 * CHUNK_BYTES]
    path.write_bytes(path.read_bytes() + b"end")
    assert envelope_problems(path) != []
    assert openable_bytes(path) == len(header) + 2 * (CHUNK_BYTES + TAG_BYTES)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_sizes_around_a_chunk(size: int) -> None:
    data = os.urandom(size)
    assert opened(locked(data)) == data


WHOLE = locked(bytes(range(256)) * 700)  # three chunks


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(place: int, change: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= change
    with pytest.raises(EnvelopeError):
        opened(bytes(changed))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_short_anywhere_is_noticed_and_partly_opened_only_when_asked(length: int) -> None:
    with pytest.raises(EnvelopeError):
        opened(WHOLE[:length])
    whole_chunks = (length - header_bytes(WHOLE)) // SEALED_BYTES
    if length >= header_bytes(WHOLE) + TAG_BYTES:
        assert opened(WHOLE[:length], is_partial=True) == opened(WHOLE)[: whole_chunks * CHUNK_BYTES]


def test_chunks_cannot_change_places_be_repeated_or_come_from_another_clip() -> None:
    start = header_bytes(WHOLE)
    chunks = [WHOLE[start + i * SEALED_BYTES : start + (i + 1) * SEALED_BYTES] for i in range(3)]
    other = locked(bytes(range(256)) * 700)
    foreign = other[header_bytes(other) : header_bytes(other) + SEALED_BYTES]
    for wrong in ([1, 0, 2], [0, 0, 1, 2], [0, 2], [0, 1], [0, 1, 2, 2]):
        with pytest.raises(EnvelopeError):
            opened(WHOLE[:start] + b"".join(chunks[index] for index in wrong))
    with pytest.raises(EnvelopeError):
        opened(WHOLE[:start] + foreign + chunks[1] + chunks[2])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_refused_and_never_breaks_the_reader(data: bytes) -> None:
    for start in (b"", b"SHRGLCK1", b"SHRGLCK1\x00\x00\x00\x20"):
        with pytest.raises(EnvelopeError):
            opened(start + data)


def test_another_key_opens_nothing_and_is_told_so() -> None:
    other = X25519PrivateKey.generate()
    with pytest.raises(EnvelopeError, match=key_id(SECRET.public_key())):
        opened(WHOLE, other)


def test_every_recipient_opens_the_same_clip() -> None:
    second, file = X25519PrivateKey.generate(), io.BytesIO()
    stream = LockingStream(file, [SECRET.public_key(), second.public_key()])
    stream.write(b"clip")
    stream.finish()
    assert opened(file.getvalue(), second) == opened(file.getvalue()) == b"clip"


def test_two_clips_of_the_same_bytes_have_nothing_in_common() -> None:
    one, other = locked(b"\0" * 1000), locked(b"\0" * 1000)
    assert one[header_bytes(one) :] != other[header_bytes(other) :]


def test_after_the_end_nothing_more_can_be_written() -> None:
    stream = LockingStream(io.BytesIO(), [SECRET.public_key()])
    stream.finish()
    stream.write(b"more")
    with pytest.raises(ValueError, match="finished"):
        stream.finish()


# Keys


def test_key_files_keep_the_secret_to_their_owner(tmp_path: Path) -> None:
    public = new_clip_keys(tmp_path / "keys", "fleet")
    secret_path, public_path = tmp_path / "keys/fleet.clips.secret", tmp_path / "keys/fleet.clips.public"
    assert stat.S_IMODE(secret_path.stat().st_mode) == 0o600
    assert key_id(load_public_key(public_path)) == key_id(public) == key_id(load_secret_key(secret_path).public_key())
    with pytest.raises(ClipKeyError, match="exists"):
        new_clip_keys(tmp_path / "keys", "fleet")
    secret_path.chmod(0o640)
    with pytest.raises(ClipKeyError, match="chmod 600"):
        load_secret_key(secret_path)


def test_the_public_key_in_place_of_the_secret_one_is_told_as_that_whatever_its_mode(tmp_path: Path) -> None:
    new_clip_keys(tmp_path, "fleet")
    with pytest.raises(ClipKeyError, match=r"is the public key: name fleet\.clips\.secret"):
        load_secret_key(tmp_path / "fleet.clips.public")


def test_a_vehicle_refuses_a_secret_key_and_one_of_another_kind(tmp_path: Path) -> None:
    new_clip_keys(tmp_path, "fleet")
    with pytest.raises(ClipKeyError, match="secret key"):
        load_public_key(tmp_path / "fleet.clips.secret")
    signing = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "signing").write_bytes(signing.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ClipKeyError, match="X25519"):
        load_public_key(tmp_path / "signing")
    with pytest.raises(ClipKeyError, match="cannot read"):
        load_public_key(tmp_path / "absent")


# Clips


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    new_clip_keys(tmp_path / "keys", "fleet")
    return tmp_path / "keys"


def test_a_locked_clip_is_opened_by_the_fleet_and_keeps_every_promise(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    rules = PrivacyRules(recipients=(keys / "fleet.clips.public",))
    _, (clip,) = seal(history, tmp_path / "clips", rules)
    assert is_locked(clip.path)
    assert clip.metadata["encryption"] == {
        "cipher": "AES-256-GCM",
        "recipients": [key_id(load_public_key(keys / "fleet.clips.public"))],
    }
    for word in (b"foxglove", b"MCAP", b"driver_takeover", b"vehicle-7f3a"):
        assert word not in clip.path.read_bytes()
    assert problems_of(clip.path) == []  # what the receiver can see
    assert main(["clip", "verify", str(clip.path)]) == 2
    assert "clip decrypt" in capsys.readouterr().err
    arguments = ["clip", "decrypt", "--key", str(keys / "fleet.clips.secret"), "--out", str(tmp_path / "open")]
    assert main([*arguments, str(clip.path)]) == 0
    assert verify_clip(tmp_path / "open" / clip.path.name).problems == []
    assert main([*arguments, str(clip.path)]) == 1  # it is there already


def test_a_pull_that_only_a_locked_clip_could_serve_is_refused_at_once_with_that_reason(
    tmp_path: Path, keys: Path
) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    spool, pulls = Spool.open(tmp_path / "spool", 200_000_000), PullFolder(tmp_path / "spool")
    policy = PrivacyPolicy(PrivacyRules(recipients=(keys / "fleet.clips.public",)))
    recorder = Recorder(history, SpoolClipSink(spool), policy=policy, pulls=pulls)
    (clip,) = recorder.step(END_NS)
    for segment in HistoryLayout(history).list_segments()[:-2]:
        segment.path.unlink()
    assert pulls.ask(PullRequest("a1", ("front_main",), START_NS + 4 * SECOND_NS, START_NS + 7 * SECOND_NS))
    assert recorder.step(END_NS + 1) == []
    (answer,) = pulls.answers()
    assert answer.state == "refused"
    assert f"clip {clip.number} in the spool has 3.0 s of it, but it is locked for the fleet's key" in answer.reason
    assert answer.reason.startswith("nothing can be cut of it: history has")
    assert "shadowrig clip decrypt" in answer.reason
    assert len(answer.reason) <= MAX_REASON_LENGTH


def test_a_damaged_locked_clip_leaves_nothing_behind(tmp_path: Path, keys: Path) -> None:
    damaged = tmp_path / "clip.mcap"
    secret = load_secret_key(keys / "fleet.clips.secret")
    whole = locked(b"x" * 3 * CHUNK_BYTES, secret)
    damaged.write_bytes(whole[:-5])
    assert envelope_problems(damaged) != []
    damaged.write_bytes(whole[: header_bytes(whole) + 2 * SEALED_BYTES])
    assert envelope_problems(damaged) == []  # not to be seen without the key, unless the last chunk is cut
    arguments = ["clip", "decrypt", "--key", str(keys / "fleet.clips.secret"), "--out", str(tmp_path / "open")]
    assert main([*arguments, str(damaged)]) == 1
    assert list((tmp_path / "open").iterdir()) == []
    assert main([*arguments, "--partial", str(damaged)]) == 0
    assert (tmp_path / "open" / "clip.mcap").read_bytes() == b"x" * 2 * CHUNK_BYTES


def test_a_missing_key_means_no_clip_and_never_an_open_one(tmp_path: Path, keys: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    public = keys / "fleet.clips.public"
    recorder = recorder_with(history, tmp_path / "clips", PrivacyRules(recipients=(public,)))
    aside = public.rename(tmp_path / "aside")
    assert recorder.step(END_NS) == []
    assert list((tmp_path / "clips").iterdir()) == []
    assert "key: cannot read" in recorder.status.last_error
    assert len(HistoryLayout(history).list_firings()) == 1
    aside.rename(public)
    (clip,) = recorder.step(END_NS + RETRY_NS)
    assert is_locked(clip.path)


def test_no_byte_of_a_clip_reaches_the_disk_before_it_is_locked(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every write to the lock the drafts on the disk are looked at."""
    import runtime.formats.mcap_writer as mcap_writer
    import runtime.privacy.envelope as envelope

    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    seen: set[bytes] = set()
    write = LockingStream.write

    def write_and_look(stream: LockingStream, data: bytes) -> int:
        taken = write(stream, data)
        stream.flush()
        seen.update(path.read_bytes() for path in (tmp_path / "clips").iterdir())
        return taken

    monkeypatch.setattr(LockingStream, "write", write_and_look)
    monkeypatch.setattr(mcap_writer, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(envelope, "CHUNK_BYTES", 500)
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules(recipients=(keys / "fleet.clips.public",)))
    final = clip.path.read_bytes()
    assert len(seen) > 20
    assert all(final.startswith(part) for part in seen)
    assert b"foxglove" not in final
