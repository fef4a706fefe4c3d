"""File and wire formats that several stages share: located YAML, MCAP topics, video bitstreams, signal names."""
