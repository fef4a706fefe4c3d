"""Campaigns: signed sets of rules, learned triggers and models, from the people who write them to the vehicles.

    author's folder ─ new ─▶ draft ─ sign, sign ─▶ repository ─ push ─▶ served folder     fleet: authoring, repository
                                                                        │ serving (receiver, read-only)
                              uplink: CAMPAIGN / RESULT, CURVE          ▼
    runtime ◀─ running ◀─ active.json ◀─ shelf ◀─ updating ◀─ fetching ─┘                 vehicle

Trust: a vehicle is given the fleet's first root metadata by hand (`campaigns.root` of its configuration). From there on
only signatures count (The Update Framework 1.0, python-tuf): neither the receiver, nor the line, nor the folder that is
served, nor the online key can bring a campaign in or an old one back. `reasons` lists by which name what is refused.

Layers: `document contents merging` know what a campaign is, on both sides alike. `repository authoring signing_keys`
are the fleet's. `fetching updating outcome shelf reference_clock vehicle_status` are the uploader's, `running` is the
runtime's; their threads are in `runtime.processes.campaign_*`.

What holds whatever happens:
- the vehicle's own rules always run;
- a refusal leaves what is active as it is; a campaign ends by its date, by being withdrawn, and by nothing else;
- a switch is one rename of `active.json`; killed anywhere, a vehicle has the old state or the new one, whole;
- what is active is hashed again before it is used, at every start;
- dates are judged by a clock that cannot be set back;
- rules and network change between two ticks, prepared beside them: rules that did not change keep their state, no
  frameset is left out, clips that wait are cut from the same history. Tracks begin anew with another network.

To stop a campaign: `campaign new --withdraw NAME`, sign, push. A new version that no longer selects a vehicle does not
stop the old one there: it is refused as `wrong_vehicle`.
"""
