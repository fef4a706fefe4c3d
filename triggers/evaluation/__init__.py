"""From expressions to values: one program for all rules, in which equal parts are computed once a tick."""
