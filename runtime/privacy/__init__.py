"""What never leaves the vehicle, and what leaves it only changed or locked. deploy/PRIVACY.md is the promise to people.

    history ─▶ admit ─▶ location ─▶ blurring ─▶ clip writer ─▶ envelope ─▶ spool          policy, treatment
               zones     rounded,    detect,                    AES-256-GCM, locked
               fixes     removed     blur, encode               for the fleet

Every clip passes here, whatever asked for it (a rule, a crash, a pull), because the recorder knows one seam:
`runtime.recording.sealing_policy`. Composed by `opening`; stages do not import this package.

What holds whatever happens:
- it fails closed. No fix, a zones file or campaign that cannot be read, a detector or key that is missing: no clip.
  Each is counted by its reason in the recorder's status and told to the rule that fired (outcome `privacy`);
- nothing unprotected touches the disk: blurring and encryption come before the first byte of the draft;
- the vehicle cannot open what it locked: each clip has its own key, which only the fleet's secret key unwraps;
- what a signed campaign may lift (`raw: [video, location]`) it lifts for its own firings alone. Zones and encryption
  are never lifted.
"""
