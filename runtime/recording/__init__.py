"""History (the last seconds of everything, on tmpfs), and the recorder that cuts sealed clips out of it.

| history | what it does |
|---|---|
| `layout` | where things lie; nothing else connects the runtime, which writes, and the recorder, which reads |
| `history_sink`, `history_writer`, `current_segment`, `history_ring`, `segment_stream` | writes bounded seconds |
| `history_reader`, `opened_segment`, `history_holes`, `wall_offsets` | reads them beside their writer, or after it |
| `history_needs` | which seconds somebody waits for |
| `sessions`, `forgotten_runs`, `crash_notes` | runs of the runtime: alive, left, crashed |

| from firings to clips | what it does |
|---|---|
| `firing_files`, `answers`, `intents` | the small files that tell what became of a firing |
| `recorder`, `recorder_status` | the process's steps, what it is told and what it tells |
| `clip_plan`, `readiness` | which firings share a clip; when it is cut, and why its post-roll is short |
| `sealing`, `sealing_policy`, `admission` | asks the policy, asks for room, cuts, seals; which firings are refused |
| `clip_selection`, `record_source`, `clip_writer`, `thumbnails`, `shrinking` | the cut: what of the window |
| `camera_tally`, `calibrations`, `provenance`, `delivery_metadata` | what its manifest says, and its offer |
| `clip_sink` | where it is sealed: the spool, or a folder |
| `pull_desk`, `kept_clips` | what the fleet asks for afterwards |

| clips | what it does |
|---|---|
| `manifest` | the contract as data |
| `verify`, `clip_promises`, `privacy_promises`, `places`, `clip_report` | holds a clip to it |
| `clip_file`, `inspection` | opens one; tells what it holds |
| `export`, `camera_videos`, `mosaic_video`, `pictures`, `drawing`, `signal_table` | for tools that know no MCAP |

deploy/CLIPS.md tells the same for those who use it.
"""
