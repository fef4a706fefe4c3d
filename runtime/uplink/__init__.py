"""The uplink: the only part of the vehicle that talks outward, and the fleet side that it talks to.

`PROTOCOL.md` beside this file is the delivery protocol: its messages, codes, rules and bounds.

| on the vehicle | what it does |
|---|---|
| `uploader` | one encrypted socket at a time, for as long as the vehicle lives |
| `delivery`, `delivery_limits` | decides what is sent next and what a reply means; no sockets, time as an argument |
| `patience`, `set_aside` | when a session is given up; which refused clips are left alone, and until when |
| `outbox`, `clip_bytes` | where a delivery takes its clips from, and their bytes |
| `transfer`, `window`, `pace` | one clip on its way; how much is under way; the bandwidth cap |
| `policy`, `network` | which clips over which network and when; which interface a connection uses |
| `notices`, `pull_inbox`, `exchange` | tombstones, range pulls and campaigns beside the clips |

| on the receiver | what it does |
|---|---|
| `storage/`, `store` | a folder or a bucket, SQLite or PostgreSQL, each behind one seam; both composed |
| `catalogue`, `pull_book` | what the fleet holds, and what people ask of vehicles |
| `receiver`, `receiver_settings`, `routes` | one ROUTER socket for any number of vehicles; where each of them is |
| `incoming` | one message off that socket, of however many frames |
| `reception`, `foreign_json` | answers messages; no sockets, time as an argument; JSON of vehicles held to bounds |
| `authenticator`, `keys`, `unchanged_files` | who is let in |
| `limits`, `handshakes`, `connections`, `connection_guard` | how much one vehicle may ask and hold at once |
| `verification`, `beside` | looking into stored clips; threads beside the loop, whose death it hears of |
| `troubles` | what keeps it from its work, told to its operator |

Both speak through `wire` (`fields`, `packing`): every header is checked against a schema before anything looks at it.
Both open their `sockets` with every limit set, keep what is held of a clip as `ranges`, and tell people in a
`status_file`.
"""
