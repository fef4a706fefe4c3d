"""Vehicle and controller inputs: what comes from outside, received only, and how it stood at an instant.

Sources (`recorded`, `can_bus`, `zeromq`) share the protocol in `sources`; `table` holds what they deliver. Nothing in
this package can write to a bus or a socket, and a test keeps it so.
"""
