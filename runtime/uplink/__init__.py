"""The uplink: the only part of the vehicle that talks outward, and the fleet side that it talks to.

`PROTOCOL.md` beside this file is the delivery protocol: its messages, codes, rules and bounds.

| on the vehicle | what it does |
|---|---|
| `uploader` | one encrypted socket at a time, for as long as the vehicle lives |
| `delivery` | decides what is sent next and what a reply means; no sockets, time as an argument |
| `transfer`, `window`, `pace` | one clip on its way; how much is under way; the bandwidth cap |
| `policy`, `network` | which clips over which network and when; which interface a connection uses |
| `notices`, `pull_inbox`, `exchange` | tombstones, range pulls and campaigns beside the clips |

| on the receiver | what it does |
|---|---|
| `receiver` | one ROUTER socket for any number of vehicles |
| `reception` | answers messages; no sockets, time as an argument |
| `store`, `catalogue`, `pull_book` | what the fleet holds, and what people ask of vehicles |
| `authenticator`, `keys` | who is let in |
| `limits`, `connections` | what one vehicle may ask and hold, so that it cannot exhaust the receiver |

Both speak through `wire` (`fields`, `packing`): every header is checked against a schema before anything looks at it.
"""
