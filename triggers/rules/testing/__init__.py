"""Runs the truth tables that rule files ship: time series in, expected firing times out.

tests:
  - name: fires when the brake ends it
    rule: driver_takeover
    rate_hz: 20                            # ticks a second; default 20
    duration_s: 4
    signals:                               # a value holds from its time until the next one; null: unknown
      controller.enabled: {0: true, 2: false}
      vehicle.brake_pressed: {0: false, 1.9: true}
      vehicle.speed_mps: {ramp: {0: 20, 4: 8}}   # numbers may also go evenly from one time to the next
      vehicle.gear: drive                        # or stay the same
    tracks:                                # [] (nothing is in sight) unless given; null: nothing looked for objects
      - class_name: car                    # every field of the language is a value, steps or a ramp, as signals are
        camera: front
        box_px: {ramp: {0: [0, 0, 40, 40], 4: [100, 0, 180, 80]}}
        distance_m: {0: 30.0, 2: 8.0}
        from_s: 0                          # it is there from here …
        to_s: 4                            # … to here
        hidden_s: [[2.0, 2.3]]             # and not visible in these stretches
        drift_px_per_s: 30                 # its box moves evenly to the right
        shake_px: {0: 0, 2: 12}            # its box jumps that far left and right from tick to tick
    objects:                               # the controller's object list; null unless given: it publishes none
      - {class_name: car, lane: ego, distance_m: 20}
    cameras:                               # how cameras stand; null unless given: not known
      front: {luma: {0: 120, 2: 8}, dark_share: 0.9, state: ok, is_missing: false}
    image_size_px: [1280, 960]             # of all cameras; without it `border_px` is unknown
    selection: false                       # true: the rule's sampling, budget and score apply as in the car
    fires_at_s: [2.0]                      # expected firings, each within one tick
    fires: {at_least: 1, at_most: 3}       # or, where chance decides, how many
    operands: {cause: brake}               # optional: what the first firing must say

A test asks what the condition finds, so sampling, budgets and scores are off unless `selection: true`. Values between
two ticks are latched as in the car: `{2.01: true, 2.02: false}` is a pulse that `rising` sees.

A test that fails tells its expected and its found times side by side, how the condition went over time, and the value
of every part of the condition, of `let` names and of operands at each difference.

Modules: `format` and `series` (what may be written), `scene` (a test at one instant), `running`, and for failed tests
`parts` (a condition's text as questions), `tracing` (their answers on every tick) and `difference` (told to people).
"""

from triggers.rules.testing.running import RuleTestReport, RuleTestResult, check_rule_tests, run_rule_tests

__all__ = ["RuleTestReport", "RuleTestResult", "check_rule_tests", "run_rule_tests"]
