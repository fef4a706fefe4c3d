"""The uplink: the only part of the vehicle that talks outward, and the fleet side that it talks to.

Delivery protocol, version 1
============================
Transport: ZeroMQ over TCP, DEALER (vehicle) to ROUTER (receiver), CURVE encrypted, every key admitted by ZAP
(`authenticator.py`). A message is exactly two frames: a MessagePack header of at most 4 KiB with a strict schema
(`wire.py`: unknown, missing, duplicate or ill-typed fields are errors), and a payload of at most 256 KiB.
A vehicle is who its key says. No header names a vehicle, and no routing id is fixed.

A clip is known by `(n, sha256)`: its number in the vehicle's gapless ledger and the hash of the whole file. Every
message about a clip carries both, so any receiver can answer any message without remembering the one before.

| vehicle sends | payload | receiver answers |
|---|---|---|
| HELLO version, software | - | WELCOME version, credit_bytes, chunk_bytes, max_clip_bytes |
| OFFER n, sha256, size_bytes, priority | metadata, JSON | STATE new / partial + ranges held / done / refused + code |
| CHUNK n, sha256, offset, hash | bytes | ACK ranges held durably (one ACK may answer many chunks) |
| COMMIT n, sha256 | - | DONE, or STATE partial when bytes are missing, or NACK bad_file_hash |
| TOMBSTONE n, reason | - | TOMBSTONE n (the same), meaning: recorded |
| PULL path, offset, length | - | CAMPAIGN path, offset, size_bytes, state part / missing / off; payload: those bytes |
| RESULT sha256 | report, JSON | RESULT sha256 (the same), meaning: recorded |

NACK code, detail[, n, sha256, offset] answers whatever cannot be accepted: malformed header, bad_chunk_hash,
unknown_clip (OFFER it again), refused storage, wrong version. A receiver that was made before campaigns answers PULL
with NACK unsupported: the vehicle then asks no more in that session, and its clips go on.

Rules
-----
* The vehicle deletes a clip on DONE only. DONE is sent only after: whole-file hash read back from disk, fsync,
  rename to the final name, fsync of the folders, committed catalogue row. OFFER of a stored clip answers `done`,
  so a lost DONE costs one round trip. In object storage: `storage/__init__.py`. Where storing takes long, COMMIT is
  answered late; after 5 s by STATE partial with everything held, on which the vehicle sends COMMIT again.
* A clip that was erased, or has expired, is answered `done` as well: nobody wants it.
* Everything is idempotent: duplicated, reordered or replayed messages change nothing.
* Unacknowledged chunk bytes never exceed the credit of WELCOME. ACK means durable: written, fdatasynced, range
  recorded. After a reconnect, or a receiver killed at any moment, OFFER returns the ranges and sending goes on there.
* Before every chunk the vehicle picks its most urgent clip again: a safety clip overtakes at the next chunk.
* Silence of `reply_timeout_s` while an answer is due means a dead link: the socket is closed and a new one opened
  after a jittered, bounded back-off.
* Refused clips (too large, vehicle over its quota, receiver full) stay pending on the vehicle and are offered again
  after `refused_retry_s`.
* PULL and RESULT are one question at a time (`exchange.py`) between the messages about clips. What they carry is
  trusted by nobody: the bytes are worth what the signatures say that `runtime.campaigns` finds in them.
* A revoked key fails its next handshake; messages of its live session are dropped from the next reading of the
  enrolled folder on (`EnrolledVehicles`, every 5 s).
"""
