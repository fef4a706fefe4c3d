"""What the receiver keeps, and where: one body of code over two kinds of place.

| part | embedded default | at fleet scale |
|---|---|---|
| bytes: a `Depot` | `folder_depot`: a folder, one receiver | `object_depot`: S3-compatible, GCS or Azure, any number |
| rows: a `Database` | SQLite, WAL, synchronous=FULL | PostgreSQL, synchronous_commit=on, fsync=on or no start |

`runtime.uplink.store.ClipStore` composes the two; every combination passes the same contract suite
(`tests/runtime/uplink/storage/test_store_contract.py`, `test_catalogue_contract.py`).

Life of a clip
==============
1. OFFER: one transaction under the vehicle's row lock decides whether there is room and makes a row in `partials`.
   Its `id` is never given twice. Everything that is written for the clip carries the id in its name, so nobody can
   delete, overwrite or count what belongs to a later attempt.
2. CHUNK, then ACK: bytes are made durable first, then their ranges are committed, then ACK goes out. Of a chunk that
   overlaps what is here only the rest is written.
   A folder: one file, pwrite, fdatasync. Objects: whatever came since the last flush becomes one immutable *segment*
   per contiguous run, PUT with its SHA-256 checked by the store; its row in `segments` is committed after the PUT
   succeeded. Any other receiver sees these rows, and goes on at the byte where this one was killed.
3. COMMIT: the final path is written into the row, the whole is hashed, the bytes are made durable at that path
   (a folder: fsync, rename, fsync of both folders; objects: segments are streamed into one atomic PUT that is given
   up when the hash is wrong, and read back), then one transaction turns the row into a row of `clips`.
   DONE goes out after that transaction, never before.
4. Removal (erasure, retention, a partial that gave way): rows go first, and in the same transaction the names of
   their bytes go into `deletions`, from which they are deleted until that has succeeded. They are read under the
   partial's lock, which whoever adds segments or plans a final path takes too.

Two receivers finish the same clip at once: both PUT the same bytes at the same path, one transaction wins, the other
finds the clip stored; both say DONE, there is one row. A receiver killed between the PUT and the row: ranges and
segments are still there, the next COMMIT at any receiver PUTs the same bytes at the same path again and commits. A
clip that was erased while a receiver was finishing it is not stored: its row is gone, and the bytes are deleted.

What is removed stays known by vehicle, number and hash alone (`removed`): offered again it is answered `done`, so
that the vehicle lets go of it and it never comes back. An erasure stands: a clip of the erased time that is still on
the vehicle is never taken in.

Bytes and rows belong together by one name that both carry (`belonging`), and no single clock lets clips expire
(`retention_clock`). Whatever fails for one clip is put off and told, and keeps nobody else waiting (`housekeeping`).
"""
