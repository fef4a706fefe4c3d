"""History (the last seconds of everything, on tmpfs), and the recorder that cuts sealed clips out of it.

    history_sink -> history_writer -> segments on tmpfs        the runtime's side; `layout` says where things lie
    segments + firings -> recorder -> sealing -> clip_sink     the recorder's: `clip_plan` (who shares a clip),
                                                               `readiness` (when), `clip_selection` (what of it),
                                                               `clip_writer` (the cut), `shrinking` (no room for all)
    spool/pulls -> pull_desk -> sealing                        what the fleet asks for afterwards
    clip -> verify, inspection, export                         for people; `manifest` is the contract

deploy/CLIPS.md tells the same for those who use it.
"""
