"""`shadowrig bench latency`: the reference load played live at the real processes, alone and then under load.

    film     eight cameras of a synthetic drive, real H.264, made once and kept        `film`
    feeder   a process that stands for the cameras: each packet at its capture time    `feeder`
    stage    runtime, recorder, uploader and receiver as `shadowrig run` starts them   `stage`
    loads    a busy loop on each processor, a writer that syncs, firings, an upload    `loads`
    ticks    what the runtime says after every tick, collected over its telemetry      `ticks`
    usage    processor time and memory of every process                                `usage`
    bare     the same network on the same pictures, with nothing around it             `bare_model`
    figures  percentiles and ratios of one spell; the table, the JSON and the picture  `figures`, `report`, `picture`

Both spells belong to one run of one runtime process, so that they differ in the load and in nothing else. Nothing here
is simulated: real files, real sockets on 127.0.0.1, real processes, the machine's own clock.
"""
